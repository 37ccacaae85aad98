// base/log.h for the plugin: what the few places below it say goes to standard error, which the
// runtime keeps. Without the daemons' logger, which is a shared library.
#include "base/log.h"

#include <unistd.h>

namespace skiff::log {

void Write(Level level, std::string_view message, Fields fields) {
  if (level < Level::kWarning) return;
  std::string line = "skiff-cni: " + std::string(message);
  for (const Field& field : fields) line += " " + std::string(field.key()) + "=" + field.value();
  line += "\n";
  (void)!::write(STDERR_FILENO, line.data(), line.size());  // nobody is left to tell
}

}  // namespace skiff::log

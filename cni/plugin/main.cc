// skiff-cni: Skiff's pod network as a CNI plugin, for container runtimes that run such
// (docs/cni.md).
#include <unistd.h>

#include <csignal>
#include <cstdlib>

#include "base/os/files.h"
#include "cni/plugin/commands.h"

namespace {

std::string FromEnvironment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

// All of standard input, or what is more than any configuration.
std::string ReadInput() {
  std::string input;
  char buffer[16384];
  while (input.size() <= skiff::cni::kDocumentLimitBytes) {
    ssize_t got = ::read(STDIN_FILENO, buffer, sizeof buffer);
    if (got <= 0) break;
    input.append(buffer, static_cast<size_t>(got));
  }
  return input;
}

}  // namespace

int main() {
  ::signal(SIGPIPE, SIG_IGN);  // of programs that end without reading
  // Whoever starts it by hand is told what it is, and not left waiting.
  const std::string input = ::isatty(STDIN_FILENO) != 0 ? "" : ReadInput();
  const auto read = skiff::cni::ReadPluginRequest(FromEnvironment, input);
  const auto reply = read.request ? skiff::cni::RunPluginRequest(*read.request)
                                  : skiff::cni::RefusePluginRequest(read);
  if (!skiff::WriteAll(STDOUT_FILENO, reply.output).ok()) return 1;
  return reply.exit_code;
}

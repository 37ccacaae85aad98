// The stored desired state: whatever the file holds, opening it does not crash and what opens can
// be opened again.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "agent/desired/desired_state.h"
#include "base/os/files.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const auto* directory = new skiff::TempDir(skiff::TempDir::Make("desired").value());
  std::string path = directory->path() + "/desired";
  std::string content = "skiff-desired-1\n";
  content.append(reinterpret_cast<const char*>(data), size);
  if (!skiff::WriteFileAtomic(path, content, skiff::Durability::kNone).ok()) return 0;
  auto first = skiff::agent::DesiredState::Open(path);
  if (!first.ok()) return 0;
  auto second = skiff::agent::DesiredState::Open(path);
  if (!second.ok() || (*second)->resume_revision() != (*first)->resume_revision()) std::abort();
  return 0;
}

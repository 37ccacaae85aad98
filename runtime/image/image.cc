#include "runtime/image/image.h"

#include <sys/utsname.h>

#include <string_view>

namespace skiff::runtime {

Platform Platform::Host() {
  struct Row {
    std::string_view machine, architecture, variant;
  };
  // uname's names to GOARCH's; variants as containerd normalises them.
  constexpr Row kRows[] = {
      {"x86_64", "amd64", ""},    {"aarch64", "arm64", "v8"}, {"armv7l", "arm", "v7"},
      {"armv6l", "arm", "v6"},    {"i686", "386", ""},        {"ppc64le", "ppc64le", ""},
      {"riscv64", "riscv64", ""}, {"s390x", "s390x", ""},     {"loongarch64", "loong64", ""},
  };
  Platform platform;
  utsname name{};
  if (uname(&name) != 0) return platform;
  platform.architecture = name.machine;
  for (const Row& row : kRows) {
    if (row.machine == name.machine) {
      platform.architecture = row.architecture;
      platform.variant = row.variant;
    }
  }
  return platform;
}

}  // namespace skiff::runtime

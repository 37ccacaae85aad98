#include "runtime/linux/capabilities.h"

#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <string>

namespace skiff::runtime {
namespace {

// By number.
constexpr std::string_view kCapabilityNames[] = {"CHOWN",
                                                 "DAC_OVERRIDE",
                                                 "DAC_READ_SEARCH",
                                                 "FOWNER",
                                                 "FSETID",
                                                 "KILL",
                                                 "SETGID",
                                                 "SETUID",
                                                 "SETPCAP",
                                                 "LINUX_IMMUTABLE",
                                                 "NET_BIND_SERVICE",
                                                 "NET_BROADCAST",
                                                 "NET_ADMIN",
                                                 "NET_RAW",
                                                 "IPC_LOCK",
                                                 "IPC_OWNER",
                                                 "SYS_MODULE",
                                                 "SYS_RAWIO",
                                                 "SYS_CHROOT",
                                                 "SYS_PTRACE",
                                                 "SYS_PACCT",
                                                 "SYS_ADMIN",
                                                 "SYS_BOOT",
                                                 "SYS_NICE",
                                                 "SYS_RESOURCE",
                                                 "SYS_TIME",
                                                 "SYS_TTY_CONFIG",
                                                 "MKNOD",
                                                 "LEASE",
                                                 "AUDIT_WRITE",
                                                 "AUDIT_CONTROL",
                                                 "SETFCAP",
                                                 "MAC_OVERRIDE",
                                                 "MAC_ADMIN",
                                                 "SYSLOG",
                                                 "WAKE_ALARM",
                                                 "BLOCK_SUSPEND",
                                                 "AUDIT_READ",
                                                 "PERFMON",
                                                 "BPF",
                                                 "CHECKPOINT_RESTORE"};

}  // namespace

Result<int> CapabilityNumber(std::string_view name) {
  std::string upper(name);
  for (char& c : upper) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  std::string_view bare = upper;
  if (bare.starts_with("CAP_")) bare.remove_prefix(4);
  auto found = std::find(std::begin(kCapabilityNames), std::end(kCapabilityNames), bare);
  if (found == std::end(kCapabilityNames)) {
    return Error(Code::kInvalidArgument, "unknown capability \"" + std::string(name) + "\"");
  }
  return static_cast<int>(found - std::begin(kCapabilityNames));
}

std::string CapabilityName(int number) {
  if (number < 0 || number >= static_cast<int>(std::size(kCapabilityNames))) return {};
  return "CAP_" + std::string(kCapabilityNames[number]);
}

uint64_t AllCapabilities() {
  static const uint64_t all = [] {
    uint64_t bits = 0;
    for (int number = 0; number < 64 && ::prctl(PR_CAPBSET_READ, number) >= 0; ++number) {
      bits |= CapabilityBit(number);
    }
    return bits;
  }();
  return all;
}

uint64_t DefaultCapabilities() {
  uint64_t bits = 0;
  for (int number : {CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_FSETID, CAP_FOWNER, CAP_MKNOD, CAP_NET_RAW,
                     CAP_SETGID, CAP_SETUID, CAP_SETFCAP, CAP_SETPCAP, CAP_NET_BIND_SERVICE,
                     CAP_SYS_CHROOT, CAP_KILL, CAP_AUDIT_WRITE}) {
    bits |= CapabilityBit(number);
  }
  return bits;
}

Result<> LimitCapabilities(uint64_t keep) {
  for (int number = 0; number < 64; ++number) {
    if ((keep >> number & 1) != 0 || ::prctl(PR_CAPBSET_DROP, number) == 0) continue;
    if (errno == EINVAL) return {};  // the kernel has no more
    return Error::Sys(errno, "drop capability", std::to_string(number));
  }
  return {};
}

bool HasCapability(int number) {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2] = {};
  if (::syscall(SYS_capget, &header, data) != 0) return false;
  return (data[number / 32].effective >> (number % 32) & 1) != 0;
}

}  // namespace skiff::runtime

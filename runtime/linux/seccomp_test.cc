// Profiles are judged by what their filter does with system calls: a small interpreter of classic
// BPF stands in for the kernel.
#include "runtime/linux/seccomp.h"

#include <gtest/gtest.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/syscall.h>

#include <cerrno>
#include <cstring>

#include "runtime/linux/capabilities.h"

namespace skiff::runtime {
namespace {

#if defined(__x86_64__)
constexpr uint32_t kArchitecture = AUDIT_ARCH_X86_64;
#else
constexpr uint32_t kArchitecture = AUDIT_ARCH_AARCH64;
#endif

constexpr uint32_t kAllow = SECCOMP_RET_ALLOW;
constexpr uint32_t Errno(uint32_t number) { return SECCOMP_RET_ERRNO | number; }

uint32_t Judge(const std::string& filter, int number,
               std::initializer_list<uint64_t> arguments = {},
               uint32_t architecture = kArchitecture) {
  seccomp_data data{};
  data.nr = number;
  data.arch = architecture;
  std::copy(arguments.begin(), arguments.end(), data.args);
  std::vector<sock_filter> code(filter.size() / sizeof(sock_filter));
  std::memcpy(code.data(), filter.data(), code.size() * sizeof(sock_filter));
  uint32_t accumulator = 0;
  for (size_t at = 0; at < code.size(); ++at) {
    const sock_filter& step = code[at];
    auto jump = [&](bool taken) { at += taken ? step.jt : step.jf; };
    switch (step.code) {
      case BPF_LD | BPF_W | BPF_ABS:
        std::memcpy(&accumulator, reinterpret_cast<const char*>(&data) + step.k,
                    sizeof accumulator);
        break;
      case BPF_JMP | BPF_JEQ | BPF_K: jump(accumulator == step.k); break;
      case BPF_JMP | BPF_JGE | BPF_K: jump(accumulator >= step.k); break;
      case BPF_JMP | BPF_JGT | BPF_K: jump(accumulator > step.k); break;
      case BPF_JMP | BPF_JSET | BPF_K: jump((accumulator & step.k) != 0); break;
      case BPF_JMP | BPF_JA: at += step.k; break;
      case BPF_ALU | BPF_AND | BPF_K: accumulator &= step.k; break;
      case BPF_RET | BPF_K: return step.k;
      default: ADD_FAILURE() << "unknown instruction " << step.code; return 0;
    }
  }
  ADD_FAILURE() << "ran off the end";
  return 0;
}

std::string DefaultFilter(uint64_t capabilities) {
  return CompileSeccompFilter(DefaultSeccompProfile(capabilities)).value();
}

TEST(DefaultProfile, ForOrdinaryContainers) {
  std::string filter = DefaultFilter(DefaultCapabilities());
  for (int allowed : {SYS_read, SYS_execve, SYS_openat2, SYS_chroot, SYS_mknodat, SYS_ptrace,
                      SYS_landlock_create_ruleset}) {
    EXPECT_EQ(Judge(filter, allowed), kAllow) << allowed;
  }
  for (int refused :
       {SYS_mount, SYS_unshare, SYS_setns, SYS_bpf, SYS_keyctl, SYS_add_key, SYS_init_module,
        SYS_reboot, SYS_swapon, SYS_open_by_handle_at, SYS_userfaultfd, SYS_io_uring_setup,
        SYS_open_tree, SYS_perf_event_open, SYS_clock_settime, SYS_kexec_load}) {
    EXPECT_EQ(Judge(filter, refused), Errno(EPERM)) << refused;
  }
  EXPECT_EQ(Judge(filter, SYS_clone, {0x01200011}), kAllow);        // fork
  EXPECT_EQ(Judge(filter, SYS_clone, {0x3d0f00}), kAllow);          // a thread
  EXPECT_EQ(Judge(filter, SYS_clone, {0x10000000}), Errno(EPERM));  // CLONE_NEWUSER
  EXPECT_EQ(Judge(filter, SYS_clone3), Errno(ENOSYS));
  EXPECT_EQ(Judge(filter, SYS_personality, {0xffffffff}), kAllow);
  EXPECT_EQ(Judge(filter, SYS_personality, {0x0040000}), Errno(EPERM));  // ADDR_NO_RANDOMIZE
  EXPECT_EQ(Judge(filter, SYS_socket, {2}), kAllow);
  EXPECT_EQ(Judge(filter, SYS_socket, {40}), Errno(EPERM));  // AF_VSOCK
}

TEST(DefaultProfile, CapabilitiesUnlock) {
  std::string filter = DefaultFilter(DefaultCapabilities() | CapabilityBit(CAP_SYS_ADMIN));
  for (int allowed : {SYS_mount, SYS_unshare, SYS_clone3, SYS_bpf, SYS_setns, SYS_mount_setattr}) {
    EXPECT_EQ(Judge(filter, allowed), kAllow) << allowed;
  }
  EXPECT_EQ(Judge(filter, SYS_clone, {0x10000000}), kAllow);
  EXPECT_EQ(Judge(filter, SYS_reboot), Errno(EPERM));
  EXPECT_EQ(Judge(DefaultFilter(CapabilityBit(CAP_SYS_TIME)), SYS_clock_settime), kAllow);
  EXPECT_EQ(Judge(DefaultFilter(0), SYS_chroot), Errno(EPERM));
}

TEST(DefaultProfile, CallsThatAreYoungerThanItAreUnknownNotForbidden) {
  std::string filter = DefaultFilter(0);
  EXPECT_EQ(Judge(filter, 452), kAllow);         // fchmodat2
  EXPECT_EQ(Judge(filter, 459), Errno(ENOSYS));  // lsm_get_self_attr
  EXPECT_EQ(Judge(filter, 900), Errno(ENOSYS));
  EXPECT_EQ(Judge(filter, 335), Errno(EPERM));  // a hole in the table
}

#if defined(__x86_64__)
TEST(DefaultProfile, HoldsForThe32BitInterfaceToo) {
  std::string filter = DefaultFilter(DefaultCapabilities());
  EXPECT_EQ(Judge(filter, 3, {}, AUDIT_ARCH_I386), kAllow);         // read
  EXPECT_EQ(Judge(filter, 21, {}, AUDIT_ARCH_I386), Errno(EPERM));  // mount
  EXPECT_EQ(Judge(filter, 0x40000000, {}), kAllow);                 // read of x32
  EXPECT_EQ(Judge(filter, 0x40000000 | SYS_mount, {}), Errno(EPERM));
}
#endif

TEST(ProfileJson, RulesArgumentsAndConditions) {
  constexpr std::string_view kProfile = R"({
    "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38,
    "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]},
                {"architecture": "SCMP_ARCH_S390X", "subArchitectures": ["SCMP_ARCH_S390"]}],
    "syscalls": [
      {"names": ["read", "no_such_call"], "action": "SCMP_ACT_ALLOW"},
      {"names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
      {"names": ["write"], "action": "SCMP_ACT_ERRNO", "errnoRet": 5, "excludes": {"caps": ["CAP_SYS_ADMIN"]}},
      {"names": ["close"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "99.0"}},
      {"names": ["dup"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 7, "op": "SCMP_CMP_EQ"}]},
      {"names": ["fchmodat2"], "action": "SCMP_ACT_KILL_PROCESS"}
    ]})";
  std::string plain = CompileSeccompFilter(ParseSeccompProfile(kProfile, 0).value()).value();
  EXPECT_EQ(Judge(plain, SYS_read), kAllow);
  EXPECT_EQ(Judge(plain, SYS_mount), Errno(38));
  EXPECT_EQ(Judge(plain, SYS_write), Errno(5));
  EXPECT_EQ(Judge(plain, SYS_close), Errno(38));
  EXPECT_EQ(Judge(plain, SYS_dup, {7}), kAllow);
  EXPECT_EQ(Judge(plain, SYS_dup, {8}), Errno(38));
  EXPECT_EQ(Judge(plain, 452), SECCOMP_RET_KILL_PROCESS);
  uint64_t admin = CapabilityBit(CAP_SYS_ADMIN);
  std::string with = CompileSeccompFilter(ParseSeccompProfile(kProfile, admin).value()).value();
  EXPECT_EQ(Judge(with, SYS_mount), kAllow);
  EXPECT_EQ(Judge(with, SYS_write), Errno(38));
}

TEST(ProfileJson, BadOnesAreRefused) {
  for (
      std::string_view bad :
      {"", "{", "[]", "{}", R"({"defaultAction": 3})", R"({"defaultAction": "SCMP_ACT_NO"})",
       R"({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"action": "SCMP_ACT_ALLOW"}]})",
       R"({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": [1], "action": "SCMP_ACT_KILL"}]})",
       R"({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": 3})",
       R"({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_KILL",
            "args": [{"index": 9, "value": 1, "op": "SCMP_CMP_EQ"}]}]})",
       R"({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_KILL",
            "includes": {"caps": ["CAP_FLY"]}}]})"}) {
    auto parsed = ParseSeccompProfile(bad, 0);
    ASSERT_FALSE(parsed.ok()) << bad;
    EXPECT_EQ(parsed.error().code(), Code::kInvalidArgument) << bad;
  }
}

TEST(Capabilities, Names) {
  EXPECT_EQ(CapabilityNumber("CAP_NET_ADMIN").value(), CAP_NET_ADMIN);
  EXPECT_EQ(CapabilityNumber("net_admin").value(), CAP_NET_ADMIN);
  EXPECT_EQ(CapabilityNumber("CHECKPOINT_RESTORE").value(), CAP_CHECKPOINT_RESTORE);
  EXPECT_FALSE(CapabilityNumber("ALL").ok());
  EXPECT_EQ(DefaultCapabilities(), 0xa80425fbU);
}

}  // namespace
}  // namespace skiff::runtime

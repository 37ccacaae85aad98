#include "runtime/linux/seccomp.h"

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>

#include "base/os/files.h"
#include "runtime/wire/channel.h"

namespace skiff::runtime {
namespace {

struct ContextDeleter {
  void operator()(void* context) const { seccomp_release(context); }
};
using ContextPtr = std::unique_ptr<void, ContextDeleter>;

Error SeccompError(int code, const std::string& what) { return Error::Sys(-code, "seccomp", what); }

// System calls younger than the libseccomp of Debian 12; since 424 numbers are the same on all
// machines.
struct YoungCall {
  const char* name;
  uint32_t number;
};
constexpr YoungCall kYoungCalls[] = {
    {"cachestat", 451},         {"fchmodat2", 452},        {"map_shadow_stack", 453},
    {"futex_wake", 454},        {"futex_wait", 455},       {"futex_requeue", 456},
    {"statmount", 457},         {"listmount", 458},        {"lsm_get_self_attr", 459},
    {"lsm_set_self_attr", 460}, {"lsm_list_modules", 461}, {"mseal", 462},
    {"setxattrat", 463},        {"getxattrat", 464},       {"listxattrat", 465},
    {"removexattrat", 466},
};
constexpr uint32_t kFirstYoung = 451;

#if defined(__x86_64__)
constexpr uint32_t kNativeAudit = AUDIT_ARCH_X86_64;
#elif defined(__aarch64__)
constexpr uint32_t kNativeAudit = AUDIT_ARCH_AARCH64;
#else
#error "name this machine's audit architecture here"
#endif
constexpr uint32_t kX32Bit = 0x40000000;

// Before libseccomp's filter: young calls by the profile's rules, those that nobody knows yet by
// ENOSYS. Only for profiles that refuse what they do not name.
std::vector<sock_filter> Prologue(const SeccompProfile& profile) {
  if (profile.default_action.value == SCMP_ACT_ALLOW ||
      profile.default_action.value == SCMP_ACT_LOG) {
    return {};
  }
  std::map<uint32_t, uint32_t> actions;
  for (const SeccompRule& rule : profile.rules) {
    for (const YoungCall& call : kYoungCalls) {
      bool named = std::find(rule.names.begin(), rule.names.end(), call.name) != rule.names.end();
      if (named && rule.arguments.empty()) actions[call.number] = rule.action.value;
    }
  }
  std::vector<sock_filter> code;
  auto emit = [&](int operation, uint32_t value, uint8_t yes = 0, uint8_t no = 0) {
    code.push_back({static_cast<uint16_t>(operation), yes, no, value});
  };
  auto rest = static_cast<uint8_t>(2 * actions.size() + 1);
  emit(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, arch));
  emit(BPF_JMP | BPF_JEQ | BPF_K, kNativeAudit, 0, static_cast<uint8_t>(rest + 3));
  emit(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr));
  emit(BPF_JMP | BPF_JGE | BPF_K, kX32Bit, static_cast<uint8_t>(rest + 1), 0);
  emit(BPF_JMP | BPF_JGE | BPF_K, kFirstYoung, 0, rest);
  for (auto [number, action] : actions) {
    emit(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1);
    emit(BPF_RET | BPF_K, action);
  }
  emit(BPF_RET | BPF_K, SCMP_ACT_ERRNO(ENOSYS));
  return code;
}

Result<> AddRule(void* context, const SeccompProfile& profile, const SeccompRule& rule,
                 const std::string& name) {
  int number = seccomp_syscall_resolve_name(name.c_str());
  if (number == __NR_SCMP_ERROR) return {};  // of another machine, or younger than libseccomp
  if (rule.action == profile.default_action) return {};
  std::vector<scmp_arg_cmp> compares;
  bool repeated = false;
  for (const SeccompArgument& argument : rule.arguments) {
    repeated = repeated || std::any_of(compares.begin(), compares.end(), [&](const auto& other) {
                 return other.arg == argument.index;
               });
    compares.push_back({argument.index, static_cast<scmp_compare>(argument.compare), argument.value,
                        argument.value_two});
  }
  if (!repeated) {
    int code = seccomp_rule_add_array(context, rule.action.value, number,
                                      static_cast<unsigned>(compares.size()), compares.data());
    return code == 0 ? Result<>() : SeccompError(code, name);
  }
  for (const scmp_arg_cmp& compare : compares) {
    int code = seccomp_rule_add_array(context, rule.action.value, number, 1, &compare);
    if (code != 0) return SeccompError(code, name);
  }
  return {};
}

}  // namespace

Result<std::string> CompileSeccompFilter(const SeccompProfile& profile) {
  ContextPtr context(seccomp_init(profile.default_action.value));
  if (!context) return Error(Code::kInvalidArgument, "seccomp: invalid default action");
  for (uint32_t architecture : profile.architectures) {
    int code = seccomp_arch_add(context.get(), architecture);
    if (code != 0 && code != -EEXIST) return SeccompError(code, "architecture");
  }
  // A tree in place of a list: some 9 comparisons a call in place of 300.
  (void)seccomp_attr_set(context.get(), SCMP_FLTATR_CTL_OPTIMIZE, 2);  // since libseccomp 2.5
  for (const SeccompRule& rule : profile.rules) {
    for (const std::string& name : rule.names) {
      TRY(AddRule(context.get(), profile, rule, name));
    }
  }
  UniqueFd file(::memfd_create("seccomp", MFD_CLOEXEC));  // the library writes to descriptors
  if (!file) return Error::Sys(errno, "memfd_create", "seccomp");
  int code = seccomp_export_bpf(context.get(), file.get());
  if (code != 0) return SeccompError(code, "export");
  std::string filter = TRY(ReadSealed(file.get()));
  std::vector<sock_filter> prologue = Prologue(profile);
  filter.insert(0, reinterpret_cast<const char*>(prologue.data()),
                prologue.size() * sizeof(sock_filter));
  if (filter.size() / sizeof(sock_filter) > BPF_MAXINSNS) {
    return Error(Code::kInvalidArgument, "seccomp: the profile is too long");
  }
  return filter;
}

Result<std::string> SeccompFilterFor(const SeccompSpec& spec, uint64_t capabilities) {
  if (spec.kind == SeccompSpec::Kind::kUnconfined) return std::string();
  // Compiling takes milliseconds; a node has a handful of different filters.
  constexpr size_t kKept = 64;
  static std::mutex mutex;
  static std::map<std::pair<std::string, uint64_t>, std::string> kept;
  std::pair<std::string, uint64_t> key(spec.profile_json, capabilities);
  {
    std::lock_guard lock(mutex);
    auto found = kept.find(key);
    if (found != kept.end()) return found->second;
  }
  SeccompProfile profile = spec.kind == SeccompSpec::Kind::kDefault
                               ? DefaultSeccompProfile(capabilities)
                               : TRY(ParseSeccompProfile(spec.profile_json, capabilities));
  std::string filter = TRY(CompileSeccompFilter(profile));
  std::lock_guard lock(mutex);
  if (kept.size() >= kKept) kept.clear();
  kept.emplace(std::move(key), filter);
  return filter;
}

}  // namespace skiff::runtime

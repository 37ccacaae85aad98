#include "cri/security.h"

#include <sys/capability.h>

#include <algorithm>
#include <cctype>

#include "base/os/files.h"

namespace skiff::cri {
namespace {

constexpr size_t kMaxProfileBytes = 1 << 20;

// What Docker gives and every image expects.
constexpr cap_value_t kDefaultCapabilities[] = {
    CAP_CHOWN,   CAP_DAC_OVERRIDE, CAP_FSETID,      CAP_FOWNER,          CAP_MKNOD,
    CAP_NET_RAW, CAP_SETGID,       CAP_SETUID,      CAP_SETFCAP,         CAP_SETPCAP,
    CAP_KILL,    CAP_SYS_CHROOT,   CAP_AUDIT_WRITE, CAP_NET_BIND_SERVICE};

// For callers that leave the choice to the runtime (crictl); kubelet sends its own lists.
constexpr const char* kMaskedPaths[] = {
    "/proc/acpi",       "/proc/asound",      "/proc/interrupts",
    "/proc/kcore",      "/proc/keys",        "/proc/latency_stats",
    "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug",
    "/proc/scsi",       "/sys/firmware",     "/sys/devices/virtual/powercap"};
constexpr const char* kReadonlyPaths[] = {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys",
                                          "/proc/sysrq-trigger"};

uint64_t Bit(cap_value_t value) { return uint64_t{1} << value; }

uint64_t AllCapabilities() {
  const int count = cap_max_bits();
  return count >= 64 ? ~uint64_t{0} : (uint64_t{1} << count) - 1;
}

Result<uint64_t> CapabilityBits(const std::string& name) {
  std::string lower = name;
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  if (lower == "all") return AllCapabilities();
  if (!lower.starts_with("cap_")) lower = "cap_" + lower;
  cap_value_t value = 0;
  // libcap also takes numbers; names are what the API has.
  if (lower.find_first_of("0123456789") != std::string::npos ||
      cap_from_name(lower.c_str(), &value) != 0) {
    return Invalid("unknown capability \"" + name + "\"");
  }
  return Bit(value);
}

Result<runtime::SeccompSpec> PlanSeccomp(const api::LinuxContainerSecurityContext& security) {
  runtime::SeccompSpec spec;
  spec.kind = runtime::SeccompSpec::Kind::kUnconfined;
  if (security.privileged() || !security.has_seccomp()) return spec;  // as CRI and critest have it
  switch (security.seccomp().profile_type()) {
    case api::SecurityProfile::Unconfined: return spec;
    case api::SecurityProfile::RuntimeDefault:
      spec.kind = runtime::SeccompSpec::Kind::kDefault;
      return spec;
    case api::SecurityProfile::Localhost: {
      const std::string& path = security.seccomp().localhost_ref();
      if (!path.starts_with('/')) return Invalid("seccomp: the profile's path is not absolute");
      spec.kind = runtime::SeccompSpec::Kind::kProfile;
      auto profile = ReadFile(path, kMaxProfileBytes);
      if (!profile.ok()) return Invalid("seccomp profile: " + profile.error().message());
      spec.profile_json = *std::move(profile);
      return spec;
    }
    default: return Invalid("seccomp: unknown profile type");
  }
}

Result<runtime::UserSpec> PlanUser(const api::LinuxContainerSecurityContext& security,
                                   const runtime::ImageRunConfig& image) {
  const auto is_id = [](int64_t id) { return id >= 0 && id < UINT32_MAX; };
  runtime::UserSpec user;
  if (security.has_run_as_user()) {
    if (!security.run_as_username().empty()) {
      return Invalid("run_as_user and run_as_username exclude each other");
    }
    if (!is_id(security.run_as_user().value())) return Invalid("run_as_user: not a user id");
    user.user = std::to_string(security.run_as_user().value());
  } else {
    user.user = security.run_as_username();
  }
  if (security.has_run_as_group()) {
    if (user.user.empty()) return Invalid("run_as_group needs run_as_user or run_as_username");
    if (!is_id(security.run_as_group().value())) return Invalid("run_as_group: not a group id");
    user.group = std::to_string(security.run_as_group().value());
  }
  if (user.user.empty()) user.user = image.user;
  for (const int64_t group : security.supplemental_groups()) {
    if (!is_id(group)) return Invalid("supplemental_groups: not a group id");
    user.additional_gids.push_back(static_cast<uint32_t>(group));
  }
  switch (security.supplemental_groups_policy()) {
    case api::Merge: user.groups_from_image = true; break;
    case api::Strict: user.groups_from_image = false; break;
    default: return Invalid("supplemental_groups_policy: unknown policy");
  }
  return user;
}

constexpr std::string_view kLocalhost = "localhost/";

// A name as the kernel takes it: its list and its interface are lines.
Result<runtime::AppArmorSpec> AppArmorProfile(std::string_view name) {
  if (name.starts_with(kLocalhost)) name.remove_prefix(kLocalhost.size());
  const bool bad = name.empty() || name.size() > 255 ||
                   std::any_of(name.begin(), name.end(),
                               [](char c) { return std::iscntrl(static_cast<unsigned char>(c)); });
  if (bad) return Invalid("apparmor: not the name of a profile");
  return runtime::AppArmorSpec{runtime::AppArmorSpec::Kind::kProfile, std::string(name)};
}

// The default profile is not for privileged containers.
runtime::AppArmorSpec DefaultAppArmor(runtime::AppArmorSpec::Kind kind, bool privileged) {
  return {privileged ? runtime::AppArmorSpec::Kind::kUnconfined : kind, ""};
}

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"  // what kubelets before 1.30 send
Result<runtime::AppArmorSpec> PlanAppArmor(const api::LinuxContainerSecurityContext& security) {
  using Kind = runtime::AppArmorSpec::Kind;
  const bool privileged = security.privileged();
  if (security.has_apparmor()) {
    switch (security.apparmor().profile_type()) {
      case api::SecurityProfile::Unconfined: return runtime::AppArmorSpec{Kind::kUnconfined, ""};
      case api::SecurityProfile::RuntimeDefault: return DefaultAppArmor(Kind::kDefault, privileged);
      case api::SecurityProfile::Localhost:
        return AppArmorProfile(security.apparmor().localhost_ref());
      default: return Invalid("apparmor: unknown profile type");
    }
  }
  const std::string& old = security.apparmor_profile();
  if (old.empty()) return DefaultAppArmor(Kind::kNodeDefault, privileged);
  if (old == "unconfined") return runtime::AppArmorSpec{Kind::kUnconfined, ""};
  if (old == "runtime/default") return DefaultAppArmor(Kind::kDefault, privileged);
  if (old.starts_with(kLocalhost)) return AppArmorProfile(old);
  return Invalid("apparmor_profile: \"" + old + "\" is none");
}
#pragma GCC diagnostic pop

}  // namespace

Result<uint64_t> PlanCapabilities(const api::Capability& capability) {
  uint64_t bits = 0;
  for (const cap_value_t value : kDefaultCapabilities) bits |= Bit(value);
  uint64_t added = 0;
  uint64_t dropped = 0;
  bool drop_all = false;
  for (const std::string& name : capability.add_capabilities()) added |= TRY(CapabilityBits(name));
  for (const std::string& name : capability.drop_capabilities()) {
    const uint64_t some = TRY(CapabilityBits(name));
    drop_all = drop_all || some == AllCapabilities();
    dropped |= some;
  }
  // "drop ALL, add X" means X alone; "add ALL, drop X" all but X.
  if (drop_all) return added;
  return (bits | added) & ~dropped;
}

Result<> PlanSecurity(const api::LinuxContainerSecurityContext& security,
                      const api::PodSandboxConfig& sandbox, const runtime::ImageRunConfig& image,
                      runtime::ContainerSpec* spec) {
  if (security.privileged() && !sandbox.linux().security_context().privileged()) {
    return Invalid("a privileged container needs a privileged sandbox");
  }
  spec->privileged = security.privileged();
  spec->user = TRY(PlanUser(security, image));
  spec->seccomp = TRY(PlanSeccomp(security));
  spec->apparmor = TRY(PlanAppArmor(security));
  spec->no_new_privs = security.no_new_privs();
  uint64_t bits = AllCapabilities();
  if (!security.privileged()) bits = TRY(PlanCapabilities(security.capabilities()));
  uint64_t ambient = 0;
  for (const std::string& name : security.capabilities().add_ambient_capabilities()) {
    ambient |= TRY(CapabilityBits(name));
  }
  bits |= ambient;
  spec->capabilities = {.bounding = bits,
                        .effective = bits,
                        .permitted = bits,
                        .inheritable = ambient,
                        .ambient = ambient};
  if (security.privileged()) return {};
  spec->masked_paths.assign(security.masked_paths().begin(), security.masked_paths().end());
  spec->readonly_paths.assign(security.readonly_paths().begin(), security.readonly_paths().end());
  if (spec->masked_paths.empty() && spec->readonly_paths.empty()) {
    spec->masked_paths.assign(std::begin(kMaskedPaths), std::end(kMaskedPaths));
    spec->readonly_paths.assign(std::begin(kReadonlyPaths), std::end(kReadonlyPaths));
  }
  return {};
}

}  // namespace skiff::cri

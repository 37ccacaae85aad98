#include "agent/spec/security.h"

#include "agent/spec/shape.h"
#include "proto/cri/runtime/v1/api.pb.h"
#include "proto/k8s/core/v1/pod.pb.h"

namespace skiff::agent {
namespace {

namespace core = k8s::core::v1;
namespace cri = ::runtime::v1;

// What Kubernetes hides of /proc and /sys unless procMount says otherwise.
constexpr const char* kMaskedPaths[] = {
    "/proc/asound",      "/proc/acpi",          "/proc/interrupts", "/proc/kcore",
    "/proc/keys",        "/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats",
    "/proc/sched_debug", "/proc/scsi",          "/sys/firmware",    "/sys/devices/virtual/powercap",
};
constexpr const char* kReadonlyPaths[] = {
    "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger",
};

void FillNamespaces(const core::Pod& pod, cri::NamespaceOption* options) {
  const core::PodSpec& spec = pod.spec();
  options->set_network(spec.host_network() ? cri::NODE : cri::POD);
  options->set_ipc(spec.host_ipc() ? cri::NODE : cri::POD);
  options->set_pid(spec.host_pid()                  ? cri::NODE
                   : spec.share_process_namespace() ? cri::POD
                                                    : cri::CONTAINER);
}

void FillSeccomp(const core::SeccompProfile& profile, const NodeContext& node,
                 cri::SecurityProfile* out) {
  if (profile.type() == "RuntimeDefault") {
    out->set_profile_type(cri::SecurityProfile::RuntimeDefault);
  } else if (profile.type() == "Localhost") {
    out->set_profile_type(cri::SecurityProfile::Localhost);
    out->set_localhost_ref(node.state_dir + "/seccomp/" + profile.localhost_profile());
  } else {
    out->set_profile_type(cri::SecurityProfile::Unconfined);
  }
}

void FillSelinux(const core::SELinuxOptions& options, cri::SELinuxOption* out) {
  out->set_user(options.user());
  out->set_role(options.role());
  out->set_type(options.type());
  out->set_level(options.level());
}

// The groups every container of the pod is in.
template <class Context>
void FillGroups(const core::PodSecurityContext& pod, Context* out) {
  for (int64_t group : pod.supplemental_groups()) out->add_supplemental_groups(group);
  if (pod.has_fs_group()) out->add_supplemental_groups(pod.fs_group());
  if (pod.supplemental_groups_policy() == "Strict") {
    out->set_supplemental_groups_policy(cri::Strict);
  }
}

bool AnyPrivileged(const core::Pod& pod) {
  for (const auto* list : {&pod.spec().init_containers(), &pod.spec().containers()}) {
    for (const core::Container& container : *list) {
      if (container.security_context().privileged()) return true;
    }
  }
  return false;
}

Error NonRootError(const core::Pod& pod, const core::Container& container, std::string text) {
  return Error(Code::kInvalidArgument, std::move(text) + " (pod: \"" + FormatPod(pod) +
                                           "\", container: " + container.name() + ")");
}

Result<> CheckNonRoot(const core::Pod& pod, const core::Container& container,
                      const ImageInfo& image, const cri::LinuxContainerSecurityContext& security) {
  const auto& own = container.security_context();
  bool required = own.has_run_as_non_root() ? own.run_as_non_root()
                                            : pod.spec().security_context().run_as_non_root();
  if (!required) return {};
  bool from_spec = own.has_run_as_user() || pod.spec().security_context().has_run_as_user();
  if (from_spec) {
    if (security.run_as_user().value() != 0) return {};
    return NonRootError(pod, container, "container's runAsUser breaks non-root policy");
  }
  if (!image.username.empty()) {
    return NonRootError(pod, container,
                        "container has runAsNonRoot and image has non-numeric user (" +
                            image.username + "), cannot verify user is non-root");
  }
  if (image.uid.value_or(0) == 0) {
    return NonRootError(pod, container, "container has runAsNonRoot and image will run as root");
  }
  return {};
}

void FillUser(const core::Pod& pod, const core::Container& container, const ImageInfo& image,
              cri::LinuxContainerSecurityContext* out) {
  const auto& own = container.security_context();
  const auto& shared = pod.spec().security_context();
  if (own.has_run_as_user()) {
    out->mutable_run_as_user()->set_value(own.run_as_user());
  } else if (shared.has_run_as_user()) {
    out->mutable_run_as_user()->set_value(shared.run_as_user());
  } else if (image.uid) {
    out->mutable_run_as_user()->set_value(*image.uid);
  } else {
    out->set_run_as_username(image.username);
  }
  if (own.has_run_as_group()) {
    out->mutable_run_as_group()->set_value(own.run_as_group());
  } else if (shared.has_run_as_group()) {
    out->mutable_run_as_group()->set_value(shared.run_as_group());
  }
}

}  // namespace

Result<> FillSandboxSecurity(const core::Pod& pod, const NodeContext& node,
                             cri::LinuxSandboxSecurityContext* security) {
  const auto& shared = pod.spec().security_context();
  FillNamespaces(pod, security->mutable_namespace_options());
  security->set_privileged(AnyPrivileged(pod));
  if (shared.has_run_as_user()) {
    security->mutable_run_as_user()->set_value(shared.run_as_user());
    // CRI refuses a group without a user.
    if (shared.has_run_as_group()) {
      security->mutable_run_as_group()->set_value(shared.run_as_group());
    }
  }
  FillGroups(shared, security);
  if (shared.has_se_linux_options()) {
    FillSelinux(shared.se_linux_options(), security->mutable_selinux_options());
  }
  if (shared.has_seccomp_profile()) {
    FillSeccomp(shared.seccomp_profile(), node, security->mutable_seccomp());
  } else {
    // pause itself always gets the default profile.
    security->mutable_seccomp()->set_profile_type(cri::SecurityProfile::RuntimeDefault);
  }
  return {};
}

Result<> FillContainerSecurity(const core::Pod& pod, const core::Container& container,
                               const ImageInfo& image, const NodeContext& node,
                               cri::LinuxContainerSecurityContext* security) {
  const auto& own = container.security_context();
  const auto& shared = pod.spec().security_context();
  FillNamespaces(pod, security->mutable_namespace_options());
  security->set_privileged(own.privileged());
  security->set_readonly_rootfs(own.read_only_root_filesystem());
  security->set_no_new_privs(own.has_allow_privilege_escalation() &&
                             !own.allow_privilege_escalation());
  *security->mutable_capabilities()->mutable_add_capabilities() = own.capabilities().add();
  *security->mutable_capabilities()->mutable_drop_capabilities() = own.capabilities().drop();
  FillUser(pod, container, image, security);
  TRY(CheckNonRoot(pod, container, image, *security));
  FillGroups(shared, security);
  if (own.has_se_linux_options()) {
    FillSelinux(own.se_linux_options(), security->mutable_selinux_options());
  } else if (shared.has_se_linux_options()) {
    FillSelinux(shared.se_linux_options(), security->mutable_selinux_options());
  }
  if (own.has_seccomp_profile() || shared.has_seccomp_profile()) {
    FillSeccomp(own.has_seccomp_profile() ? own.seccomp_profile() : shared.seccomp_profile(), node,
                security->mutable_seccomp());
  } else {
    security->mutable_seccomp()->set_profile_type(cri::SecurityProfile::Unconfined);
  }
  const auto& apparmor =
      own.has_app_armor_profile() ? own.app_armor_profile() : shared.app_armor_profile();
  if (apparmor.type() == "RuntimeDefault") {
    security->mutable_apparmor()->set_profile_type(cri::SecurityProfile::RuntimeDefault);
  } else if (apparmor.type() == "Unconfined") {
    security->mutable_apparmor()->set_profile_type(cri::SecurityProfile::Unconfined);
  } else if (apparmor.type() == "Localhost") {
    security->mutable_apparmor()->set_profile_type(cri::SecurityProfile::Localhost);
    security->mutable_apparmor()->set_localhost_ref(apparmor.localhost_profile());
  }
  if (own.proc_mount() != "Unmasked") {
    for (const char* path : kMaskedPaths) security->add_masked_paths(path);
    for (const char* path : kReadonlyPaths) security->add_readonly_paths(path);
  }
  return {};
}

}  // namespace skiff::agent

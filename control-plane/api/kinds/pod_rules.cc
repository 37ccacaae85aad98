// Validation of pods and pod templates.
#include "control-plane/api/kinds/pod_rules.h"

#include <algorithm>

#include "control-plane/api/kinds/label_rules.h"
#include "control-plane/api/kinds/spec_generation.h"
#include "proto/k8s/core/v1/pod.pb.h"
#include "proto/k8s/meta/v1/object.pb.h"

namespace skiff::cp {
namespace {

namespace core = k8s::core::v1;

constexpr int64_t kMaxSeconds = 2147483647;

void ValidateDns(const core::PodSpec& spec, const FieldPath& path, FieldErrors& errors) {
  CheckOneOf(spec.dns_policy(), {"ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"},
             path.Child("dnsPolicy"), errors);
  const core::PodDNSConfig& config = spec.dns_config();
  FieldPath at = path.Child("dnsConfig");
  if (spec.dns_policy() == "None") {
    if (!spec.has_dns_config()) {
      errors.Required(at, "must provide `dnsConfig` when `dnsPolicy` is None");
    } else if (config.nameservers().empty()) {
      errors.Required(at.Child("nameservers"),
                      "must provide at least one DNS nameserver when `dnsPolicy` is None");
    }
  }
  if (config.nameservers_size() > 3) {
    errors.Invalid(at.Child("nameservers"), config.nameservers_size(),
                   "must not have more than 3 nameservers");
  }
  for (int i = 0; i < config.nameservers_size(); ++i) {
    if (IsIpAddress(config.nameservers(i))) continue;
    errors.Invalid(ElementAt(at, "nameservers", i), config.nameservers(i),
                   "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)");
  }
}

void CheckOptionalName(const std::string& name, codec::Complaints (*check)(std::string_view),
                       const FieldPath& path, FieldErrors& errors) {
  if (!name.empty()) AddInvalid(check(name), path, name, errors);
}

void ValidateNames(const core::PodSpec& spec, const FieldPath& path, FieldErrors& errors) {
  CheckOptionalName(spec.service_account_name(), &codec::CheckDns1123Subdomain,
                    path.Child("serviceAccountName"), errors);
  CheckOptionalName(spec.node_name(), &codec::CheckDns1123Subdomain, path.Child("nodeName"),
                    errors);
  CheckOptionalName(spec.hostname(), &codec::CheckDns1123Label, path.Child("hostname"), errors);
  CheckOptionalName(spec.subdomain(), &codec::CheckDns1123Label, path.Child("subdomain"), errors);
  CheckOptionalName(spec.priority_class_name(), &codec::CheckDns1123Subdomain,
                    path.Child("priorityClassName"), errors);
  CheckOptionalName(spec.runtime_class_name(), &codec::CheckDns1123Subdomain,
                    path.Child("runtimeClassName"), errors);
  CheckOptionalName(spec.scheduler_name(), &codec::CheckQualifiedName, path.Child("schedulerName"),
                    errors);
  for (int i = 0; i < spec.host_aliases_size(); ++i) {
    const core::HostAlias& alias = spec.host_aliases(i);
    FieldPath at = ElementAt(path, "hostAliases", i);
    if (!IsIpAddress(alias.ip())) {
      errors.Invalid(at.Child("ip"), alias.ip(),
                     "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)");
    }
    for (int k = 0; k < alias.hostnames_size(); ++k) {
      AddInvalid(codec::CheckDns1123Subdomain(alias.hostnames(k)), ElementAt(at, "hostnames", k),
                 alias.hostnames(k), errors);
    }
  }
}

void ValidateSharing(const core::PodSpec& spec, const FieldPath& path, FieldErrors& errors) {
  if (spec.share_process_namespace() && spec.host_pid()) {
    errors.Invalid(path.Child("shareProcessNamespace"), true,
                   "ShareProcessNamespace and HostPID cannot both be enabled");
  }
  if (!spec.host_network()) return;
  for (int c = 0; c < spec.containers_size(); ++c) {
    for (int i = 0; i < spec.containers(c).ports_size(); ++i) {
      const core::ContainerPort& port = spec.containers(c).ports(i);
      if (port.host_port() != port.container_port() && port.host_port() != 0) {
        errors.Invalid(
            ElementAt(ElementAt(path, "containers", c), "ports", i).Child("containerPort"),
            port.container_port(), "must match `hostPort` when `hostNetwork` is true");
      }
    }
  }
}

// As upstream: a pod with users of its own shares no other namespace with the node.
void ValidateHostUsers(const core::PodSpec& spec, const FieldPath& path, FieldErrors& errors) {
  if (!spec.has_host_users() || spec.host_users()) return;
  constexpr const char* kWhy = "when `hostUsers` is false";
  if (spec.host_network()) errors.Forbidden(path.Child("hostNetwork"), kWhy);
  if (spec.host_pid()) errors.Forbidden(path.Child("HostPID"), kWhy);
  if (spec.host_ipc()) errors.Forbidden(path.Child("HostIPC"), kWhy);
}

void ValidateTimes(const core::PodSpec& spec, const FieldPath& path, FieldErrors& errors) {
  if (spec.has_active_deadline_seconds() &&
      (spec.active_deadline_seconds() < 1 || spec.active_deadline_seconds() > kMaxSeconds)) {
    errors.Invalid(path.Child("activeDeadlineSeconds"), spec.active_deadline_seconds(),
                   "must be between 1 and 2147483647, inclusive");
  }
  if (spec.termination_grace_period_seconds() < 0) {
    errors.Invalid(path.Child("terminationGracePeriodSeconds"),
                   spec.termination_grace_period_seconds(), "must be greater than or equal to 0");
  }
}

// ---- updates ----

// The new pod with what may change taken back to what it was.
core::Pod Unchanged(const core::Pod& pod, const core::Pod& old) {
  core::Pod munged = pod;
  core::PodSpec& spec = *munged.mutable_spec();
  const core::PodSpec& before = old.spec();
  for (int i = 0; i < std::min(spec.containers_size(), before.containers_size()); ++i) {
    spec.mutable_containers(i)->set_image(before.containers(i).image());
  }
  for (int i = 0; i < std::min(spec.init_containers_size(), before.init_containers_size()); ++i) {
    spec.mutable_init_containers(i)->set_image(before.init_containers(i).image());
  }
  if (before.has_active_deadline_seconds()) {
    spec.set_active_deadline_seconds(before.active_deadline_seconds());
  } else {
    spec.clear_active_deadline_seconds();
  }
  *spec.mutable_tolerations() = before.tolerations();
  // Gates may be taken away; that none is added is checked apart.
  *spec.mutable_scheduling_gates() = before.scheduling_gates();
  return munged;
}

void ValidateTolerationUpdate(const core::Pod& pod, const core::Pod& old, FieldErrors& errors) {
  for (const auto& was : old.spec().tolerations()) {
    const auto& now = pod.spec().tolerations();
    bool kept = std::any_of(now.begin(), now.end(),
                            [&](const auto& toleration) { return SameMessage(toleration, was); });
    if (kept) continue;
    errors.Forbidden(FieldPath("spec").Child("tolerations"),
                     "existing toleration can not be modified except its tolerationSeconds");
    return;
  }
}

void ValidateGateUpdate(const core::Pod& pod, const core::Pod& old, FieldErrors& errors) {
  for (int i = 0; i < pod.spec().scheduling_gates_size(); ++i) {
    const auto& before = old.spec().scheduling_gates();
    const std::string& name = pod.spec().scheduling_gates(i).name();
    bool known = std::any_of(before.begin(), before.end(),
                             [&](const auto& gate) { return gate.name() == name; });
    if (!known) {
      errors.Forbidden(ElementAt(FieldPath("spec"), "schedulingGates", i),
                       "only deletion is allowed, but found new scheduling gate '" + name + "'");
    }
  }
}

void ValidateDeadlineUpdate(const core::Pod& pod, const core::Pod& old, FieldErrors& errors) {
  FieldPath path = FieldPath("spec").Child("activeDeadlineSeconds");
  if (!old.spec().has_active_deadline_seconds()) return;
  if (!pod.spec().has_active_deadline_seconds()) {
    errors.Invalid(path, "", "must not update from a positive integer to nil value");
  } else if (pod.spec().active_deadline_seconds() > old.spec().active_deadline_seconds()) {
    errors.Invalid(path, pod.spec().active_deadline_seconds(),
                   "must be less than or equal to previous value");
  }
}

}  // namespace

void ValidateToleration(const core::Toleration& toleration, const FieldPath& path,
                        FieldErrors& errors) {
  const std::string& op = toleration.operator_();
  if (!toleration.key().empty()) CheckLabelKey(toleration.key(), path.Child("key"), errors);
  if (toleration.key().empty() && op != "Exists") {
    errors.Invalid(path.Child("operator"), op,
                   "operator must be Exists when `key` is empty, which means \"match all values "
                   "and all keys\"");
  }
  if (toleration.has_toleration_seconds() && toleration.effect() != "NoExecute") {
    errors.Invalid(path.Child("effect"), toleration.effect(),
                   "effect must be 'NoExecute' when `tolerationSeconds` is set");
  }
  if (op.empty() || op == "Equal") {
    AddInvalid(codec::CheckLabelValue(toleration.value()), path.Child("operator"),
               toleration.value(), errors);
  } else if (op == "Exists") {
    if (!toleration.value().empty()) {
      errors.Invalid(path.Child("operator"), toleration.value(),
                     "value must be empty when `operator` is 'Exists'");
    }
  } else {
    errors.NotSupported(path.Child("operator"), op, {"Equal", "Exists"});
  }
  CheckTaintEffect(toleration.effect(), /*allow_empty=*/true, path.Child("effect"), errors);
}

void ValidatePodSpec(const core::PodSpec& spec, const FieldPath& path, FieldErrors& errors) {
  ValidateVolumes(spec, path, errors);
  ValidateContainers(spec, path, errors);
  CheckOneOf(spec.restart_policy(), {"Always", "OnFailure", "Never"}, path.Child("restartPolicy"),
             errors);
  ValidateDns(spec, path, errors);
  CheckLabels(spec.node_selector(), path.Child("nodeSelector"), errors);
  if (!spec.overhead().empty()) {
    core::ResourceRequirements overhead;  // upstream takes the amounts for limits, and says so
    *overhead.mutable_limits() = spec.overhead();
    ValidateResources(overhead, path.Child("overhead"), errors);
  }
  ValidateSharing(spec, path, errors);
  ValidateHostUsers(spec, path, errors);
  ValidateNames(spec, path, errors);
  ValidateTimes(spec, path, errors);
  for (int i = 0; i < spec.tolerations_size(); ++i) {
    ValidateToleration(spec.tolerations(i), ElementAt(path, "tolerations", i), errors);
  }
  if (spec.security_context().has_app_armor_profile()) {
    ValidateAppArmor(spec.security_context().app_armor_profile(),
                     path.Child("securityContext").Child("appArmorProfile"), errors);
  }
  ValidatePlacement(spec, path, errors);
}

void ValidatePod(const core::Pod& pod, FieldErrors& errors) {
  ValidateAppArmorAnnotations(pod.metadata(), pod.spec(),
                              FieldPath("metadata").Child("annotations"), errors);
  ValidatePodSpec(pod.spec(), FieldPath("spec"), errors);
  ValidateAppArmorAgreement(pod, errors);
}

void ValidatePodTemplate(const core::PodTemplateSpec& pod_template, const FieldPath& path,
                         FieldErrors& errors) {
  CheckLabels(pod_template.metadata().labels(), path.Child("metadata").Child("labels"), errors);
  for (const auto& [key, value] : pod_template.metadata().annotations()) {
    CheckLabelKey(key, path.Child("metadata").Child("annotations"), errors);
  }
  ValidateAppArmorAnnotations(pod_template.metadata(), pod_template.spec(),
                              path.Child("metadata").Child("annotations"), errors);
  ValidatePodSpec(pod_template.spec(), path.Child("spec"), errors);
}

void ValidatePodUpdate(const core::Pod& pod, const core::Pod& old, FieldErrors& errors) {
  ValidatePodSpec(pod.spec(), FieldPath("spec"), errors);
  if (pod.spec().containers_size() != old.spec().containers_size()) {
    errors.Forbidden(FieldPath("spec").Child("containers"),
                     "pod updates may not add or remove containers");
    return;
  }
  ValidateDeadlineUpdate(pod, old, errors);
  ValidateTolerationUpdate(pod, old, errors);
  ValidateGateUpdate(pod, old, errors);
  ValidateAppArmorUpdate(pod, old, errors);
  if (!SameMessage(Unchanged(pod, old).spec(), old.spec())) {
    errors.Forbidden(
        FieldPath("spec"),
        "pod updates may not change fields other than `spec.containers[*].image`,"
        "`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only "
        "additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be "
        "set to 1 if it was previously negative)");
  }
}

}  // namespace skiff::cp

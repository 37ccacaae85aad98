// Validation of containers: names, images, ports, environment, probes, resources, mounts.
#include <algorithm>
#include <map>
#include <set>

#include "control-plane/api/kinds/config_keys.h"
#include "control-plane/api/kinds/label_rules.h"
#include "control-plane/api/kinds/pod_rules.h"
#include "proto/codec/quantity.h"
#include "proto/k8s/core/v1/pod.pb.h"
#include "proto/k8s/intstr/int_or_string.pb.h"
#include "proto/k8s/resource/quantity.pb.h"

namespace skiff::cp {
namespace {

namespace core = k8s::core::v1;

using Amounts = google::protobuf::Map<std::string, k8s::resource::Quantity>;

void ValidatePorts(const core::Container& container, const FieldPath& path, FieldErrors& errors) {
  std::set<std::string> names;
  for (int i = 0; i < container.ports_size(); ++i) {
    const core::ContainerPort& port = container.ports(i);
    FieldPath at = ElementAt(path, "ports", i);
    if (!port.name().empty()) {
      codec::Complaints complaints = CheckPortName(port.name());
      AddInvalid(complaints, at.Child("name"), port.name(), errors);
      if (complaints.empty() && !names.insert(port.name()).second) {
        errors.Duplicate(at.Child("name"), port.name());
      }
    }
    if (port.container_port() == 0) {
      errors.Required(at.Child("containerPort"));
    } else {
      CheckPortNumber(port.container_port(), at.Child("containerPort"), errors);
    }
    if (port.host_port() != 0) CheckPortNumber(port.host_port(), at.Child("hostPort"), errors);
    CheckOneOf(port.protocol(), {"SCTP", "TCP", "UDP"}, at.Child("protocol"), errors);
    if (!port.host_ip().empty() && !IsIpAddress(port.host_ip())) {
      errors.Invalid(at.Child("hostIP"), port.host_ip(),
                     "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)");
    }
  }
}

const std::vector<std::string>& DownwardFields() {
  static const auto& fields = *new std::vector<std::string>{"metadata.name",
                                                            "metadata.namespace",
                                                            "metadata.uid",
                                                            "spec.nodeName",
                                                            "spec.serviceAccountName",
                                                            "status.hostIP",
                                                            "status.hostIPs",
                                                            "status.podIP",
                                                            "status.podIPs"};
  return fields;
}

void ValidateFieldRef(const core::ObjectFieldSelector& ref, const FieldPath& path,
                      FieldErrors& errors) {
  const std::string& field = ref.field_path();
  if (field.empty()) {
    errors.Required(path.Child("fieldPath"));
    return;
  }
  bool subscript =
      (field.starts_with("metadata.labels['") || field.starts_with("metadata.annotations['")) &&
      field.ends_with("']");
  if (!subscript) CheckOneOf(field, DownwardFields(), path.Child("fieldPath"), errors);
}

void ValidateResourceRef(const core::ResourceFieldSelector& ref, const FieldPath& path,
                         FieldErrors& errors) {
  if (ref.resource().starts_with("limits.hugepages-") ||
      ref.resource().starts_with("requests.hugepages-")) {
    return;
  }
  CheckOneOf(ref.resource(),
             {"limits.cpu", "limits.ephemeral-storage", "limits.memory", "requests.cpu",
              "requests.ephemeral-storage", "requests.memory"},
             path.Child("resource"), errors);
}

template <class Selector>
void ValidateKeyRef(const Selector& ref, const FieldPath& path, FieldErrors& errors) {
  if (ref.local_object_reference().name().empty()) errors.Required(path.Child("name"));
  if (ref.key().empty()) {
    errors.Required(path.Child("key"));
  } else {
    AddInvalid(CheckConfigKey(ref.key()), path.Child("key"), ref.key(), errors);
  }
}

void ValidateEnvSource(const core::EnvVar& env, const FieldPath& path, FieldErrors& errors) {
  const core::EnvVarSource& source = env.value_from();
  int sources = 0;
  if (source.has_field_ref()) {
    ++sources;
    ValidateFieldRef(source.field_ref(), path.Child("fieldRef"), errors);
  }
  if (source.has_resource_field_ref()) {
    ++sources;
    ValidateResourceRef(source.resource_field_ref(), path.Child("resourceFieldRef"), errors);
  }
  if (source.has_config_map_key_ref()) {
    ++sources;
    ValidateKeyRef(source.config_map_key_ref(), path.Child("configMapKeyRef"), errors);
  }
  if (source.has_secret_key_ref()) {
    ++sources;
    ValidateKeyRef(source.secret_key_ref(), path.Child("secretKeyRef"), errors);
  }
  if (source.has_file_key_ref()) ++sources;
  if (sources == 0) {
    errors.Invalid(path, "",
                   "must specify one of: `fieldRef`, `resourceFieldRef`, "
                   "`configMapKeyRef` or `secretKeyRef`");
  } else if (!env.value().empty()) {
    errors.Invalid(path, "", "may not be specified when `value` is not empty");
  } else if (sources > 1) {
    errors.Invalid(path, "", "may not have more than one field specified at a time");
  }
}

void ValidateEnv(const core::Container& container, const FieldPath& path, FieldErrors& errors) {
  for (int i = 0; i < container.env_size(); ++i) {
    const core::EnvVar& env = container.env(i);
    FieldPath at = ElementAt(path, "env", i);
    if (env.name().empty()) {
      errors.Required(at.Child("name"));
    } else {
      AddInvalid(CheckEnvVarName(env.name()), at.Child("name"), env.name(), errors);
    }
    if (env.has_value_from()) ValidateEnvSource(env, at.Child("valueFrom"), errors);
  }
  for (int i = 0; i < container.env_from_size(); ++i) {
    const core::EnvFromSource& from = container.env_from(i);
    FieldPath at = ElementAt(path, "envFrom", i);
    if (!from.prefix().empty()) {
      AddInvalid(CheckEnvVarName(from.prefix()), at.Child("prefix"), from.prefix(), errors);
    }
    if (from.has_config_map_ref() && from.has_secret_ref()) {
      errors.Invalid(at, "", "may not have more than one field specified at a time");
    } else if (!from.has_config_map_ref() && !from.has_secret_ref()) {
      errors.Invalid(at, "", "must specify one of: `configMapRef` or `secretRef`");
    }
    if (from.has_config_map_ref() &&
        from.config_map_ref().local_object_reference().name().empty()) {
      errors.Required(at.Child("configMapRef").Child("name"));
    }
    if (from.has_secret_ref() && from.secret_ref().local_object_reference().name().empty()) {
      errors.Required(at.Child("secretRef").Child("name"));
    }
  }
}

void ValidateHttpGet(const core::HTTPGetAction& get, const FieldPath& path, FieldErrors& errors) {
  if (get.path().empty()) errors.Required(path.Child("path"));
  CheckPortReference(get.port(), path.Child("port"), errors);
  CheckOneOf(get.scheme(), {"HTTP", "HTTPS"}, path.Child("scheme"), errors);
  for (int i = 0; i < get.http_headers_size(); ++i) {
    if (get.http_headers(i).name().empty()) {
      errors.Required(ElementAt(path, "httpHeaders", i).Child("name"));
    }
  }
}

// Exactly one way of asking. Probe and lifecycle handlers share most of them.
template <class Handler>
void ValidateHandler(const Handler& handler, int others, const FieldPath& path,
                     FieldErrors& errors) {
  int count = others;
  auto one_of = [&](std::string_view name) {
    if (++count > 1) errors.Forbidden(path.Child(name), "may not specify more than 1 handler type");
    return count == 1;
  };
  if (handler.has_exec() && one_of("exec") && handler.exec().command().empty()) {
    errors.Required(path.Child("exec").Child("command"));
  }
  if (handler.has_http_get() && one_of("httpGet")) {
    ValidateHttpGet(handler.http_get(), path.Child("httpGet"), errors);
  }
  if (handler.has_tcp_socket() && one_of("tcpSocket")) {
    CheckPortReference(handler.tcp_socket().port(), path.Child("tcpSocket").Child("port"), errors);
  }
  if (count == 0) errors.Required(path, "must specify a handler type");
}

void ValidateProbe(const core::Probe& probe, bool liveness, const FieldPath& path,
                   FieldErrors& errors) {
  if (probe.handler().has_grpc()) {
    CheckPortNumber(probe.handler().grpc().port(), path.Child("grpc").Child("port"), errors);
  }
  ValidateHandler(probe.handler(), probe.handler().has_grpc() ? 1 : 0, path, errors);
  CheckNonNegative(probe.initial_delay_seconds(), path.Child("initialDelaySeconds"), errors);
  CheckNonNegative(probe.timeout_seconds(), path.Child("timeoutSeconds"), errors);
  CheckNonNegative(probe.period_seconds(), path.Child("periodSeconds"), errors);
  CheckNonNegative(probe.success_threshold(), path.Child("successThreshold"), errors);
  CheckNonNegative(probe.failure_threshold(), path.Child("failureThreshold"), errors);
  if (probe.has_termination_grace_period_seconds() &&
      probe.termination_grace_period_seconds() <= 0) {
    errors.Invalid(path.Child("terminationGracePeriodSeconds"),
                   probe.termination_grace_period_seconds(), "must be greater than 0");
  }
  if (liveness && probe.success_threshold() != 1) {
    errors.Invalid(path.Child("successThreshold"), probe.success_threshold(), "must be 1");
  }
}

void ValidateProbes(const core::Container& container, const FieldPath& path, FieldErrors& errors) {
  if (container.has_liveness_probe()) {
    ValidateProbe(container.liveness_probe(), true, path.Child("livenessProbe"), errors);
  }
  if (container.has_readiness_probe()) {
    ValidateProbe(container.readiness_probe(), false, path.Child("readinessProbe"), errors);
    if (container.readiness_probe().has_termination_grace_period_seconds()) {
      errors.Invalid(path.Child("readinessProbe").Child("terminationGracePeriodSeconds"),
                     container.readiness_probe().termination_grace_period_seconds(),
                     "must not be set for readinessProbes");
    }
  }
  if (container.has_startup_probe()) {
    ValidateProbe(container.startup_probe(), true, path.Child("startupProbe"), errors);
  }
  if (!container.has_lifecycle()) return;
  const core::Lifecycle& lifecycle = container.lifecycle();
  FieldPath at = path.Child("lifecycle");
  for (auto [handler, name] :
       {std::pair(lifecycle.has_post_start() ? &lifecycle.post_start() : nullptr, "postStart"),
        std::pair(lifecycle.has_pre_stop() ? &lifecycle.pre_stop() : nullptr, "preStop")}) {
    if (handler != nullptr) {
      ValidateHandler(*handler, handler->has_sleep() ? 1 : 0, at.Child(name), errors);
    }
  }
}

bool IsStandardResource(const std::string& name) {
  return name == "cpu" || name == "memory" || name == "ephemeral-storage" ||
         name.starts_with("hugepages-");
}

void ValidateAmounts(const Amounts& amounts, const FieldPath& path, FieldErrors& errors) {
  std::map<std::string, std::string> sorted;
  for (const auto& [name, amount] : amounts) sorted[name] = amount.string();
  for (const auto& [name, text] : sorted) {
    FieldPath at = path.Key(name);
    CheckLabelKey(name, at, errors);
    if (!IsStandardResource(name) && name.find('/') == std::string::npos) {
      errors.Invalid(at, name, "must be a standard resource type or fully qualified");
    }
    auto amount = codec::Quantity::Parse(text);
    if (!amount) {
      errors.Invalid(at, text, amount.error().message());
    } else if (amount->IsNegative()) {
      errors.Invalid(at, text, "must be greater than or equal to 0");
    } else if (name != "cpu" && !IsStandardResource(name) && !amount->IsWhole()) {
      errors.Invalid(at, text, "must be an integer");
    }
  }
}

void ValidateMounts(const core::Container& container, const std::set<std::string>& volumes,
                    const FieldPath& path, FieldErrors& errors) {
  std::set<std::string> points;
  for (int i = 0; i < container.volume_mounts_size(); ++i) {
    const core::VolumeMount& mount = container.volume_mounts(i);
    FieldPath at = ElementAt(path, "volumeMounts", i);
    if (mount.name().empty()) {
      errors.Required(at.Child("name"));
    } else if (!volumes.contains(mount.name())) {
      errors.NotFound(at.Child("name"), mount.name());
    }
    if (mount.mount_path().empty()) {
      errors.Required(at.Child("mountPath"));
    } else if (!points.insert(mount.mount_path()).second) {
      errors.Invalid(at.Child("mountPath"), mount.mount_path(), "must be unique");
    }
    if (!mount.sub_path().empty() && !mount.sub_path_expr().empty()) {
      errors.Invalid(at.Child("subPathExpr"), mount.sub_path_expr(),
                     "subPathExpr and subPath are mutually exclusive");
    }
    for (auto [text, name] : {std::pair(&mount.sub_path(), "subPath"),
                              std::pair(&mount.sub_path_expr(), "subPathExpr")}) {
      if (text->starts_with('/')) {
        errors.Invalid(at.Child(name), *text, "must be a relative path");
      }
      // Also as "a/../b": nothing above the volume may be reached.
      if (("/" + *text + "/").find("/../") != std::string::npos) {
        errors.Invalid(at.Child(name), *text, "must not contain '..'");
      }
    }
    if (mount.has_mount_propagation()) {
      CheckOneOf(mount.mount_propagation(), {"Bidirectional", "HostToContainer", "None"},
                 at.Child("mountPropagation"), errors);
      if (mount.mount_propagation() == "Bidirectional" &&
          !container.security_context().privileged()) {
        errors.Forbidden(at.Child("mountPropagation"),
                         "Bidirectional mount propagation is available only to privileged "
                         "containers");
      }
    }
  }
}

void ValidateSecurityContext(const core::SecurityContext& context, const FieldPath& path,
                             FieldErrors& errors) {
  constexpr int64_t kMaxId = 2147483647;
  auto check_id = [&](bool has, int64_t id, std::string_view name) {
    if (has && (id < 0 || id > kMaxId)) {
      errors.Invalid(path.Child(name), id, "must be between 0 and 2147483647, inclusive");
    }
  };
  check_id(context.has_run_as_user(), context.run_as_user(), "runAsUser");
  check_id(context.has_run_as_group(), context.run_as_group(), "runAsGroup");
  if (context.has_allow_privilege_escalation() && !context.allow_privilege_escalation()) {
    if (context.privileged()) {
      errors.Invalid(path, "",
                     "cannot set `allowPrivilegeEscalation` to false and `privileged` to true");
    }
    for (const std::string& name : context.capabilities().add()) {
      if (name != "CAP_SYS_ADMIN" && name != "SYS_ADMIN") continue;
      errors.Invalid(path, "",
                     "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` "
                     "CAP_SYS_ADMIN");
    }
  }
  if (context.has_seccomp_profile()) {
    const core::SeccompProfile& profile = context.seccomp_profile();
    FieldPath at = path.Child("seccompProfile");
    CheckOneOf(profile.type(), {"Localhost", "RuntimeDefault", "Unconfined"}, at.Child("type"),
               errors);
    if (profile.type() == "Localhost" && profile.localhost_profile().empty()) {
      errors.Required(at.Child("localhostProfile"), "must be set when seccomp type is Localhost");
    }
  }
  if (context.has_app_armor_profile()) {
    ValidateAppArmor(context.app_armor_profile(), path.Child("appArmorProfile"), errors);
  }
}

void ValidateContainer(const core::Container& container, const std::set<std::string>& volumes,
                       const FieldPath& path, FieldErrors& errors) {
  if (container.name().empty()) {
    errors.Required(path.Child("name"));
  } else {
    AddInvalid(codec::CheckDns1123Label(container.name()), path.Child("name"), container.name(),
               errors);
  }
  const std::string& image = container.image();
  if (image.empty()) {
    errors.Required(path.Child("image"));
  } else if (image.front() == ' ' || image.back() == ' ' || image.back() == '\n' ||
             image.front() == '\t') {
    errors.Invalid(path.Child("image"), image, "must not have leading or trailing whitespace");
  }
  CheckOneOf(container.termination_message_policy(), {"FallbackToLogsOnError", "File"},
             path.Child("terminationMessagePolicy"), errors);
  CheckOneOf(container.image_pull_policy(), {"Always", "IfNotPresent", "Never"},
             path.Child("imagePullPolicy"), errors);
  ValidatePorts(container, path, errors);
  ValidateEnv(container, path, errors);
  ValidateMounts(container, volumes, path, errors);
  ValidateProbes(container, path, errors);
  ValidateResources(container.resources(), path.Child("resources"), errors);
  if (container.has_security_context()) {
    ValidateSecurityContext(container.security_context(), path.Child("securityContext"), errors);
  }
}

// What only a container that goes on running may have.
void ValidateInitContainer(const core::Container& container, const FieldPath& path,
                           FieldErrors& errors) {
  if (container.has_restart_policy()) {
    CheckOneOf(container.restart_policy(), {"Always", "Never", "OnFailure"},
               path.Child("restartPolicy"), errors);
  }
  if (container.restart_policy() == "Always") return;
  constexpr char kWhy[] = "may not be set for init containers without restartPolicy=Always";
  if (container.has_lifecycle()) errors.Forbidden(path.Child("lifecycle"), kWhy);
  if (container.has_liveness_probe()) errors.Forbidden(path.Child("livenessProbe"), kWhy);
  if (container.has_readiness_probe()) errors.Forbidden(path.Child("readinessProbe"), kWhy);
  if (container.has_startup_probe()) errors.Forbidden(path.Child("startupProbe"), kWhy);
}

// Two containers of a pod share its address: a host port is taken once.
void CheckHostPorts(const core::PodSpec& spec, const FieldPath& path, FieldErrors& errors) {
  std::set<std::string> taken;
  for (int c = 0; c < spec.containers_size(); ++c) {
    for (int i = 0; i < spec.containers(c).ports_size(); ++i) {
      const core::ContainerPort& port = spec.containers(c).ports(i);
      if (port.host_port() == 0) continue;
      std::string key =
          port.protocol() + "/" + port.host_ip() + "/" + std::to_string(port.host_port());
      if (!taken.insert(key).second) {
        errors.Duplicate(ElementAt(ElementAt(path, "containers", c), "ports", i).Child("hostPort"),
                         key);
      }
    }
  }
}

}  // namespace

void ValidateResources(const core::ResourceRequirements& resources, const FieldPath& path,
                       FieldErrors& errors) {
  ValidateAmounts(resources.limits(), path.Child("limits"), errors);
  ValidateAmounts(resources.requests(), path.Child("requests"), errors);
  std::map<std::string, std::string> requests;
  for (const auto& [name, amount] : resources.requests()) requests[name] = amount.string();
  for (const auto& [name, text] : requests) {
    auto limit = resources.limits().find(name);
    codec::Quantity request = codec::Quantity::Parse(text).value_or(codec::Quantity());
    bool may_exceed = IsStandardResource(name) && !name.starts_with("hugepages-");
    if (limit == resources.limits().end()) continue;
    codec::Quantity most = codec::Quantity::From(limit->second);
    FieldPath at = path.Child("requests");
    if (may_exceed && request > most) {
      errors.Invalid(
          at, text,
          "must be less than or equal to " + name + " limit of " + limit->second.string());
    } else if (!may_exceed && request != most) {
      errors.Invalid(at, text, "must be equal to " + name + " limit of " + limit->second.string());
    }
  }
}

void ValidateContainers(const core::PodSpec& spec, const FieldPath& path, FieldErrors& errors) {
  std::set<std::string> volumes, names;
  for (const auto& volume : spec.volumes()) volumes.insert(volume.name());
  auto check = [&](const core::Container& container, const FieldPath& at) {
    ValidateContainer(container, volumes, at, errors);
    if (!container.name().empty() && !names.insert(container.name()).second) {
      errors.Duplicate(at.Child("name"), container.name());
    }
  };
  if (spec.containers().empty()) errors.Required(path.Child("containers"));
  for (int i = 0; i < spec.containers_size(); ++i) {
    check(spec.containers(i), ElementAt(path, "containers", i));
  }
  for (int i = 0; i < spec.init_containers_size(); ++i) {
    FieldPath at = ElementAt(path, "initContainers", i);
    check(spec.init_containers(i), at);
    ValidateInitContainer(spec.init_containers(i), at, errors);
  }
  CheckHostPorts(spec, path, errors);
}

}  // namespace skiff::cp

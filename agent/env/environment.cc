#include "agent/env/environment.h"

#include <algorithm>
#include <cctype>

#include "agent/env/fields.h"
#include "proto/k8s/core/v1/config.pb.h"
#include "proto/k8s/core/v1/pod.pb.h"
#include "proto/k8s/core/v1/service.pb.h"

namespace skiff::agent {
namespace {

namespace core = k8s::core::v1;

// The variables of docker's links and Kubernetes' services share this prefix: "my-db" is "MY_DB".
std::string VariableName(std::string_view name) {
  std::string upper;
  for (char c : name) {
    upper += c == '-' ? '_' : static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  }
  return upper;
}

std::string HostPort(const std::string& ip, int port) {
  return (ip.find(':') == std::string::npos ? ip : "[" + ip + "]") + ":" + std::to_string(port);
}

void AppendService(const core::Service& service, EnvList* list) {
  const std::string& ip = service.spec().cluster_ip();
  if (ip.empty() || ip == "None" || service.spec().ports().empty()) return;
  std::string prefix = VariableName(service.metadata().name());
  list->emplace_back(prefix + "_SERVICE_HOST", ip);
  list->emplace_back(prefix + "_SERVICE_PORT", std::to_string(service.spec().ports(0).port()));
  for (const core::ServicePort& port : service.spec().ports()) {
    if (port.name().empty()) continue;
    list->emplace_back(prefix + "_SERVICE_PORT_" + VariableName(port.name()),
                       std::to_string(port.port()));
  }
  bool first = true;
  for (const core::ServicePort& port : service.spec().ports()) {
    std::string protocol = port.protocol().empty() ? "TCP" : port.protocol();
    std::string lower = protocol;
    std::transform(lower.begin(), lower.end(), lower.begin(),
                   [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    std::string url = lower + "://" + HostPort(ip, port.port());
    if (first) list->emplace_back(prefix + "_PORT", url);
    first = false;
    std::string link =
        prefix + "_PORT_" + std::to_string(port.port()) + "_" + VariableName(protocol);
    list->emplace_back(link, url);
    list->emplace_back(link + "_PROTO", lower);
    list->emplace_back(link + "_PORT", std::to_string(port.port()));
    list->emplace_back(link + "_ADDR", ip);
  }
}

// Collects variables, the later value of a name replacing the earlier one in its place.
class Builder {
 public:
  void Set(const std::string& name, const std::string& value) {
    auto [found, fresh] = position_.try_emplace(name, list_.size());
    if (fresh) {
      list_.emplace_back(name, value);
    } else {
      list_[found->second].second = value;
    }
    values_[name] = value;
  }
  bool Has(const std::string& name) const { return position_.contains(name); }
  const std::map<std::string, std::string>& values() const { return values_; }
  EnvList Take() && { return std::move(list_); }

 private:
  EnvList list_;
  std::map<std::string, size_t> position_;
  std::map<std::string, std::string> values_;
};

class EnvironmentMaker {
 public:
  EnvironmentMaker(const core::Pod& pod, const core::Container& container,
                   const ObjectSource& objects, const NodeContext& node,
                   const std::vector<std::string>& pod_ips)
      : pod_(pod), container_(container), objects_(objects), node_(node), pod_ips_(pod_ips) {}

  Result<EnvList> Make() {
    for (const core::EnvFromSource& source : container_.env_from()) TRY(AddFrom(source));
    EnvList services = ServiceVariables(pod_, objects_);
    // $(NAME) also reaches the services' variables, whatever the pod's own override.
    std::map<std::string, std::string> known(services.begin(), services.end());
    for (const auto& [name, value] : builder_.values()) known[name] = value;
    for (const core::EnvVar& variable : container_.env()) {
      bool skip = false;
      std::string value = variable.has_value_from() ? TRY(ValueFrom(variable.value_from(), &skip))
                                                    : Expand(variable.value(), known);
      if (skip) continue;
      builder_.Set(variable.name(), value);
      known[variable.name()] = value;
    }
    for (const auto& [name, value] : services) {
      if (!builder_.Has(name)) builder_.Set(name, value);
    }
    return std::move(builder_).Take();
  }

 private:
  const std::string& name_space() const { return pod_.metadata().namespace_(); }

  Result<> AddFrom(const core::EnvFromSource& source) {
    if (source.has_config_map_ref()) {
      const auto& reference = source.config_map_ref();
      const std::string& name = reference.local_object_reference().name();
      auto map = objects_.FindConfigMap(name_space(), name);
      if (map == nullptr) {
        if (reference.optional()) return {};
        return Error(Code::kNotFound, "configmap \"" + name + "\" not found");
      }
      AddSorted(source.prefix(), map->data());
    }
    if (source.has_secret_ref()) {
      const auto& reference = source.secret_ref();
      const std::string& name = reference.local_object_reference().name();
      auto secret = objects_.FindSecret(name_space(), name);
      if (secret == nullptr) {
        if (reference.optional()) return {};
        return Error(Code::kNotFound, "secret \"" + name + "\" not found");
      }
      AddSorted(source.prefix(), secret->data());
    }
    return {};
  }

  template <class Map>
  void AddSorted(const std::string& prefix, const Map& data) {
    std::map<std::string, std::string> sorted(data.begin(), data.end());
    for (const auto& [key, value] : sorted) builder_.Set(prefix + key, value);
  }

  Result<std::string> ValueFrom(const core::EnvVarSource& source, bool* skip) {
    if (source.has_field_ref()) {
      return FieldValue(pod_, source.field_ref().field_path(), node_, pod_ips_);
    }
    if (source.has_resource_field_ref()) return ResourceOf(source.resource_field_ref());
    if (source.has_config_map_key_ref()) {
      const auto& key = source.config_map_key_ref();
      const std::string& name = key.local_object_reference().name();
      auto map = objects_.FindConfigMap(name_space(), name);
      if (map == nullptr) return Missing(key.optional(), "configmap", name, skip);
      auto found = map->data().find(key.key());
      if (found == map->data().end()) {
        return MissingKey(key.optional(), "ConfigMap", key.key(), name, skip);
      }
      return found->second;
    }
    if (source.has_secret_key_ref()) {
      const auto& key = source.secret_key_ref();
      const std::string& name = key.local_object_reference().name();
      auto secret = objects_.FindSecret(name_space(), name);
      if (secret == nullptr) return Missing(key.optional(), "secret", name, skip);
      auto found = secret->data().find(key.key());
      if (found == secret->data().end()) {
        return MissingKey(key.optional(), "Secret", key.key(), name, skip);
      }
      return found->second;
    }
    return Error(Code::kUnimplemented, "this source of an environment variable is not supported");
  }

  Result<std::string> ResourceOf(const core::ResourceFieldSelector& selector) {
    const core::Container* owner = &container_;
    if (!selector.container_name().empty()) {
      owner = nullptr;
      for (const auto* list : {&pod_.spec().containers(), &pod_.spec().init_containers()}) {
        for (const core::Container& candidate : *list) {
          if (candidate.name() == selector.container_name()) owner = &candidate;
        }
      }
      if (owner == nullptr) {
        return Error(Code::kNotFound, "container " + selector.container_name() + " not found");
      }
    }
    return ResourceValue(*owner, selector, node_);
  }

  static Result<std::string> Missing(bool optional, const char* kind, const std::string& name,
                                     bool* skip) {
    *skip = optional;
    if (optional) return std::string();
    return Error(Code::kNotFound, std::string(kind) + " \"" + name + "\" not found");
  }
  Result<std::string> MissingKey(bool optional, const char* kind, const std::string& key,
                                 const std::string& name, bool* skip) const {
    *skip = optional;
    if (optional) return std::string();
    return Error(Code::kNotFound,
                 "couldn't find key " + key + " in " + kind + " " + name_space() + "/" + name);
  }

  const core::Pod& pod_;
  const core::Container& container_;
  const ObjectSource& objects_;
  const NodeContext& node_;
  const std::vector<std::string>& pod_ips_;
  Builder builder_;
};

}  // namespace

std::string Expand(std::string_view text, const std::map<std::string, std::string>& variables) {
  std::string expanded;
  size_t i = 0;
  while (i < text.size()) {
    if (text[i] != '$' || i + 1 == text.size()) {
      expanded += text[i++];
      continue;
    }
    if (text[i + 1] == '$') {
      expanded += '$';
      i += 2;
      continue;
    }
    size_t end = text[i + 1] == '(' ? text.find(')', i + 2) : std::string_view::npos;
    if (end == std::string_view::npos) {
      expanded += text[i++];
      continue;
    }
    auto found = variables.find(std::string(text.substr(i + 2, end - i - 2)));
    if (found != variables.end()) {
      expanded += found->second;
    } else {
      expanded += text.substr(i, end + 1 - i);
    }
    i = end + 1;
  }
  return expanded;
}

EnvList ServiceVariables(const core::Pod& pod, const ObjectSource& objects) {
  EnvList list;
  const std::string& name_space = pod.metadata().namespace_();
  // Unset means true.
  bool links = !pod.spec().has_enable_service_links() || pod.spec().enable_service_links();
  bool own_kubernetes = false;
  if (links) {
    for (const auto& service : objects.ServicesIn(name_space)) {
      own_kubernetes = own_kubernetes || service->metadata().name() == "kubernetes";
      AppendService(*service, &list);
    }
  }
  if (!own_kubernetes) {
    for (const auto& service : objects.ServicesIn("default")) {
      if (service->metadata().name() == "kubernetes") AppendService(*service, &list);
    }
  }
  return list;
}

Result<EnvList> MakeEnvironment(const core::Pod& pod, const core::Container& container,
                                const ObjectSource& objects, const NodeContext& node,
                                const std::vector<std::string>& pod_ips) {
  return EnvironmentMaker(pod, container, objects, node, pod_ips).Make();
}

}  // namespace skiff::agent

#include "agent/volumes/contents.h"

#include "agent/env/fields.h"
#include "agent/spec/shape.h"
#include "proto/k8s/core/v1/config.pb.h"
#include "proto/k8s/core/v1/pod.pb.h"
#include "proto/k8s/core/v1/volume.pb.h"

namespace skiff::agent {
namespace {

namespace core = k8s::core::v1;

constexpr mode_t kDefaultMode = 0644;

class Builder {
 public:
  Builder(const core::Pod& pod, const VolumeContext& context, mode_t mode)
      : pod_(pod), context_(context), mode_(mode) {
    // Members of the pod's group must be able to read.
    if (pod.spec().security_context().has_fs_group()) group_bits_ = 0440;
  }

  Result<> AddConfigMap(const std::string& name, const auto& items, bool optional) {
    auto map = context_.objects->FindConfigMap(pod_.metadata().namespace_(), name);
    if (map == nullptr) {
      if (optional) return {};
      return Error(Code::kNotFound, "configmap \"" + name + "\" not found");
    }
    std::map<std::string, std::string> data(map->data().begin(), map->data().end());
    data.insert(map->binary_data().begin(), map->binary_data().end());
    return AddData(data, items, optional, "config");
  }

  Result<> AddSecret(const std::string& name, const auto& items, bool optional) {
    auto secret = context_.objects->FindSecret(pod_.metadata().namespace_(), name);
    if (secret == nullptr) {
      if (optional) return {};
      return Error(Code::kNotFound, "secret \"" + name + "\" not found");
    }
    std::map<std::string, std::string> data(secret->data().begin(), secret->data().end());
    return AddData(data, items, optional, "secret");
  }

  Result<> AddDownwardApi(const auto& items) {
    for (const core::DownwardAPIVolumeFile& file : items) {
      std::string content;
      if (file.has_field_ref()) {
        content =
            TRY(FieldValue(pod_, file.field_ref().field_path(), context_.node, context_.pod_ips));
      } else {
        const auto& selector = file.resource_field_ref();
        const core::Container* container = FindContainer(pod_, selector.container_name());
        if (container == nullptr) {
          return Error(Code::kNotFound, "container " + selector.container_name() + " not found");
        }
        content = TRY(ResourceValue(*container, selector, context_.node));
      }
      Add(file.path(), std::move(content), file.has_mode(), file.mode());
    }
    return {};
  }

  Payload Take() && { return std::move(payload_); }

 private:
  Result<> AddData(const std::map<std::string, std::string>& data, const auto& items, bool optional,
                   const char* kind) {
    if (items.empty()) {
      for (const auto& [key, value] : data) Add(key, value, false, 0);
      return {};
    }
    for (const core::KeyToPath& item : items) {
      auto found = data.find(item.key());
      if (found != data.end()) {
        Add(item.path(), found->second, item.has_mode(), item.mode());
      } else if (!optional) {
        return Error(Code::kNotFound,
                     std::string("references non-existent ") + kind + " key: " + item.key());
      }
    }
    return {};
  }

  void Add(const std::string& path, std::string content, bool has_mode, int32_t mode) {
    mode_t bits = has_mode ? static_cast<mode_t>(mode) : mode_;
    payload_[path] = PayloadFile{std::move(content), (bits | group_bits_) & 07777};
  }

  const core::Pod& pod_;
  const VolumeContext& context_;
  mode_t mode_;
  mode_t group_bits_ = 0;
  Payload payload_;
};

mode_t ModeOf(const auto& source) {
  return source.has_default_mode() ? static_cast<mode_t>(source.default_mode()) : kDefaultMode;
}

Result<> AddProjection(const core::VolumeProjection& source, Builder* builder) {
  if (source.has_config_map()) {
    const auto& map = source.config_map();
    return builder->AddConfigMap(map.local_object_reference().name(), map.items(), map.optional());
  }
  if (source.has_secret()) {
    const auto& secret = source.secret();
    return builder->AddSecret(secret.local_object_reference().name(), secret.items(),
                              secret.optional());
  }
  if (source.has_downward_api()) return builder->AddDownwardApi(source.downward_api().items());
  return Error(Code::kUnimplemented, "this source of a projected volume is not supported");
}

}  // namespace

bool IsSecretVolume(const core::Volume& volume) {
  if (volume.volume_source().has_secret()) return true;
  // Projected volumes carry tokens and secrets; kubelet keeps all of them in memory.
  return volume.volume_source().has_projected();
}

Result<std::optional<Payload>> VolumeContents(const core::Pod& pod, const core::Volume& volume,
                                              const VolumeContext& context) {
  const core::VolumeSource& source = volume.volume_source();
  if (source.has_config_map()) {
    const auto& map = source.config_map();
    Builder builder(pod, context, ModeOf(map));
    TRY(builder.AddConfigMap(map.local_object_reference().name(), map.items(), map.optional()));
    return std::optional<Payload>(std::move(builder).Take());
  }
  if (source.has_secret()) {
    const auto& secret = source.secret();
    Builder builder(pod, context, ModeOf(secret));
    TRY(builder.AddSecret(secret.secret_name(), secret.items(), secret.optional()));
    return std::optional<Payload>(std::move(builder).Take());
  }
  if (source.has_downward_api()) {
    Builder builder(pod, context, ModeOf(source.downward_api()));
    TRY(builder.AddDownwardApi(source.downward_api().items()));
    return std::optional<Payload>(std::move(builder).Take());
  }
  if (source.has_projected()) {
    Builder builder(pod, context, ModeOf(source.projected()));
    for (const core::VolumeProjection& projection : source.projected().sources()) {
      TRY(AddProjection(projection, &builder));
    }
    return std::optional<Payload>(std::move(builder).Take());
  }
  return std::optional<Payload>();
}

}  // namespace skiff::agent

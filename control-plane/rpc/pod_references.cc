#include "control-plane/rpc/pod_references.h"

#include "proto/k8s/core/v1/pod.pb.h"

namespace skiff::cp {

namespace {

namespace core = k8s::core::v1;

void Add(std::set<std::string>& names, const std::string& name) {
  if (!name.empty()) names.insert(name);
}

template <class Source>
const std::string& NameOf(const Source& source) {
  return source.local_object_reference().name();
}

// Container and EphemeralContainerCommon.
template <class Container>
void AddContainer(const Container& container, PodReferences& found) {
  for (const core::EnvVar& variable : container.env()) {
    Add(found.config_maps, NameOf(variable.value_from().config_map_key_ref()));
    Add(found.secrets, NameOf(variable.value_from().secret_key_ref()));
  }
  for (const core::EnvFromSource& source : container.env_from()) {
    Add(found.config_maps, NameOf(source.config_map_ref()));
    Add(found.secrets, NameOf(source.secret_ref()));
  }
}

void AddVolume(const core::VolumeSource& volume, PodReferences& found) {
  Add(found.config_maps, NameOf(volume.config_map()));
  Add(found.secrets, volume.secret().secret_name());
  Add(found.secrets, volume.csi().node_publish_secret_ref().name());
  for (const core::VolumeProjection& source : volume.projected().sources()) {
    Add(found.config_maps, NameOf(source.config_map()));
    Add(found.secrets, NameOf(source.secret()));
  }
}

}  // namespace

PodReferences ReferencesOf(const core::PodSpec& spec) {
  PodReferences found;
  for (const auto& container : spec.init_containers()) AddContainer(container, found);
  for (const auto& container : spec.containers()) AddContainer(container, found);
  for (const auto& container : spec.ephemeral_containers()) {
    AddContainer(container.ephemeral_container_common(), found);
  }
  for (const auto& volume : spec.volumes()) AddVolume(volume.volume_source(), found);
  for (const auto& secret : spec.image_pull_secrets()) Add(found.secrets, secret.name());
  Add(found.runtime_classes, spec.runtime_class_name());
  return found;
}

}  // namespace skiff::cp

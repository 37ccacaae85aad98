// The rules of pods and of the pod templates in other kinds. Pure functions, any thread.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "control-plane/api/kind.h"

namespace k8s::core::v1 {
class AppArmorProfile;
class Container;
class Pod;
class PodSpec;
class PodTemplateSpec;
class ResourceRequirements;
class Toleration;
class Volume;
}  // namespace k8s::core::v1
namespace k8s::meta::v1 {
class ObjectMeta;
}

namespace skiff::cp {

// path.list[index]
inline FieldPath ElementAt(const FieldPath& path, std::string_view list, int index) {
  return path.Child(list).Index(static_cast<size_t>(index));
}

// Defaults of every pod spec, templates included.
void SetPodSpecDefaults(k8s::core::v1::PodSpec& spec);
// Those of a pod: also requests from limits, service links, host ports.
void SetPodDefaults(k8s::core::v1::Pod& pod);
// "Guaranteed", "Burstable" or "BestEffort".
std::string PodQosClass(const k8s::core::v1::PodSpec& spec);

void ValidatePod(const k8s::core::v1::Pod& pod, FieldErrors& errors);
void ValidatePodSpec(const k8s::core::v1::PodSpec& spec, const FieldPath& path,
                     FieldErrors& errors);
// Labels, annotations and spec of a template.
void ValidatePodTemplate(const k8s::core::v1::PodTemplateSpec& pod_template, const FieldPath& path,
                         FieldErrors& errors);
// A pod is what it was but for its containers' images, a deadline, more tolerations.
void ValidatePodUpdate(const k8s::core::v1::Pod& pod, const k8s::core::v1::Pod& old,
                       FieldErrors& errors);

// Parts of ValidatePodSpec. `volumes` are the names of the pod's volumes.
void ValidateVolumes(const k8s::core::v1::PodSpec& spec, const FieldPath& path,
                     FieldErrors& errors);
void ValidateContainers(const k8s::core::v1::PodSpec& spec, const FieldPath& path,
                        FieldErrors& errors);
// Affinity and topologySpreadConstraints.
void ValidatePlacement(const k8s::core::v1::PodSpec& spec, const FieldPath& path,
                       FieldErrors& errors);

// AppArmor (apparmor_rules.cc): a profile, the annotations of a pod or template that name them,
// that a new pod's annotations and fields say the same, and that a pod keeps them.
void ValidateAppArmor(const k8s::core::v1::AppArmorProfile& profile, const FieldPath& path,
                      FieldErrors& errors);
void ValidateAppArmorAnnotations(const k8s::meta::v1::ObjectMeta& metadata,
                                 const k8s::core::v1::PodSpec& spec, const FieldPath& path,
                                 FieldErrors& errors);
void ValidateAppArmorAgreement(const k8s::core::v1::Pod& pod, FieldErrors& errors);
void ValidateAppArmorUpdate(const k8s::core::v1::Pod& pod, const k8s::core::v1::Pod& old,
                            FieldErrors& errors);
// A new pod's annotations become fields and its fields annotations, each where the other is
// missing, as clients and nodes of either age read one of them.
void SyncAppArmor(k8s::core::v1::Pod& pod);

void ValidateResources(const k8s::core::v1::ResourceRequirements& resources, const FieldPath& path,
                       FieldErrors& errors);
void ValidateToleration(const k8s::core::v1::Toleration& toleration, const FieldPath& path,
                        FieldErrors& errors);

// kubectl's columns for pods.
std::vector<TableColumn> PodColumns();
std::vector<TableCell> PodRow(const k8s::core::v1::Pod& pod, WallTime now);

}  // namespace skiff::cp

// What ConfigMap, Secret, downward API and projected volumes hold. Pure.
#pragma once

#include <optional>

#include "agent/volumes/payload.h"
#include "agent/volumes/volumes.h"
#include "base/result.h"
#include "proto/k8s/fwd.h"

namespace skiff::agent {

// The files of a volume of one of these kinds; nothing for other kinds. NotFound, in kubelet's
// words, when an object or a key is missing and not optional.
Result<std::optional<Payload>> VolumeContents(const k8s::core::v1::Pod& pod,
                                              const k8s::core::v1::Volume& volume,
                                              const VolumeContext& context);
// Whether the volume holds secrets, which must not reach the disk.
bool IsSecretVolume(const k8s::core::v1::Volume& volume);

}  // namespace skiff::agent

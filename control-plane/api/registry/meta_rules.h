// The rules of metadata that hold for every kind: what the server sets, keeps and checks. Pure.
#pragma once

#include "base/clock.h"
#include "control-plane/api/kind.h"

namespace k8s::meta::v1 {
class ObjectMeta;
}

namespace skiff::cp {

// On create: drops what clients may not set, sets uid, creationTimestamp, generation, and a name
// made from generateName.
void PrepareMetaForCreate(k8s::meta::v1::ObjectMeta* meta, WallTime now);
// "base-x7k2p", the base cut so that 63 characters suffice.
std::string GenerateName(std::string_view base);

// On update: takes over what only the server may change (uid, creationTimestamp, generation,
// deletionTimestamp, ...).
void PrepareMetaForUpdate(k8s::meta::v1::ObjectMeta* meta, const k8s::meta::v1::ObjectMeta& old);

void ValidateMeta(const KindInfo& kind, const k8s::meta::v1::ObjectMeta& meta, FieldErrors& errors);
void ValidateMetaUpdate(const k8s::meta::v1::ObjectMeta& meta, const k8s::meta::v1::ObjectMeta& old,
                        FieldErrors& errors);

}  // namespace skiff::cp

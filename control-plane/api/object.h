// StoredObject: one version of one object as the store and the watch cache hold it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "base/result.h"
#include "control-plane/api/kind.h"
#include "control-plane/store/store.h"

namespace skiff::cp {

using ObjectPtr = std::shared_ptr<const Message>;

// Immutable. The object carries its resourceVersion.
struct StoredObject {
  std::string key;  // "ns/name", or "name" of a cluster-scoped kind
  ObjectPtr object;
  Revision revision = 0;
};
using StoredPtr = std::shared_ptr<const StoredObject>;

// Where a kind's objects live in the store: "/registry/core/pods/", "/registry/apps/deployments/".
std::string StoragePrefix(const KindInfo& kind);
// "ns/name" or "name".
std::string ObjectKey(std::string_view ns, std::string_view name);

// The bytes stored: the Kubernetes protobuf envelope, without resourceVersion.
std::string EncodeStored(const Message& object);
// kDataLoss for bytes that are no object of the kind.
Result<StoredPtr> DecodeStored(const KindInfo& kind, std::string key, const std::string& bytes,
                               Revision revision);
// A copy that says another resourceVersion.
ObjectPtr WithRevision(const Message& object, Revision revision);

}  // namespace skiff::cp

#include "control-plane/controllers/framework/namespaces.h"

#include "control-plane/controllers/framework/objects.h"
#include "proto/k8s/core/v1/namespace.pb.h"

namespace skiff::cp {

bool RefusedByEndingNamespace(Client& client, const std::string& ns, const Error& error) {
  if (error.code() != Code::kPermissionDenied && error.code() != Code::kNotFound) return false;
  auto live = client.Get<k8s::core::v1::Namespace>("", ns);
  if (!live.ok()) return live.error().code() == Code::kNotFound;
  return IsBeingDeleted((*live)->metadata());
}

}  // namespace skiff::cp

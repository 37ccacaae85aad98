#include "agent/spec/user_namespace.h"

#include "proto/cri/runtime/v1/api.pb.h"
#include "proto/k8s/core/v1/pod.pb.h"

namespace skiff::agent {
namespace {

namespace cri = ::runtime::v1;

cri::UserNamespace PodUserNamespace(uint32_t first, uint32_t count) {
  cri::UserNamespace user;
  user.set_mode(cri::POD);
  for (cri::IDMapping* mapping : {user.add_uids(), user.add_gids()}) {
    mapping->set_container_id(0);
    mapping->set_host_id(first);
    mapping->set_length(count);
  }
  return user;
}

}  // namespace

bool HasUserNamespace(const k8s::core::v1::Pod& pod) {
  return pod.spec().has_host_users() && !pod.spec().host_users();
}

void SetUserNamespace(uint32_t first, uint32_t count, cri::PodSandboxConfig* config) {
  *config->mutable_linux()
       ->mutable_security_context()
       ->mutable_namespace_options()
       ->mutable_userns_options() = PodUserNamespace(first, count);
}

void SetUserNamespace(uint32_t first, uint32_t count, cri::ContainerConfig* config) {
  const cri::UserNamespace user = PodUserNamespace(first, count);
  for (cri::Mount& mount : *config->mutable_mounts()) {
    *mount.mutable_uidmappings() = user.uids();
    *mount.mutable_gidmappings() = user.gids();
  }
  *config->mutable_linux()
       ->mutable_security_context()
       ->mutable_namespace_options()
       ->mutable_userns_options() = user;
}

}  // namespace skiff::agent

// User namespaces and id-mapped mounts (user_namespaces(7), mount_setattr(2)).
//
// For single-threaded programs and tests: a threaded one cannot make a user namespace, so the
// daemon has skiff-init do it (launch/launch_spec.h, LaunchKind::kNamespaces).
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/os/unique_fd.h"
#include "base/result.h"
#include "runtime/spec.h"

namespace skiff::runtime {

struct UserNamespace {
  UniqueFd user;
  UniqueFd network;  // that it owns, with its loopback up; invalid where none was asked for
};
// A new user namespace with these mappings, held by the descriptors alone.
Result<UserNamespace> MakeUserNamespace(const IdMappings& mappings, bool with_network);
// Mounts a namespace's descriptor on a file at path, which is made.
Result<> PinNamespace(int fd, const std::string& path);

// Shows a detached mount's files as the user namespace maps their owners. Unimplemented where the
// filesystem cannot do that; subject names it.
Result<> MapMountIds(int mount, int user_namespace, std::string_view subject);

// The id outside for one inside; nothing where it is not mapped.
std::optional<uint32_t> HostId(const std::vector<IdMapping>& mappings, uint32_t id);

}  // namespace skiff::runtime

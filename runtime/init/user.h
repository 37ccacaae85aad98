// Whom a container runs as, by its own /etc/passwd and /etc/group. Pure.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"
#include "runtime/runtime.h"

namespace skiff::runtime {

struct FoundUser {
  ResolvedUser ids;  // groups: without doubles, the primary group first
  std::string home;  // "/" where /etc/passwd does not say
};

// The files' texts, empty where the image has none. A number needs no entry; an unknown name is
// InvalidArgument. Lines that are no entries are passed over.
Result<FoundUser> FindUser(const UserSpec& spec, std::string_view passwd, std::string_view group);

}  // namespace skiff::runtime

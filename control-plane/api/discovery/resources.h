// What discovery says of each kind, in one form for all of its answers. Pure.
#pragma once

#include <string>
#include <vector>

#include "control-plane/api/kind.h"

namespace skiff::cp {

struct SubresourceInfo {
  std::string name;  // "status"
  // Of the object sent and answered.
  std::string group;
  std::string version;
  std::string kind;
  std::vector<std::string> verbs;
};

std::vector<std::string> VerbsOf(const KindInfo& kind);
std::vector<SubresourceInfo> SubresourcesOf(const KindInfo& kind);

struct GroupVersions {
  std::string group;
  std::vector<std::string> versions;  // the preferred one first
};
// In the order of the kinds; the core group is left out.
std::vector<GroupVersions> GroupsOf(const Kinds& kinds);

}  // namespace skiff::cp

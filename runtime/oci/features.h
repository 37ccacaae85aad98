// What an OCI runtime says it can do: the output of its "features" command (OCI runtime
// specification 1.1, features.md).
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace skiff::runtime {

struct OciFeatures {
  bool user_namespaces = false;  // and mounts with mapped ids, which they are of no use without
  bool recursive_readonly = false;
  bool apparmor = false;
};

// Nothing where it is not such a document. Pure.
std::optional<OciFeatures> ParseOciFeatures(std::string_view json);

// "user namespaces, AppArmor"; "none of what is asked for".
std::string DescribeFeatures(const OciFeatures& features);

}  // namespace skiff::runtime

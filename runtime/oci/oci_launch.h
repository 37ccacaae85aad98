// What skiff-init is told of an OCI runtime: which command of it to become, and for "create" the
// bundle to prepare first (launch/launch_spec.h has the container itself).
#pragma once

#include <map>
#include <string>
#include <vector>

namespace skiff::runtime {

// A namespace as the OCI runtime specification names it ("pid", "network", "ipc", "uts", "mount",
// "cgroup"): that at the path, or a new one where the path is empty.
struct OciNamespace {
  std::string type;
  std::string path;
};
template <class A>
void Describe(A& archive, OciNamespace& n) {
  archive(n.type, n.path);
}

struct OciLaunch {
  std::vector<std::string> command;  // the program's path, then its arguments but the last
  std::string id;                    // the last argument
  // The rest is for "create".
  std::string bundle;  // a directory that is there; empty: nothing to prepare
  std::vector<OciNamespace> namespaces;
  std::string cgroups_path;
  std::string resources;  // "linux.resources" as JSON
  std::string seccomp;    // "linux.seccomp" as JSON; empty: none
  std::map<std::string, std::string> annotations;
};
template <class A>
void Describe(A& archive, OciLaunch& l) {
  archive(l.command, l.id, l.bundle, l.namespaces, l.cgroups_path, l.resources, l.seccomp,
          l.annotations);
}

}  // namespace skiff::runtime

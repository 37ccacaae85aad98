// Cgroups: the control groups of this machine, version 2, version 1, or both at once ("hybrid":
// the controllers are v1's, and an empty v2 hierarchy beside them is used to kill and to count).
//
// A path ("/kubepods/pod1/abc") names a directory in every hierarchy in use. Limits go through
// libcgroup; what it lacks (cgroup.kill, cgroup.events, device programs) through the files.
// Thread-safe. A controller that the machine lacks makes its limits void, which Degradations() says
// in words.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "runtime/runtime.h"
#include "runtime/spec.h"

namespace skiff::runtime {

// The files by which others use a cgroup; empty where the machine has none such.
struct CgroupFiles {
  std::vector<std::string> tasks;  // of v1: to write "0" into, in order to join it
  std::string unified;             // directory of v2: to be born in
  std::string kill;                // cgroup.kill
  std::string members;             // cgroup.procs, to kill by where there is no kill
  std::string oom_counter;         // holds a line "oom_kill N"
};

struct DeviceRule {
  char type = 'c';     // c, b, or a for both
  int64_t major = -1;  // -1: any
  int64_t minor = -1;
  std::string access;  // of r, w, m
};

class Cgroups {
 public:
  // What is mounted on this machine. FailedPrecondition where no cgroup is.
  static Result<std::unique_ptr<Cgroups>> Open();
  virtual ~Cgroups() = default;

  virtual bool v2() const = 0;
  virtual std::vector<std::string> Degradations() const = 0;
  // For a container's /sys/fs/cgroup: see LaunchSpec::cgroup_hierarchies.
  virtual std::vector<std::string> MountableHierarchies() const = 0;

  // Makes the cgroup with the parents that are missing, and sets its limits. One that is there
  // gets the limits.
  virtual Result<> Create(const std::string& path, const ResourceSpec& limits) = 0;
  // A cgroup without limits whose processes are all to be killed at once; below a container's it
  // holds an exec.
  virtual Result<> CreateLeaf(const std::string& path) = 0;
  // Forbids all devices but these.
  virtual Result<> RestrictDevices(const std::string& path,
                                   const std::vector<DeviceRule>& allowed) = 0;
  virtual Result<> Update(const std::string& path, const ResourceSpec& limits) = 0;
  // Of a cgroup that Create made, or CreateLeaf.
  virtual CgroupFiles Files(const std::string& path) const = 0;
  virtual CgroupFiles LeafFiles(const std::string& path) const = 0;
  virtual Result<CgroupStats> Stats(const std::string& path) const = 0;
  virtual Result<CgroupMetrics> Metrics(const std::string& path) const = 0;
  // Lets go what version 1's freezer holds of its processes, wherever: frozen, they cannot even be
  // killed. (Version 2 kills what is frozen.)
  virtual void Thaw(const std::string& path) { (void)path; }
  // Kills what is in it, waits for its end and removes it with those below. Gone is a success.
  Result<> Remove(const std::string& path);
  // Removes it where no process is in it; else leaves it. Whether it is gone.
  virtual bool RemoveIfEmpty(const std::string& path) = 0;
  // The same in the v1 hierarchies that are not used here: an OCI runtime makes it in all.
  virtual void RemoveElsewhere(const std::string& path) = 0;
  // Whether limits of that controller take effect.
  virtual bool Has(std::string_view controller) const = 0;
  // Whether it is there, in any hierarchy.
  virtual bool Exists(const std::string& path) const = 0;
  // Names of the cgroups directly below.
  virtual std::vector<std::string> Children(const std::string& path) const = 0;

 private:
  // Of one that is not empty.
  virtual Result<> KillAndRemove(const std::string& path) = 0;
};

// cgroup v1 shares (2 to 262144) as v2 weight (1 to 10000) such that the default 1024 becomes the
// default 100 (the formula of crun and runc since 2025).
uint64_t WeightFromShares(uint64_t shares);

// A path is absolute, without empty, "." and ".." parts.
Result<> CheckCgroupPath(const std::string& path);

}  // namespace skiff::runtime

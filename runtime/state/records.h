// The records of sandboxes and containers (paths.h).
#pragma once

#include <string>

#include "base/os/files.h"
#include "base/result.h"
#include "runtime/runtime.h"
#include "runtime/wire/spec_archive.h"

namespace skiff::runtime {

constexpr uint32_t kRecordVersion = 1;

// How far a sandbox or container has come; what a record says may be there.
enum class Stage : uint8_t {
  kMaking = 0,   // a caller has not been told of it yet: a new daemon undoes it
  kMade = 1,     // created
  kStarted = 2,  // sandbox: a shim may run
  kStopped = 3,  // sandbox: no shim any more
};
constexpr Stage LastOf(Stage) { return Stage::kStopped; }

struct SandboxRecord {
  uint32_t version = kRecordVersion;
  std::string boot_id;
  SandboxSpec spec;
  Stage stage = Stage::kMaking;
  WallTime created;
  std::string netns_path;
  std::string cgroup_path;   // of the pod
  bool owns_cgroup = false;  // made by us: removed with the sandbox
  std::string pause_cgroup;
  // The caller's cgroup parent was made by us: removed with the last sandbox in it.
  bool made_cgroup_parent = false;
  std::string userns_path;  // where its user namespace is pinned; empty: the node's
};
template <class A>
void Describe(A& archive, SandboxRecord& r) {
  archive(r.version, r.boot_id, r.spec, r.stage, r.created, r.netns_path, r.cgroup_path,
          r.owns_cgroup, r.pause_cgroup, r.made_cgroup_parent, r.userns_path);
}

struct ContainerRecord {
  uint32_t version = kRecordVersion;
  std::string boot_id;
  ContainerSpec spec;
  Stage stage = Stage::kMaking;
  WallTime created;
  std::string cgroup_path;
  // Where an OCI runtime makes it: the program and its global arguments, and where its state is.
  // Empty: the built-in way.
  std::vector<std::string> oci_command;
  std::string oci_root;
  std::string apparmor_profile;  // that its processes run under; empty: none
};
template <class A>
void Describe(A& archive, ContainerRecord& r) {
  archive(r.version, r.boot_id, r.spec, r.stage, r.created, r.cgroup_path, r.oci_command,
          r.oci_root, r.apparmor_profile);
}

template <class T>
Result<> WriteRecord(const std::string& path, const T& record) {
  return WriteFileAtomic(path, Encode(record), Durability::kNone);
}

// DataLoss for damaged ones and for those of a version that this build does not know.
template <class T>
Result<T> ReadRecord(const std::string& path) {
  std::string bytes = TRY(ReadFile(path));
  T record = TRY(Decode<T>(bytes).With(path));
  if (record.version > kRecordVersion) {
    return Error(Code::kDataLoss, path + ": written by a newer version");
  }
  return record;
}

// /proc/sys/kernel/random/boot_id.
Result<std::string> ReadBootId();

// 1 to 64 characters of [a-zA-Z0-9._-], the first a letter or digit.
Result<> CheckId(const std::string& id);

// What spec.h promises about the fields; InvalidArgument names the first that is wrong.
Result<> CheckSpec(const SandboxSpec& spec);
Result<> CheckSpec(const ContainerSpec& spec);

}  // namespace skiff::runtime

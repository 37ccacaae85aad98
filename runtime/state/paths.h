// What the runtime keeps on disk. Everything is void after a reboot (the records say of which boot
// they are), so nothing is synced; every file is replaced in one step.
//
//   <state_dir>/
//     lock                      held by the daemon that has it open
//     sandboxes/<id>/
//       record                  SandboxRecord: written before anything of the sandbox is made
//       shim.sock               where the shim listens
//       exit                    ExitReport of pause, by the shim
//       userns                  a mount of the pod's user namespace, where it has one of its own
//     containers/<id>/
//       record                  ContainerRecord: likewise
//       exit                    ContainerReport, by the shim
//       bundle/                 with an OCI runtime: oci/config.h
//     oci/<handler>/            the state of an OCI runtime
#pragma once

#include <string>

namespace skiff::runtime {

class StatePaths {
 public:
  explicit StatePaths(std::string root) : root_(std::move(root)) {}

  const std::string& root() const { return root_; }
  std::string Lock() const { return root_ + "/lock"; }
  std::string Sandboxes() const { return root_ + "/sandboxes"; }
  std::string Sandbox(const std::string& id) const { return Sandboxes() + "/" + id; }
  std::string SandboxRecord(const std::string& id) const { return Sandbox(id) + "/record"; }
  std::string SandboxExit(const std::string& id) const { return Sandbox(id) + "/exit"; }
  std::string SandboxUserns(const std::string& id) const { return Sandbox(id) + "/userns"; }
  static constexpr const char* kSocketName = "shim.sock";
  std::string Containers() const { return root_ + "/containers"; }
  std::string Container(const std::string& id) const { return Containers() + "/" + id; }
  std::string ContainerRecord(const std::string& id) const { return Container(id) + "/record"; }
  std::string ContainerExit(const std::string& id) const { return Container(id) + "/exit"; }
  std::string Bundle(const std::string& id) const { return Container(id) + "/bundle"; }
  std::string OciRoot(const std::string& handler) const { return root_ + "/oci/" + handler; }

 private:
  std::string root_;
};

}  // namespace skiff::runtime

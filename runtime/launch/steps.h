// The steps by which skiff-init makes a sandbox, a container or an exec, in their order.
//
// The order is the hard part of a container; each list is a table of functions in init/main.cc.
// None of the steps has an undo, by design: all of them change only the process itself and the
// namespaces that live and die with it. What outlives the process (records, cgroups, directories,
// the pinned network namespace) is made by the daemon, whose steps have undos (launch/sequence.h).
#pragma once

#include <cstdint>
#include <string_view>

namespace skiff::runtime {

enum class Step : uint8_t {
  kReadSpec = 0,
  kJoinCgroups,
  kOpenMountSources,  // while the host's files are still in sight
  kBuildRootfs,       // as a detached mount
  kJoinNamespaces,
  kCreateNamespaces,
  kSetHostname,
  kSetSysctls,
  kAttachRootfs,
  kMountKernelFilesystems,  // /proc /sys /dev ...
  kMakeDevices,
  kMount,  // what the spec names
  kOpenTerminal,
  kEnterRootfs,
  kHidePaths,
  kSealRootfs,
  kSetLimits,
  kResolveUser,
  kChangeDirectory,
  kSetCredentials,
  kWaitForGo,
  kLoadSeccomp,
  kDropPrivileges,
  kExec,
  kPrepareBundle,  // of an OCI runtime
  kWriteConfig,
  kEnterUserNamespace,
  kSetAppArmor,
};
constexpr Step LastOf(Step) { return Step::kSetAppArmor; }

constexpr std::string_view StepName(Step step) {
  switch (step) {
    case Step::kReadSpec: return "read launch spec";
    case Step::kJoinCgroups: return "join cgroup";
    case Step::kOpenMountSources: return "open mount source";
    case Step::kBuildRootfs: return "build rootfs";
    case Step::kJoinNamespaces: return "join namespaces";
    case Step::kCreateNamespaces: return "create namespaces";
    case Step::kSetHostname: return "set hostname";
    case Step::kSetSysctls: return "set sysctl";
    case Step::kAttachRootfs: return "attach rootfs";
    case Step::kMountKernelFilesystems: return "mount kernel filesystem";
    case Step::kMakeDevices: return "make device";
    case Step::kMount: return "mount";
    case Step::kOpenTerminal: return "open terminal";
    case Step::kEnterRootfs: return "enter rootfs";
    case Step::kHidePaths: return "mask path";
    case Step::kSealRootfs: return "make rootfs read-only";
    case Step::kSetLimits: return "set limit";
    case Step::kResolveUser: return "resolve user";
    case Step::kChangeDirectory: return "change directory";
    case Step::kSetCredentials: return "set credentials";
    case Step::kWaitForGo: return "wait for start";
    case Step::kLoadSeccomp: return "load seccomp filter";
    case Step::kDropPrivileges: return "drop privileges";
    case Step::kExec: return "exec";
    case Step::kPrepareBundle: return "prepare bundle";
    case Step::kWriteConfig: return "write bundle configuration";
    case Step::kEnterUserNamespace: return "enter user namespace";
    case Step::kSetAppArmor: return "set AppArmor profile";
  }
  return "unknown step";
}

}  // namespace skiff::runtime

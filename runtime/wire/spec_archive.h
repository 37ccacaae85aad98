// spec.h as bytes (archive.h). Fields are only ever appended.
#pragma once

#include "runtime/spec.h"
#include "runtime/wire/archive.h"

namespace skiff::runtime {

constexpr NamespaceMode LastOf(NamespaceMode) { return NamespaceMode::kTarget; }
constexpr MountPropagation LastOf(MountPropagation) { return MountPropagation::kShared; }
constexpr MountSpec::Type LastOf(MountSpec::Type) { return MountSpec::Type::kOwn; }
constexpr SeccompSpec::Kind LastOf(SeccompSpec::Kind) { return SeccompSpec::Kind::kProfile; }

template <class A>
void Describe(A& archive, IdMapping& m) {
  archive(m.container_id, m.host_id, m.length);
}

template <class A>
void Describe(A& archive, IdMappings& m) {
  archive(m.uids, m.gids);
}

template <class A>
void Describe(A& archive, SandboxSpec& s) {
  archive(s.id, s.hostname, s.network, s.ipc, s.pid, s.sysctls, s.cgroup_parent, s.oom_score_adj,
          s.shm_bytes, s.client_data, s.handler, s.user_namespace);
}

template <class A>
void Describe(A& archive, RootfsSpec& r) {
  archive(r.lower_dirs, r.writable_dir, r.readonly);
}

template <class A>
void Describe(A& archive, MountSpec& m) {
  archive(m.type, m.source, m.target, m.sub_path, m.readonly, m.recursive_readonly, m.no_exec,
          m.no_dev, m.no_suid, m.recursive, m.propagation, m.tmpfs_options, m.id_mappings,
          m.layers);
}

template <class A>
void Describe(A& archive, DeviceSpec& d) {
  archive(d.host_path, d.container_path, d.access, d.type, d.major, d.minor, d.file_mode, d.uid,
          d.gid);
}

template <class A>
void Describe(A& archive, CapabilitySpec& c) {
  archive(c.bounding, c.effective, c.permitted, c.inheritable, c.ambient);
}

template <class A>
void Describe(A& archive, SeccompSpec& s) {
  archive(s.kind, s.profile_json);
}

template <class A>
void Describe(A& archive, RlimitSpec& r) {
  archive(r.resource, r.soft, r.hard);
}

template <class A>
void Describe(A& archive, ResourceSpec& r) {
  archive(r.cpu_shares, r.cpu_quota_us, r.cpu_period_us, r.cpuset_cpus, r.cpuset_mems,
          r.memory_limit_bytes, r.memory_swap_limit_bytes, r.pids_limit, r.hugepage_limits_bytes,
          r.unified);
}

template <class A>
void Describe(A& archive, UserSpec& u) {
  archive(u.user, u.group, u.additional_gids, u.groups_from_image);
}

constexpr AppArmorSpec::Kind LastOf(AppArmorSpec::Kind) { return AppArmorSpec::Kind::kProfile; }
template <class A>
void Describe(A& archive, AppArmorSpec& s) {
  archive(s.kind, s.profile);
}

template <class A>
void Describe(A& archive, LogSpec& l) {
  archive(l.path, l.rotate_bytes, l.keep_files);
}

template <class A>
void Describe(A& archive, ContainerSpec& c) {
  archive(c.id, c.sandbox_id, c.rootfs, c.argv, c.env, c.cwd, c.user, c.terminal, c.stdin_open,
          c.stdin_once, c.log, c.mounts, c.devices, c.privileged, c.capabilities, c.seccomp,
          c.no_new_privs, c.masked_paths, c.readonly_paths, c.rlimits, c.pid, c.target_id,
          c.host_cgroup_namespace, c.resources, c.oom_score_adj, c.stop_signal, c.client_data,
          c.apparmor);
}

template <class A>
void Describe(A& archive, ExecSpec& e) {
  archive(e.container_id, e.argv, e.terminal, e.rows, e.columns);
}

}  // namespace skiff::runtime

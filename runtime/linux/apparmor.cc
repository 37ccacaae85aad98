#include "runtime/linux/apparmor.h"

#include "base/os/files.h"
#include "base/os/spawn.h"

namespace skiff::runtime {
namespace {

constexpr size_t kProfileListBytes = 1 << 20;
constexpr std::chrono::seconds kParserPatience{20};

// What containers may not do whoever they are inside: change mounts, reach into processes that are
// not theirs, and write to what of /proc and /sys is the whole machine's. The rest is for
// namespaces, capabilities and seccomp to say. attach_disconnected: files that were open before a
// mount namespace was made have no path in it.
constexpr const char* kDefaultSource = R"(
profile skiff-default flags=(attach_disconnected,mediate_deleted) {
  network,
  capability,
  file,
  umount,
  unix,
  signal (receive) peer=unconfined,
  signal (send,receive) peer=skiff-default,
  ptrace (trace,read,tracedby,readby) peer=skiff-default,
  deny mount,
  deny pivot_root,
  deny /proc/{acpi,asound,bus,fs,irq,scsi,tty}/** wklx,
  deny /proc/{kcore,kmem,mem,kallsyms,keys,timer_list,sched_debug} rwklx,
  deny /proc/sysrq-trigger rwklx,
  deny /proc/sys/{abi,debug,dev,user,vm}/** wklx,
  deny /proc/sys/fs/{[^m]**,mount-max} wklx,
  deny /proc/sys/kernel/{core_*,dmesg_*,hotplug,hung_task_*,kexec*,keys/**,kptr_*,modprobe,modules_*} wklx,
  deny /proc/sys/kernel/{panic*,perf_*,poweroff_cmd,print*,pty/**,random*,sched_*,seccomp/**,sysrq} wklx,
  deny /proc/sys/kernel/{unprivileged_*,usermodehelper/**,watchdog*,yama/**} wklx,
  deny /sys/{block,bus,class,dev,devices,firmware,hypervisor,kernel,module,power}/** wklx,
  deny /sys/{firmware,kernel/security,devices/virtual/powercap}/** rwklx,
}
)";

Result<> LoadByParser(std::string_view source) {
  for (const char* path : {"/usr/sbin/apparmor_parser", "/sbin/apparmor_parser"}) {
    if (!PathExists(path)) continue;
    // Not from the cache, which knows a profile by its file.
    SpawnRequest request{.path = path,
                         .argv = {path, "--replace", "--skip-cache", "--quiet"},
                         .env = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}};
    const ProgramOutput output = TRY(RunProgram(std::move(request), source, kParserPatience));
    if (output.status.Success()) return {};
    return Error(Code::kFailedPrecondition, std::string(path) + ": exit status " +
                                                std::to_string(output.status.ShellCode()) + ": " +
                                                output.err.substr(0, output.err.find('\n')));
  }
  return Error(Code::kFailedPrecondition, "apparmor_parser is not installed");
}

bool IsEnabled(const std::string& sys) {
  return ReadFile(sys + "/module/apparmor/parameters/enabled").value_or("N").starts_with('Y');
}

}  // namespace

bool ListsAppArmorProfile(std::string_view list, std::string_view name) {
  while (!list.empty()) {
    std::string_view line = list.substr(0, list.find('\n'));
    list.remove_prefix(std::min(list.size(), line.size() + 1));
    // A name may hold spaces and brackets; the mode is in the last ones.
    if (line.substr(0, line.rfind(" (")) == name) return true;
  }
  return false;
}

AppArmor::AppArmor(std::string sys, Loader load)
    : profiles_file_(sys + "/kernel/security/apparmor/profiles"),
      enabled_(IsEnabled(sys)),
      load_(load ? std::move(load) : LoadByParser) {}

bool AppArmor::IsLoaded(std::string_view profile) const {
  const auto list = ReadFile(profiles_file_, kProfileListBytes);
  return !list.ok() || ListsAppArmorProfile(*list, profile);
}

Result<> AppArmor::LoadDefault() {
  const std::lock_guard lock(mutex_);
  // Others may have removed it, as aa-remove-unknown(8) does.
  if (!loaded_ || !loaded_->ok() || !IsLoaded(kDefaultProfile)) loaded_ = load_(kDefaultSource);
  return *loaded_;
}

Result<std::string> AppArmor::ProfileFor(const AppArmorSpec& spec) {
  using Kind = AppArmorSpec::Kind;
  if (spec.kind == Kind::kUnconfined) return std::string();
  if (!enabled_) {
    if (spec.kind == Kind::kNodeDefault) return std::string();
    return Error(Code::kInvalidArgument,
                 "an AppArmor profile is asked for, but this node's kernel has no AppArmor");
  }
  if (spec.kind == Kind::kProfile) {
    if (!IsLoaded(spec.profile)) {
      return Error(Code::kInvalidArgument,
                   "AppArmor profile \"" + spec.profile + "\" is not loaded on this node");
    }
    return spec.profile;
  }
  const Result<> loaded = LoadDefault();
  if (loaded.ok()) return std::string(kDefaultProfile);
  if (spec.kind == Kind::kNodeDefault) return std::string();
  return Error(Code::kFailedPrecondition,
               "the default AppArmor profile cannot be loaded: " + loaded.error().message());
}

std::string AppArmor::Degradation() {
  const std::lock_guard lock(mutex_);
  if (!enabled_ || !loaded_ || loaded_->ok()) return "";
  return "AppArmor: " + loaded_->error().message() +
         ": containers that name no profile run without one";
}

}  // namespace skiff::runtime

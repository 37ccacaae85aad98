// AppArmor (https://docs.kernel.org/admin-guide/LSM/apparmor.html): which profile a container runs
// under. Profiles are loaded into the kernel by apparmor_parser; a process names the one for its
// next exec in /proc/self/attr (init/credentials.cc).
#pragma once

#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "runtime/spec.h"

namespace skiff::runtime {

// Whether the kernel's list of loaded profiles ("name (mode)" lines) has that one. Pure.
bool ListsAppArmorProfile(std::string_view list, std::string_view name);

// Thread-safe.
class AppArmor {
 public:
  static constexpr const char* kDefaultProfile = "skiff-default";

  // Loads a profile's source text into the kernel, replacing one of its name.
  using Loader = std::function<Result<>(std::string_view source)>;
  // sys: where sysfs is. Loads by apparmor_parser unless told otherwise.
  explicit AppArmor(std::string sys = "/sys", Loader load = {});

  // Whether this kernel confines anything.
  bool enabled() const { return enabled_; }
  // The profile that the spec means; empty: none. The default one is loaded when it is first
  // needed, once by each daemon, for an older one's may differ, and again where it is gone.
  // InvalidArgument: the kernel has no AppArmor, or not that profile; FailedPrecondition: the
  // default profile was asked for and cannot be loaded.
  Result<std::string> ProfileFor(const AppArmorSpec& spec);
  // Why containers that name no profile run without one though the kernel has AppArmor; else empty,
  // also before the first of them.
  std::string Degradation();

 private:
  // Also true where the kernel's list cannot be read: the exec then tells.
  bool IsLoaded(std::string_view profile) const;
  Result<> LoadDefault();

  const std::string profiles_file_;
  const bool enabled_;
  const Loader load_;
  std::mutex mutex_;
  std::optional<Result<>> loaded_;  // the last try; one that failed is made again
};

}  // namespace skiff::runtime

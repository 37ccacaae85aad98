// Texts that the runtime reads from images and users: passwd and group files, seccomp profiles,
// mountinfo, AppArmor's list, and the features and logs of OCI runtimes.
#include <cstdint>

#include "runtime/init/user.h"
#include "runtime/linux/apparmor.h"
#include "runtime/linux/mountinfo.h"
#include "runtime/linux/seccomp.h"
#include "runtime/oci/features.h"
#include "runtime/oci/log.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace skiff::runtime;
  std::string text(reinterpret_cast<const char*>(data), size);
  (void)FindUser({.user = text.substr(0, text.find('\n'))}, text, text);
  (void)FindUser({.user = "root:root"}, text, text);
  (void)CheckPropagationIn(text, "/a/b", MountPropagation::kSlave);
  auto profile = ParseSeccompProfile(text, 0);
  if (profile.ok()) {
    (void)CompileSeccompFilter(*profile);
    CHECK(ParseSeccompProfile(RenderSeccompProfile(*profile), 0).ok());
  }
  (void)LastLogMessage(text);
  (void)ParseOciFeatures(text);
  (void)ListsAppArmorProfile(text, "root");
  return 0;
}

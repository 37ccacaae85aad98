// A container's security context as the runtime takes it: user, capabilities, seccomp, masked
// paths. Reads seccomp profiles that the context names; otherwise pure.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"
#include "proto/cri/runtime/v1/api.pb.h"
#include "runtime/image/image.h"
#include "runtime/spec.h"

namespace skiff::cri {

namespace api = ::runtime::v1;

// What a request asks for makes no sense.
inline Error Invalid(std::string_view what) {
  return Error(Code::kInvalidArgument, std::string(what));
}

inline bool IsAbsolute(std::string_view path) {
  return path.starts_with('/') && path.find('\0') == std::string_view::npos;
}

// Fills in the spec's fields of these matters. InvalidArgument for contradictions.
Result<> PlanSecurity(const api::LinuxContainerSecurityContext& security,
                      const api::PodSandboxConfig& sandbox, const runtime::ImageRunConfig& image,
                      runtime::ContainerSpec* spec);

// The bit set of capabilities: the default ones, with "add" and "drop" applied ("ALL", and names
// with or without "CAP_", in any case). InvalidArgument for unknown names.
Result<uint64_t> PlanCapabilities(const api::Capability& capability);

}  // namespace skiff::cri

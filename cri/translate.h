// CRI messages to what the runtime takes: the one place that knows both. Checked: what comes out
// holds no nonsense, and what cannot be honoured is an error, never dropped in silence
// (docs/cri.md lists every field). Pure.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "cni/network.h"
#include "cri/cdi.h"
#include "proto/cri/runtime/v1/api.pb.h"
#include "runtime/image/image.h"
#include "runtime/spec.h"

namespace skiff::cri {

namespace api = ::runtime::v1;

struct SandboxPlan {
  runtime::SandboxSpec spec;
  bool has_network = false;  // a namespace of its own
  cni::AttachRequest network;
};
// The built-in way by its name; "" means it too.
inline constexpr std::string_view kBuiltinHandler = "skiff";
// handler: the runtime knows which there are.
Result<SandboxPlan> PlanSandbox(const api::PodSandboxConfig& config, std::string_view handler,
                                const std::string& id);

// The files a sandbox's containers share, on the host.
struct SandboxFiles {
  std::string resolv_conf;
  std::string hostname;
  std::string hosts;
};
// The text of resolv.conf for the sandbox; empty when it is to be the node's.
std::string RenderResolvConf(const api::DNSConfig& dns);

// Image volumes are resolved by the caller: the layers of each mount with an image, topmost first,
// by its index in the configuration. So are CDI devices.
struct ContainerContext {
  std::string id;
  std::string sandbox_id;
  const api::PodSandboxConfig& sandbox;
  const runtime::Image& image;
  runtime::OverlayDescription overlay;
  SandboxFiles files;
  std::string target_id;  // the full id of namespace_options.target_id
  std::map<int, std::vector<std::string>> image_mounts;
  CdiEdits devices;
};
Result<runtime::ContainerSpec> PlanContainer(const api::ContainerConfig& config,
                                             const ContainerContext& context);

Result<runtime::ResourceSpec> PlanResources(const api::LinuxContainerResources& resources);

// The program and its arguments: the image's entrypoint and command unless the configuration says
// otherwise.
Result<std::vector<std::string>> PlanCommand(const api::ContainerConfig& config,
                                             const runtime::ImageRunConfig& image);

// "SIGTERM", "TERM", "15", "SIGRTMIN+3". InvalidArgument otherwise.
Result<int> ParseSignal(std::string_view name);
// RUNTIME_DEFAULT where CRI has no name for it.
api::Signal SignalToApi(int number);

}  // namespace skiff::cri

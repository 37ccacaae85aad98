// What CRI shows of sandboxes and containers: pure functions from table entries to messages.
#pragma once

#include "cri/table.h"
#include "proto/cri/runtime/v1/api.pb.h"

namespace skiff::cri {

api::PodSandbox RenderSandbox(const Sandbox& sandbox);
api::PodSandboxStatus RenderSandboxStatus(const Sandbox& sandbox);
api::Container RenderContainer(const Container& container);
api::ContainerStatus RenderContainerStatus(const Container& container);

bool Matches(const api::PodSandboxFilter& filter, const api::PodSandbox& sandbox);
bool Matches(const api::ContainerFilter& filter, const api::Container& container);
// Each selector's label is there with its value.
bool HasLabels(const google::protobuf::Map<std::string, std::string>& labels,
               const google::protobuf::Map<std::string, std::string>& selector);

// Since the epoch, as CRI counts.
int64_t Nanoseconds(WallTime time);

// The image volumes, the sub-paths and such: the "info" of a verbose answer, as JSON.
std::string SandboxInfo(const Sandbox& sandbox);
std::string ContainerInfo(const Container& container);

}  // namespace skiff::cri

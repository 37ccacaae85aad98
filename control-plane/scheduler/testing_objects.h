// Short ways to pods and nodes for the scheduler's tests.
#pragma once

#include <string>

#include "proto/k8s/core/v1/container.pb.h"
#include "proto/k8s/core/v1/node.pb.h"
#include "proto/k8s/core/v1/placement.pb.h"
#include "proto/k8s/core/v1/pod.pb.h"

namespace skiff::cp {

// Empty amounts are left out.
inline void AddContainer(k8s::core::v1::Container& container, const std::string& cpu,
                         const std::string& memory) {
  auto& requests = *container.mutable_resources()->mutable_requests();
  requests.clear();
  if (!cpu.empty()) requests["cpu"].set_string(cpu);
  if (!memory.empty()) requests["memory"].set_string(memory);
}

inline void SetRequests(k8s::core::v1::Pod& pod, const std::string& cpu,
                        const std::string& memory) {
  AddContainer(*pod.mutable_spec()->mutable_containers(0), cpu, memory);
}

inline k8s::core::v1::Pod MakePod(const std::string& name, const std::string& cpu,
                                  const std::string& memory) {
  k8s::core::v1::Pod pod;
  pod.mutable_metadata()->set_namespace_("ns");
  pod.mutable_metadata()->set_name(name);
  pod.mutable_metadata()->set_uid(name);
  pod.mutable_spec()->add_containers()->set_name("main");
  SetRequests(pod, cpu, memory);
  return pod;
}

inline k8s::core::v1::Node MakeNode(const std::string& name, const std::string& cpu,
                                    const std::string& memory, const std::string& pods) {
  k8s::core::v1::Node node;
  node.mutable_metadata()->set_name(name);
  auto& allocatable = *node.mutable_status()->mutable_allocatable();
  allocatable["cpu"].set_string(cpu);
  allocatable["memory"].set_string(memory);
  allocatable["pods"].set_string(pods);
  return node;
}

}  // namespace skiff::cp

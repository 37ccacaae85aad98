// NodeInfo: a node as the scheduler sees it, with the pods that are on it or decided for it.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "control-plane/scheduler/pod_terms.h"
#include "control-plane/scheduler/resources.h"

namespace skiff::cp {

using NodePtr = std::shared_ptr<const k8s::core::v1::Node>;
using PodPtr = std::shared_ptr<const k8s::core::v1::Pod>;

// A port of the host that a container asks for; an empty ip and 0.0.0.0 are every address.
struct HostPort {
  std::string ip;
  std::string protocol;
  int32_t port = 0;
  bool ConflictsWith(const HostPort& other) const;
};
std::vector<HostPort> HostPortsOf(const k8s::core::v1::Pod& pod);

// A value type; sums are kept up to date as pods come and go.
class NodeInfo {
 public:
  // Null while only pods of the node are known.
  const NodePtr& node() const { return node_; }
  void SetNode(NodePtr node);

  void AddPod(const PodPtr& pod);
  // By uid; nothing happens when it is not there.
  void RemovePod(const std::string& uid);
  const std::map<std::string, PodPtr>& pods() const { return pods_; }  // by uid
  // Of those that have any, by uid.
  const std::map<std::string, std::shared_ptr<const PodTerms>>& terms() const { return terms_; }

  const Allocatable& allocatable() const { return allocatable_; }
  const Resources& requested() const { return requested_; }
  const Resources& requested_for_score() const { return requested_for_score_; }
  bool HasPortConflict(const std::vector<HostPort>& ports) const;

 private:
  NodePtr node_;
  Allocatable allocatable_;
  std::map<std::string, PodPtr> pods_;
  Resources requested_;
  Resources requested_for_score_;
  std::map<std::string, std::vector<HostPort>> ports_;  // by pod uid, if it has any
  std::map<std::string, std::shared_ptr<const PodTerms>> terms_;
};

}  // namespace skiff::cp

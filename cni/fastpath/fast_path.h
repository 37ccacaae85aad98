// The fast path: packets of established connections between pods go from one pod's link to the
// other's, or to and from the overlay's VXLAN link, without the node's bridge, routing, connection
// tracking and rules.
//
// The slow path stays what it was and decides. A rule behind all others (in forward) marks packets
// of connections that are established and not translated. BPF programs on the links (packets.bpf.c)
// see the mark where such a packet leaves, and remember how; later packets of the connection leave
// the same way as soon as they come in. docs/design/0004-fast-path.md says what stays on the slow
// path, and why nothing that rules refuse passes.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "base/async/executor.h"
#include "base/net/nft.h"
#include "base/result.h"
#include "cni/fastpath/kernel.h"
#include "cni/pod_links.h"

namespace skiff::cni {

inline net::nft::Table FastPathTable() { return {net::nft::Family::kInet, "skiff-fast-path"}; }
inline constexpr char kFastPathChain[] = "forward";
// Behind the chains of network policies (filter + 10 and + 11), and of most others.
inline constexpr int kFastPathPriority = net::nft::kPriorityFilter + 300;

// Pure: marks what goes out by these links. Puts the table in the place of what there is.
net::nft::Transaction PlanFastPathRules(const std::vector<std::string>& links);

struct FastPathConfig {
  // Whether there is to be one at all; what an earlier process made goes where not.
  bool allowed = true;
  std::string bridge = "skiff0";
  std::vector<std::string> overlay_links = {"skiff-vxlan", "skiff-vxlan6"};
  // Where it is written down what connection tracking's settings were before (tracking.h).
  std::string record;
  // Pods that are gone sooner cost nothing; those that come together are attached together.
  std::chrono::nanoseconds delay = std::chrono::seconds(1);
  std::string sysctl_root = "/proc/sys";
};

// Keeps it in force on this node's links while there are pods, where the kernel can do it.
// Thread-safe; work that takes time is done on the blocking executor. What it made stays when it
// ends, and goes on to work.
class FastPath : public PodLinks {
 public:
  // blocking and nft must outlive it. The network namespace is that of the executor's threads.
  FastPath(Executor& blocking, net::Nft& nft, std::unique_ptr<FastPathKernel> kernel,
           FastPathConfig config);
  ~FastPath() override;

  // Nothing is done before Recovered.
  void Joined(const PodLink& pod) override;
  void Recovered() override;
  void Leaves(const PodLink& pod) override;
  // Whether pods have the built-in network; it is taken away otherwise. True until something else
  // is said.
  void SetWanted(bool wanted);
  // Links to other nodes may have come or gone. They are looked at from time to time anyway.
  void LinksChanged();

  // Packets that took it since this process began; 0 where it is not in force.
  uint64_t Taken() const;

 private:
  class Impl;
  std::shared_ptr<Impl> impl_;
};

// What is left of it once its links are gone: the rules, and connection tracking's setting.
Result<> RemoveFastPath(net::Nft& nft, const FastPathConfig& config);

}  // namespace skiff::cni

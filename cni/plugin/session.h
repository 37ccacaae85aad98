// PluginSession: a network as one run of the plugin has it, alone among all that run at the time.
//
// What is on disk, below "dataDir" (in /run: nothing of it is worth a reboot):
//   NETWORK/lock        held (flock(2)) from the beginning of a run to its end
//   NETWORK/leases/     which attachment has which address and ports (cni/leases.h)
//   NETWORK/node.json   what bridge and rules were made for, in which boot
//   bridges/BRIDGE      the network whose bridge it is
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/os/unique_fd.h"
#include "base/result.h"
#include "cni/bridge_network.h"
#include "cni/leases.h"
#include "cni/plugin/request.h"

namespace skiff::cni {

class PluginSession {
 public:
  // Waits for those that run. interface: in the pod.
  static Result<std::unique_ptr<PluginSession>> Open(const PluginSettings& settings,
                                                     const std::string& interface);
  ~PluginSession();

  // Makes bridge and rules where they are not there for these settings; cheap where they are.
  Result<> SetUp();
  // Whether this network's rules are in force.
  Result<bool> RulesStand();
  // Frees the addresses and ports of pods that went without DEL: their interface went with their
  // namespace.
  Result<> DropDead();
  // ResourceExhausted: no address is left.
  Result<> CheckFree();
  Result<> CheckIptables();

  BridgeNetwork& network() { return *network_; }

 private:
  class Iptables;
  explicit PluginSession(const PluginSettings& settings);
  std::string StampOf(uint32_t mtu) const;
  Result<> ClaimBridge();
  Result<std::vector<Lease>> Leases() const;

  const PluginSettings settings_;
  const std::string directory_;
  std::string boot_id_;
  UniqueFd lock_;  // let go last
  std::unique_ptr<Iptables> iptables_;
  std::unique_ptr<net::Conntrack> conntrack_;
  std::unique_ptr<BridgeNetwork> network_;
};

// What the packet filter's chains of a network are named after.
std::string ChainsOf(const std::string& network);

}  // namespace skiff::cni

// PluginNetwork: the pod network that CNI plugins make, as the configuration in a folder says.
//
// The first configuration of the folder counts (cni/runner/config_directory.h), and the folder is
// watched: a change holds for pods from then on, while those that are there are detached by what
// attached them. What a plugin makes is written down before it runs (cni/runner/attachments.h).
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/net/netns.h"
#include "cni/network.h"
#include "cni/runner/plugin_program.h"

namespace skiff::cni {

struct PluginNetworkConfig {
  std::string config_directory = "/etc/cni/net.d";
  PluginPrograms programs{.directories = {"/opt/cni/bin", "/usr/lib/cni"}};
  // Records of attachments live here and outlive a boot; the directory is made.
  std::string state_dir;
  std::string pod_interface = "eth0";
  // Which boot this is: attachments of another one are undone. Empty: the running kernel's.
  std::string boot_id;
  // Brings a namespace's loopback up. Empty: by the kernel.
  std::function<Result<>(const net::Netns& netns)> set_up_loopback;
};

class PluginNetwork : public PodNetwork {
 public:
  // Reads records and configuration. A configuration that cannot be used is no error: Unready says
  // what is wrong with it. The node's network namespace is that of the thread that calls.
  static Result<std::unique_ptr<PluginNetwork>> Open(PluginNetworkConfig config);
  ~PluginNetwork() override;

  // Whether the folder has a configuration, be it a wrong one.
  bool Configured() const;
  // Called after that changed; from any thread, also within another call. Null: no more, from when
  // this returns.
  void OnChange(std::function<void()> changed);
  // The sandboxes that have records.
  std::vector<std::string> Attached() const;

  // InvalidArgument, NotFound, FailedPrecondition as the interface says; DeadlineExceeded and
  // others as plugins fail, whose errors are told with plugin, command, code and text. That a host
  // port or an address is taken is known to plugins alone, so it has no code of its own.
  Result<Attachment> Attach(const AttachRequest& request) override;
  Result<> Detach(const std::string& sandbox_id) override;
  Result<> Check(const std::string& sandbox_id) override;
  Result<Attachment> Get(const std::string& sandbox_id) const override;
  // What cannot be undone now is logged, and tried again by Reconcile. Then plugins are asked to
  // collect garbage.
  Result<> Recover(const std::vector<std::string>& live_sandbox_ids) override;
  // Told to plugins that ask for "ipRanges".
  Result<> SetPodCidrs(const std::vector<net::IpPrefix>& pod_cidrs,
                       const std::vector<net::IpPrefix>& cluster_cidrs) override;
  // Reads the configuration again where it changed, and asks its plugins for their status.
  Result<> Reconcile() override;
  std::string Unready() const override;

 private:
  class Impl;
  explicit PluginNetwork(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace skiff::cni

#include "tests/support/pod_node.h"

#include <gtest/gtest.h>

namespace skiff::test {

PodNode::PodNode(TestNode& machine, const std::vector<net::IpPrefix>& pod_cidrs,
                 const std::vector<net::IpPrefix>& cluster_cidrs)
    : machine_(machine),
      rules_before_(Rules()),
      pod_cidrs_(pod_cidrs),
      cluster_cidrs_(cluster_cidrs),
      fast_path_config_{.record = state_.path() + "/tracking", .delay = {}} {
  machine_.Run([&] {
    iptables_ = net::SystemIptables::Open().value();
    blocking_ = std::make_unique<ThreadPool>("blocking", 1);
    Open();
  });
}

void PodNode::Open() {
  fast_path_ = std::make_shared<cni::FastPath>(*blocking_, nft_, cni::MakeSystemFastPathKernel(),
                                               fast_path_config_);
  network_ =
      cni::BridgeNetwork::Open({.state_dir = state_.path(), .boot_id = "boot", .links = fast_path_},
                               *iptables_, conntrack_)
          .value();
  network_->SetPodCidrs(pod_cidrs_, cluster_cidrs_).value();
  network_->Recover(attached_).value();
}

void PodNode::Restart(bool fast_path) {
  fast_path_config_.allowed = fast_path;
  machine_.Run([&] {
    network_.reset();
    fast_path_.reset();
    Open();
  });
}

AttachedPod PodNode::Attach(const std::string& name, cni::Bandwidth bandwidth,
                            const std::vector<net::IpAddress>& addresses) {
  AttachedPod pod{.name = name, .netns = TestNetns::Make(), .v4 = {}, .v6 = {}};
  attached_.push_back(name);
  machine_.Run([&] {
    auto attachment = network_->Attach({.sandbox_id = name,
                                        .netns_path = pod.netns->path(),
                                        .pod_name = name,
                                        .requested_addresses = addresses,
                                        .bandwidth = bandwidth});
    ASSERT_TRUE(attachment.ok()) << attachment.error().ToString();
    pod.v4 = attachment->addresses[0].address.ToString();
    pod.v6 = attachment->addresses[1].address.ToString();
  });
  return pod;
}

void PodNode::Detach(const std::string& name) {
  machine_.Run([&] { EXPECT_TRUE(network_->Detach(name).ok()); });
  std::erase(attached_, name);
}

void PodNode::Close(const std::function<void()>& others) {
  machine_.Run([&] {
    for (const std::string& name : attached_) EXPECT_TRUE(network_->Detach(name).ok());
    EXPECT_TRUE(network_->RemoveAll().ok());
    network_.reset();
    fast_path_.reset();
    blocking_.reset();
    EXPECT_TRUE(cni::RemoveFastPath(nft_, fast_path_config_).ok());
    others();
  });
  EXPECT_EQ(Rules(), rules_before_) << "rules are left behind";
}

std::string PodNode::Rules() const {
  return machine_.Shell(
      "(iptables-save; ip6tables-save) | grep '^-A' | sort; nft list tables | grep skiff || true");
}

}  // namespace skiff::test

#include "tests/support/pod_node.h"

#include <gtest/gtest.h>

namespace skiff::test {

PodNode::PodNode(TestNode& machine, const std::vector<net::IpPrefix>& pod_cidrs,
                 const std::vector<net::IpPrefix>& cluster_cidrs)
    : machine_(machine), rules_before_(Rules()) {
  machine_.Run([&] {
    iptables_ = net::SystemIptables::Open().value();
    network_ = cni::BridgeNetwork::Open({.state_dir = state_.path(), .boot_id = "boot"}, *iptables_,
                                        conntrack_)
                   .value();
    network_->SetPodCidrs(pod_cidrs, cluster_cidrs).value();
    blocking_ = std::make_unique<ThreadPool>("blocking", 1);
  });
}

AttachedPod PodNode::Attach(const std::string& name) {
  AttachedPod pod{.name = name, .netns = TestNetns::Make(), .v4 = {}, .v6 = {}};
  attached_.push_back(name);
  machine_.Run([&] {
    auto attachment =
        network_->Attach({.sandbox_id = name, .netns_path = pod.netns->path(), .pod_name = name});
    ASSERT_TRUE(attachment.ok()) << attachment.error().ToString();
    pod.v4 = attachment->addresses[0].address.ToString();
    pod.v6 = attachment->addresses[1].address.ToString();
  });
  return pod;
}

void PodNode::Close(const std::function<void()>& others) {
  blocking_.reset();
  machine_.Run([&] {
    for (const std::string& name : attached_) EXPECT_TRUE(network_->Detach(name).ok());
    EXPECT_TRUE(network_->RemoveAll().ok());
    others();
  });
  EXPECT_EQ(Rules(), rules_before_) << "rules are left behind";
}

std::string PodNode::Rules() const {
  return machine_.Shell(
      "(iptables-save; ip6tables-save) | grep '^-A' | sort; nft list tables | grep skiff || true");
}

}  // namespace skiff::test

#include "agent/node/node_object.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "proto/k8s/core/v1/node.pb.h"

namespace skiff::agent {
namespace {

namespace core = k8s::core::v1;
using std::chrono::seconds;
using ::testing::HasSubstr;

const WallTime kNow = WallTime(seconds(1'000'000));

class NodeObjectTest : public ::testing::Test {
 protected:
  NodeObjectTest() {
    options.node_name = "n1";
    options.node_ips = {"192.0.2.1", "2001:db8::1"};
    options.labels = {{"disk", "ssd"}};
    facts.milli_cpu = 4000;
    facts.memory_bytes = int64_t{8} << 30;
    facts.architecture = "amd64";
    health.runtime_ready = health.network_ready = true;
    health.available_memory_bytes = 1 << 30;
    health.disk_bytes = 100'000'000'000;
    health.available_disk_bytes = 50'000'000'000;
    health.max_pids = 1000;
    health.runtime = {"skiff", "1"};
  }
  core::Node Make(const core::Node* previous = nullptr, WallTime now = kNow) {
    return MakeNode(options, facts, health, previous, now);
  }
  static const core::NodeCondition& Condition(const core::Node& node, const std::string& type) {
    for (const auto& condition : node.status().conditions()) {
      if (condition.type() == type) return condition;
    }
    ADD_FAILURE() << "no condition " << type;
    return core::NodeCondition::default_instance();
  }
  NodeOptions options;
  MachineFacts facts;
  NodeHealth health;
};

TEST_F(NodeObjectTest, SaysWhatTheMachineIs) {
  options.reserved_milli_cpu = 500;
  core::Node node = Make();
  EXPECT_EQ(node.status().capacity().at("cpu").string(), "4");
  EXPECT_EQ(node.status().allocatable().at("cpu").string(), "3500m");
  EXPECT_EQ(node.status().capacity().at("memory").string(), "8Gi");
  EXPECT_EQ(node.status().capacity().at("pods").string(), "110");
  EXPECT_EQ(node.status().addresses(1).address(), "2001:db8::1");
  EXPECT_EQ(node.status().addresses(2).type(), "Hostname");
  EXPECT_EQ(node.metadata().labels().at("disk"), "ssd");
  EXPECT_EQ(node.metadata().labels().at("kubernetes.io/hostname"), "n1");
  EXPECT_EQ(node.status().node_info().container_runtime_version(), "skiff://1");
  EXPECT_EQ(Condition(node, "Ready").status(), "True");
  EXPECT_FALSE(node.status().has_features()) << "the runtime tells of none";
  health.handlers = {{"", true, true}, {"runc", false, true}};
  health.supplemental_groups_policy = true;
  node = Make();
  ASSERT_EQ(node.status().runtime_handlers_size(), 2);
  EXPECT_TRUE(node.status().runtime_handlers(0).features().user_namespaces());
  EXPECT_EQ(node.status().runtime_handlers(1).name(), "runc");
  EXPECT_FALSE(node.status().runtime_handlers(1).features().user_namespaces());
  EXPECT_TRUE(node.status().features().supplemental_groups_policy());
}

TEST_F(NodeObjectTest, ReadyNeedsRuntimeAndNetwork) {
  health.network_ready = false;
  health.network_message = "container runtime network not ready: no pod CIDR";
  core::Node node = Make();
  EXPECT_EQ(Condition(node, "Ready").status(), "False");
  EXPECT_EQ(Condition(node, "Ready").reason(), "KubeletNotReady");
  EXPECT_THAT(Condition(node, "Ready").message(), HasSubstr("no pod CIDR"));
}

TEST_F(NodeObjectTest, PressuresHaveThresholds) {
  EXPECT_EQ(Condition(Make(), "DiskPressure").status(), "False");
  health.available_disk_bytes = health.disk_bytes / 20;
  health.available_memory_bytes = 50 << 20;
  health.used_pids = 950;
  core::Node node = Make();
  for (const char* type : {"MemoryPressure", "DiskPressure", "PIDPressure"}) {
    EXPECT_EQ(Condition(node, type).status(), "True") << type;
  }
}

TEST_F(NodeObjectTest, OnlyNewsDiffers) {
  core::Node first = Make();
  core::Node later = Make(&first, kNow + seconds(60));
  EXPECT_FALSE(NodeDiffers(first, later)) << "a heartbeat is no news";
  EXPECT_EQ(Condition(later, "Ready").last_transition_time().seconds(), 1'000'000);
  EXPECT_EQ(Condition(later, "Ready").last_heartbeat_time().seconds(), 1'000'060);
  health.runtime_ready = false;
  core::Node broken = Make(&later, kNow + seconds(90));
  EXPECT_TRUE(NodeDiffers(later, broken));
  EXPECT_EQ(Condition(broken, "Ready").last_transition_time().seconds(), 1'000'090);
}

TEST_F(NodeObjectTest, TellsOfTheOverlay) {
  options.pod_mtu = 1450;
  options.wireguard_key = "key";
  options.overlay = NodeOptions::Overlay{true, "PeersSilent", "nobody answers"};
  core::Node node = Make();
  EXPECT_EQ(node.metadata().annotations().at(kPodMtuAnnotation), "1450");
  EXPECT_EQ(node.metadata().annotations().at(kWireguardKeyAnnotation), "key");
  EXPECT_EQ(Condition(node, "OverlayDegraded").status(), "True");
  EXPECT_EQ(Condition(node, "OverlayDegraded").reason(), "PeersSilent");
}

TEST(FactsTest, ThisMachineHasSome) {
  MachineFacts facts = ReadMachineFacts();
  EXPECT_GT(facts.milli_cpu, 0);
  EXPECT_GT(facts.memory_bytes, 0);
  EXPECT_FALSE(facts.kernel_version.empty());
  EXPECT_FALSE(facts.boot_id.empty());
}

}  // namespace
}  // namespace skiff::agent

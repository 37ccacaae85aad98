// Limits of pods' bandwidth on the real kernel: what a pod sends and receives, measured.
#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <future>
#include <iostream>

#include "base/net/conntrack.h"
#include "base/net/iptables.h"
#include "base/os/files.h"
#include "cni/bridge_network.h"
#include "cni/shaper.h"
#include "tests/support/needs.h"
#include "tests/support/netns.h"

namespace skiff::cni {
namespace {

using std::chrono::duration;
using std::chrono::steady_clock;
using test::TestNetns;
using test::TestNode;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr uint16_t kPort = 7000;
constexpr double kLimit = 10e6;       // bits per second
constexpr size_t kBytes = 2'500'000;  // two seconds at the limit

sockaddr_in SocketAddressOf(const std::string& address) {
  sockaddr_in made{.sin_family = AF_INET, .sin_port = htons(kPort)};
  CHECK(inet_pton(AF_INET, address.c_str(), &made.sin_addr) == 1);
  return made;
}

class BandwidthTest : public ::testing::Test {
 protected:
  void SetUp() override {
    SKIFF_NEEDS(test::Need::kRoot, test::Need::kIptables, test::Need::kConntrack,
                test::Need::kShaping);
    node_ = TestNode::Make("node");
    outside_ = TestNode::Make("outside");
    Connect(*node_, {"10.200.0.1/24"}, *outside_, {"10.200.0.2/24"});
    node_->Shell("ip route add default via 10.200.0.2");
    outside_->Shell("ip route add 10.201.1.0/24 via 10.200.0.1");
    node_->Run([this] { iptables_ = net::SystemIptables::Open().value(); });
    Open();
  }
  void TearDown() override {
    if (!network_) return;
    node_->Run([this] {
      for (const char* id : {"slow", "free"}) EXPECT_TRUE(network_->Detach(id).ok());
      EXPECT_TRUE(network_->RemoveAll().ok());
    });
    EXPECT_THAT(Links(), Not(HasSubstr("ifb"))) << "links are left behind";
  }

  // A new daemon on the same state.
  void Open() {
    node_->Run([this] {
      network_.reset();
      network_ = BridgeNetwork::Open({.state_dir = state_.path(), .boot_id = "boot"}, *iptables_,
                                     conntrack_)
                     .value();
      network_->SetPodCidrs({net::IpPrefix::Parse("10.201.1.0/24").value()}, {}).value();
    });
  }
  std::string Attach(const std::string& id, const TestNetns& netns, Bandwidth bandwidth) {
    std::string address;
    node_->Run([&] {
      auto attached =
          network_->Attach({.sandbox_id = id, .netns_path = netns.path(), .bandwidth = bandwidth});
      ASSERT_TRUE(attached.ok()) << attached.error().ToString();
      address = attached->addresses[0].address.ToString();
    });
    return address;
  }
  std::string Links() { return node_->Shell("ip -o link | sed 's/^[0-9]*: //;s/[:@].*//' | sort"); }

  using In = std::function<void(const std::function<void()>&)>;  // runs work in a namespace
  // Bits per second that a connection carries from one namespace to an address in another.
  static double Measure(const In& sender, const In& receiver, const std::string& address) {
    UniqueFd listening;
    receiver([&] {
      listening = UniqueFd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
      int on = 1;
      ::setsockopt(listening.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
      sockaddr_in any = SocketAddressOf("0.0.0.0");
      ASSERT_EQ(::bind(listening.get(), reinterpret_cast<sockaddr*>(&any), sizeof any), 0);
      ASSERT_EQ(::listen(listening.get(), 1), 0);
    });
    auto seconds = std::async(std::launch::async, [&] {
      UniqueFd connection(::accept4(listening.get(), nullptr, nullptr, SOCK_CLOEXEC));
      auto start = steady_clock::now();
      std::vector<char> buffer(1 << 16);
      while (::read(connection.get(), buffer.data(), buffer.size()) > 0) continue;
      return duration<double>(steady_clock::now() - start).count();
    });
    sender([&] {
      UniqueFd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
      sockaddr_in to = SocketAddressOf(address);
      EXPECT_EQ(::connect(socket.get(), reinterpret_cast<sockaddr*>(&to), sizeof to), 0);
      std::string bytes(kBytes, 'x');
      size_t sent = 0;
      while (sent < bytes.size()) {
        ssize_t some = ::send(socket.get(), bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL);
        if (some <= 0) break;
        sent += static_cast<size_t>(some);
      }
      EXPECT_EQ(sent, bytes.size());
    });
    double rate = kBytes * 8 / seconds.get();
    std::cout << static_cast<int>(rate / 1000) << " kbit/s\n";
    return rate;
  }
  static In Within(const TestNetns& pod) {
    return [&pod](const std::function<void()>& work) { pod.Run(work); };
  }
  static In Within(TestNode& node) {
    return [&node](const std::function<void()>& work) { node.Run(work); };
  }

  TempDir state_ = TempDir::Make().value();
  net::SystemConntrack conntrack_;
  std::unique_ptr<TestNode> node_, outside_;
  std::unique_ptr<net::SystemIptables> iptables_;
  std::unique_ptr<BridgeNetwork> network_;
};

// A burst of a tenth of a second passes at once; a busy machine is slower, never faster.
MATCHER(IsHeld, "") { return arg < kLimit * 1.2 && arg > kLimit / 5; }

TEST_F(BandwidthTest, BothDirectionsAreHeld) {
  auto slow = TestNetns::Make(), free = TestNetns::Make();
  std::string slow_address =
      Attach("slow", *slow, {.ingress_bits = 10'000'000, .egress_bits = 10'000'000});
  std::string free_address = Attach("free", *free, {});
  EXPECT_THAT(Measure(Within(*outside_), Within(*slow), slow_address), IsHeld());
  EXPECT_THAT(Measure(Within(*slow), Within(*outside_), "10.200.0.2"), IsHeld());
  EXPECT_GT(Measure(Within(*outside_), Within(*free), free_address), kLimit * 2);
  EXPECT_GT(Measure(Within(*free), Within(*outside_), "10.200.0.2"), kLimit * 2);
}

TEST_F(BandwidthTest, OneDirectionAlone) {
  auto slow = TestNetns::Make();
  std::string address = Attach("slow", *slow, {.egress_bits = 10'000'000});
  EXPECT_THAT(Measure(Within(*slow), Within(*outside_), "10.200.0.2"), IsHeld());
  EXPECT_GT(Measure(Within(*outside_), Within(*slow), address), kLimit * 2);
}

TEST_F(BandwidthTest, WhatWasMadeIsRemovedByTheRecord) {
  auto slow = TestNetns::Make();
  Bandwidth bandwidth{.ingress_bits = 1'000, .egress_bits = 1'000'000'000'000'000};
  Attach("slow", *slow, bandwidth);
  EXPECT_THAT(Links(), HasSubstr("ifb"));
  std::string links = Links();
  Attach("slow", *slow, bandwidth);
  EXPECT_EQ(Links(), links) << "asked twice";
  // Of a sandbox that is gone when the daemon comes back.
  Open();
  node_->Run([this] { EXPECT_TRUE(network_->Recover({}).ok()); });
  EXPECT_THAT(Links(), Not(HasSubstr("ifb")));
  // Of a record that was lost.
  Attach("slow", *slow, bandwidth);
  node_->Shell("ip link add ifb-foreign type ifb");
  const std::string records = state_.path() + "/leases/boot/";
  const std::vector<std::string> files = ListDirectory(records).value();
  for (const std::string& file : files) {
    ASSERT_EQ(::unlink((records + file).c_str()), 0);
  }
  Open();
  node_->Run([this] { EXPECT_TRUE(network_->Recover({}).ok()); });
  EXPECT_EQ(node_->Shell("ip -o link | grep -c ifb"), "1\n") << Links();
  EXPECT_THAT(Links(), HasSubstr("ifb-foreign")) << "others' links stay";
  node_->Shell("ip link del ifb-foreign");
}

}  // namespace
}  // namespace skiff::cni

// TestNode: a machine for tests, as far as the network goes: a network namespace with a mount
// namespace of its own (an empty /run) and a thread living in both.
//
//   auto node = TestNode::Make("node");
//   auto client = TestNode::Make("client");
//   Connect(*client, "10.200.0.1/24", *node, "10.200.0.2/24");
//   node->Run([&] { ... EXPECT_TRUE(...); });
//
// Namespaces are held by descriptors only, so nothing is left behind however the test ends.
// Failures to set up end the test program: there is nothing to test then.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/net/netns.h"
#include "base/os/spawn.h"
#include "base/os/unique_fd.h"
#include "base/result.h"

namespace skiff::test {

class TestNode {
 public:
  static std::unique_ptr<TestNode> Make(const std::string& name);
  ~TestNode();

  // Runs the work on the node's thread and waits for it. EXPECT_ works inside; ASSERT_ returns from
  // the work only. Threads started inside live in the node too.
  void Run(const std::function<void()>& work);
  // Runs a program in the node, found in the usual directories; standard error follows the output.
  struct Output {
    int code = 0;
    std::string text;
  };
  Output Program(const std::vector<std::string>& argv, std::string_view input = {});
  // As Program, with a shell; fails the test where the command fails. Returns its output.
  std::string Shell(const std::string& command);

  const std::string& name() const { return name_; }
  const net::Netns& netns() const { return *netns_; }
  // A path that names the namespace within this process.
  std::string netns_path() const;

 private:
  class Thread;
  TestNode(std::string name, std::unique_ptr<Thread> thread);
  std::string name_;
  std::unique_ptr<Thread> thread_;
  std::unique_ptr<net::Netns> netns_;
};

// A veth pair between two nodes, up, with these addresses ("10.200.0.1/24"; none: no address).
// Interfaces are named after the peer. Returns when both ends carry traffic.
void Connect(TestNode& a, const std::vector<std::string>& a_addresses, TestNode& b,
             const std::vector<std::string>& b_addresses);

// A node with the addresses 10.200.0.1 and fd00:200::1, and the machine outside that its default
// routes lead to, .2 and ::2.
std::pair<std::unique_ptr<TestNode>, std::unique_ptr<TestNode>> MakeNodeAndOutside();

// An empty network namespace as a container runtime makes it, with loopback down.
class TestNetns {
 public:
  static std::unique_ptr<TestNetns> Make();
  std::string path() const;
  const net::Netns& netns() const { return *netns_; }
  // Runs the work on a thread of its own inside the namespace.
  void Run(const std::function<void()>& work) const;
  // As TestNode::Shell.
  std::string Shell(const std::string& command) const;

 private:
  explicit TestNetns(std::unique_ptr<net::Netns> netns) : netns_(std::move(netns)) {}
  std::unique_ptr<net::Netns> netns_;
};

}  // namespace skiff::test

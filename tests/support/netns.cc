#include "tests/support/netns.h"

#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <unistd.h>

#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>

#include "base/net/rtnl.h"

namespace skiff::test {
namespace {

std::string FdPath(int fd) {
  return "/proc/" + std::to_string(getpid()) + "/fd/" + std::to_string(fd);
}

// In a new thread: everything it starts lives in the namespaces too.
void EnterNewNode() {
  CHECK(unshare(CLONE_NEWNET | CLONE_NEWNS) == 0);
  CHECK(mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0);
  // The lock file of legacy iptables is machine-wide otherwise.
  CHECK(mount("tmpfs", "/run", "tmpfs", MS_NOSUID | MS_NODEV, "size=16m") == 0);
}

std::string FindInPath(const std::string& program) {
  if (program.starts_with('/')) return program;
  for (const char* directory : {"/usr/sbin/", "/usr/bin/", "/sbin/", "/bin/"}) {
    if (access((directory + program).c_str(), X_OK) == 0) return directory + program;
  }
  return program;
}

// In the calling thread's namespaces.
TestNode::Output RunHere(const std::vector<std::string>& argv, std::string_view input) {
  SpawnRequest request{.path = FindInPath(argv.at(0)),
                       .argv = argv,
                       .env = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}};
  auto ran = RunProgram(std::move(request), input);
  if (!ran.ok()) return {127, ran.error().ToString()};
  return {ran->status.ShellCode(), ran->out + ran->err};
}

}  // namespace

class TestNode::Thread {
 public:
  Thread() : thread_([this] { Loop(); }) {}
  ~Thread() {
    {
      std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }
  void Run(const std::function<void()>& work) {
    if (std::this_thread::get_id() == thread_.get_id()) return work();
    std::unique_lock lock(mutex_);
    bool done = false;
    queue_.push_back([&] {
      work();
      std::lock_guard finished(mutex_);
      done = true;
      changed_.notify_all();
    });
    changed_.notify_all();
    changed_.wait(lock, [&] { return done; });
  }

 private:
  void Loop() {
    EnterNewNode();
    std::unique_lock lock(mutex_);
    for (;;) {
      changed_.wait(lock, [this] { return stopping_ || !queue_.empty(); });
      if (queue_.empty()) return;
      std::function<void()> work = std::move(queue_.front());
      queue_.pop_front();
      lock.unlock();
      work();
      lock.lock();
    }
  }
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> queue_;
  bool stopping_ = false;
  std::thread thread_;
};

TestNode::TestNode(std::string name, std::unique_ptr<Thread> thread)
    : name_(std::move(name)), thread_(std::move(thread)) {
  Run([this] {
    netns_ = std::make_unique<net::Netns>(net::Netns::Current().value());
    net::Rtnl rtnl = net::Rtnl::Open().value();
    rtnl.Apply(net::rtnl::SetUp(rtnl.LinkIndex("lo").value(), true)).value();
  });
}

std::unique_ptr<TestNode> TestNode::Make(const std::string& name) {
  return std::unique_ptr<TestNode>(new TestNode(name, std::make_unique<Thread>()));
}

TestNode::~TestNode() = default;

void TestNode::Run(const std::function<void()>& work) { thread_->Run(work); }

TestNode::Output TestNode::Program(const std::vector<std::string>& argv, std::string_view input) {
  Output output;
  Run([&] { output = RunHere(argv, input); });
  return output;
}

std::string TestNode::Shell(const std::string& command) {
  Output output = Program({"sh", "-c", command});
  EXPECT_EQ(output.code, 0) << name_ << "$ " << command << "\n" << output.text;
  return output.text;
}

std::string TestNode::netns_path() const { return FdPath(netns_->fd()); }

std::pair<std::unique_ptr<TestNode>, std::unique_ptr<TestNode>> MakeNodeAndOutside() {
  auto node = TestNode::Make("node"), outside = TestNode::Make("outside");
  Connect(*node, {"10.200.0.1/24", "fd00:200::1/64"}, *outside,
          {"10.200.0.2/24", "fd00:200::2/64"});
  node->Shell("ip route add default via 10.200.0.2; ip -6 route add default via fd00:200::2");
  return {std::move(node), std::move(outside)};
}

void Connect(TestNode& a, const std::vector<std::string>& a_addresses, TestNode& b,
             const std::vector<std::string>& b_addresses) {
  a.Run([&] {
    net::Rtnl rtnl = net::Rtnl::Open().value();
    rtnl.Apply(net::rtnl::CreateVeth(
                   {.name = b.name(), .peer_name = a.name(), .peer_netns = b.netns().fd()}))
        .value();
  });
  b.Shell("ip link set " + a.name() + " up");
  for (const std::string& address : a_addresses) {
    a.Shell("ip address add " + address + " dev " + b.name() + " nodad");
  }
  for (const std::string& address : b_addresses) {
    b.Shell("ip address add " + address + " dev " + a.name() + " nodad");
  }
}

std::unique_ptr<TestNetns> TestNetns::Make() {
  std::unique_ptr<net::Netns> netns;
  std::thread([&netns] {
    CHECK(unshare(CLONE_NEWNET) == 0);
    netns = std::make_unique<net::Netns>(net::Netns::Current().value());
  }).join();
  return std::unique_ptr<TestNetns>(new TestNetns(std::move(netns)));
}

std::string TestNetns::path() const { return FdPath(netns_->fd()); }

void TestNetns::Run(const std::function<void()>& work) const {
  std::thread([&] {
    CHECK(setns(netns_->fd(), CLONE_NEWNET) == 0);
    work();
  }).join();
}

std::string TestNetns::Shell(const std::string& command) const {
  TestNode::Output output;
  Run([&] { output = RunHere({"sh", "-c", command}, {}); });
  EXPECT_EQ(output.code, 0) << "pod$ " << command << "\n" << output.text;
  return output.text;
}

}  // namespace skiff::test

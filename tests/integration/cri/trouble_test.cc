// What befalls a node besides a death at a failpoint (recovery_loop_test.cc): the machine reboots,
// state is lost, the disk is full, a supervisor or a container stands still, clients give up and
// ask again, and everybody is in each other's way.

// clang-format off: first, since <signal.h> has macros named as CRI's signals.
#include "tests/integration/cri/node_under_test.h"
// clang-format on

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <random>
#include <set>
#include <thread>

#include "base/os/spawn.h"

namespace skiff::test {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Lt;
using ::testing::SizeIs;

constexpr const char* kBootId = "/proc/sys/kernel/random/boot_id";

class TroubleTest : public ::testing::Test {
 protected:
  void SetUp() override {
    work_ = std::make_unique<TempDir>(TempDir::Make("skiff-trouble").value());
    // Of its own, so that it can be full.
    ASSERT_EQ(::mount("tmpfs", work_->path().c_str(), "tmpfs", 0, "size=64m"), 0);
    node_ = std::make_unique<NodeUnderTest>(work_->path());
    ASSERT_NO_FATAL_FAILURE(node_->Start());
    pod_ = std::make_unique<PodClient>(*node_);
    pod_->set_host_port(18080);
    ExpectOk(pod_->Pull());
    BringUp(*pod_);
    CleanUp(*pod_);
    ASSERT_TRUE(InterfacesSettled(*node_));
    leaks_ = std::make_unique<LeakCheck>(NodeScope(*node_));
    rules_ = Rules();
  }

  void TearDown() override {
    if (node_->alive()) {
      CleanUp(*pod_);
      EXPECT_THAT(leaks_->Differences(seconds(10)), IsEmpty());
      EXPECT_EQ(Rules(), rules_);
    }
    if (HasFailure()) std::printf("%s\n", node_->Log().c_str());
    node_.reset();
    ASSERT_EQ(::umount2(work_->path().c_str(), MNT_DETACH), 0);
  }

  static void BringUp(PodClient& pod) {
    ExpectOk(pod.RunSandbox());
    ExpectOk(pod.CreateContainer());
    ExpectOk(pod.StartContainer());
  }

  static void CleanUp(PodClient& pod) {
    if (!pod.sandbox().empty()) {
      ExpectOk(pod.StopSandbox());
      ExpectOk(pod.RemoveSandbox());
    }
    EXPECT_THAT(pod.Sandboxes(), IsEmpty());
    EXPECT_THAT(pod.Containers(), IsEmpty());
    pod.Forget();
  }

  static pid_t ParentOf(pid_t pid) {
    std::string text = ReadFile("/proc/" + std::to_string(pid) + "/stat").value_or(") S 0");
    return std::atoi(text.c_str() + text.rfind(')') + 4);
  }

  // All that runs, and the mounts, go; files on disk stay.
  void LoseAllProcesses() {
    pid_t pause = pod_->PausePid();
    pid_t container = pod_->ContainerPid();
    pid_t shim = ParentOf(pause);
    ASSERT_GT(shim, 1);
    node_->Kill();
    for (pid_t pid : {shim, pause, container}) EXPECT_EQ(::kill(pid, SIGKILL), 0);
    const std::string folder = node_->root() + "/netns";
    const std::vector<std::string> pinned = ListDirectory(folder).value();
    for (const std::string& name : pinned) {
      EXPECT_EQ(::umount2((folder + "/" + name).c_str(), MNT_DETACH), 0);
    }
  }

  // Whether an exec has a cgroup, in any hierarchy.
  static bool HasExecCgroup() {
    std::error_code gone;  // folders go while they are listed
    for (std::filesystem::recursive_directory_iterator at("/sys/fs/cgroup", gone), end; at != end;
         at.increment(gone)) {
      if (at->path().filename().string().starts_with("exec-")) return true;
    }
    return false;
  }

  static std::chrono::steady_clock::duration TimeOf(const std::function<void()>& work) {
    auto begin = std::chrono::steady_clock::now();
    work();
    return std::chrono::steady_clock::now() - begin;
  }

  std::unique_ptr<TempDir> work_;
  std::unique_ptr<NodeUnderTest> node_;
  std::unique_ptr<PodClient> pod_;
  std::unique_ptr<LeakCheck> leaks_;
  std::string rules_;
};

TEST_F(TroubleTest, ARebootVoidsAllRecords) {
  BringUp(*pod_);
  ASSERT_NO_FATAL_FAILURE(LoseAllProcesses());
  for (const char* table : {"nat", "filter"}) {
    for (const char* what : {"-F", "-X"}) {
      SpawnRequest request{.path = "/usr/sbin/iptables", .argv = {"iptables", "-t", table, what}};
      ASSERT_TRUE(RunProgram(request).value().status.Success());
    }
  }
  const std::string another = node_->root() + "/boot_id";
  ASSERT_TRUE(WriteFileAtomic(another, "11111111-2222-3333-4444-555555555555\n").ok());
  ASSERT_EQ(::mount(another.c_str(), kBootId, nullptr, MS_BIND, nullptr), 0);
  node_->Start();
  EXPECT_THAT(pod_->Sandboxes(), IsEmpty());
  EXPECT_THAT(pod_->Containers(), IsEmpty());
  EXPECT_TRUE(pod_->HasImage());
  EXPECT_EQ(Rules(), rules_);
  // Name and host port are free.
  BringUp(*pod_);
  ExpectOk(pod_->Exec());
  CleanUp(*pod_);
  // The first boot again, for the sake of the comparison.
  node_->Kill();
  ASSERT_EQ(::umount2(kBootId, MNT_DETACH), 0);
  ASSERT_TRUE(RemoveFile(another).ok());
  node_->Start();
}

TEST_F(TroubleTest, LostStateLeavesNothingRunning) {
  BringUp(*pod_);
  node_->Kill();
  // As by a tmpfs that somebody cleared: what is left runs without a record.
  for (const char* part : {"/runtime", "/cri"}) {
    ASSERT_TRUE(RemoveTree(node_->root() + part).ok());
  }
  node_->Start();
  EXPECT_THAT(pod_->Sandboxes(), IsEmpty());
  BringUp(*pod_);
  ExpectOk(pod_->Exec());
}

TEST_F(TroubleTest, AFullDiskIsAnErrorAndNoMore) {
  BringUp(*pod_);
  PodClient other(*node_, "other");
  const std::string filler = node_->root() + "/filler";
  struct statvfs free;
  ASSERT_EQ(::statvfs(node_->root().c_str(), &free), 0);
  UniqueFd file = OpenFile(filler, O_WRONLY | O_CREAT).value();
  ASSERT_EQ(::posix_fallocate(file.get(), 0, static_cast<off_t>(free.f_bavail * free.f_frsize)), 0);
  grpc::Status full = other.RunSandbox();
  EXPECT_FALSE(full.ok());
  EXPECT_THAT(full.error_message(), HasSubstr("ENOSPC"));
  pod_->NextContainerAttempt();
  full = pod_->CreateContainer();
  EXPECT_FALSE(full.ok());
  EXPECT_THAT(full.error_message(), HasSubstr("ENOSPC"));
  // What runs goes on, what is there can be stopped, and a daemon starts.
  ExpectOk(pod_->Exec());
  node_->Kill();
  node_->Start();
  ExpectOk(pod_->Exec());
  ExpectOk(pod_->StopContainer());
  EXPECT_EQ(pod_->ContainerState(), api::CONTAINER_EXITED);
  ExpectOk(pod_->RemoveContainer());
  ASSERT_TRUE(RemoveFile(filler).ok());
  file.Reset();
  ExpectOk(pod_->CreateContainer());
  ExpectOk(pod_->StartContainer());
  ExpectOk(pod_->Exec());
  ExpectOk(other.RunSandbox());
  ExpectOk(other.RemoveSandbox());
}

TEST_F(TroubleTest, AStuckSupervisorHoldsNobodyElseUp) {
  BringUp(*pod_);
  PodClient other(*node_, "other");
  BringUp(other);
  pid_t shim = ParentOf(pod_->PausePid());
  ASSERT_EQ(::kill(shim, SIGSTOP), 0);
  // Its own container dies in its time, though nobody says so.
  std::thread stop(
      [&] { EXPECT_THAT(TimeOf([&] { ExpectOk(pod_->StopContainer(1)); }), Lt(seconds(8))); });
  EXPECT_THAT(TimeOf([&] {
                EXPECT_THAT(pod_->Sandboxes(), SizeIs(2));
                EXPECT_THAT(pod_->Containers(), SizeIs(2));
                ExpectOk(pod_->Stats());
                ExpectOk(other.Exec());
                ExpectOk(other.StopContainer());
                ExpectOk(other.StopSandbox());
                ExpectOk(other.RemoveSandbox());
              }),
              Lt(seconds(3)));
  stop.join();
  EXPECT_EQ(pod_->ContainerState(), api::CONTAINER_EXITED);
  ExpectOk(pod_->RemoveContainer());
  // The pod goes without its supervisor's help.
  EXPECT_THAT(TimeOf([&] { ExpectOk(pod_->StopSandbox()); }), Lt(seconds(20)));
}

grpc::Status ExecWithTimeout(NodeUnderTest& node, const std::string& container, int64_t timeout) {
  api::ExecSyncRequest request;
  request.set_container_id(container);
  for (const char* word : {"/bin/busybox", "sleep", "1000"}) request.add_cmd(word);
  request.set_timeout(timeout);
  api::ExecSyncResponse response;
  return Call(node.runtime(), &api::RuntimeService::Stub::ExecSync, request, &response);
}

TEST_F(TroubleTest, AnExecOfAStuckSupervisorEndsAtItsTimeout) {
  BringUp(*pod_);
  const pid_t shim = ParentOf(pod_->PausePid());
  // One that runs already when the supervisor stands still, and one that comes after.
  std::thread running([&] {
    const auto took = TimeOf([&] {
      const grpc::Status late = ExecWithTimeout(*node_, pod_->container(), 2);
      EXPECT_EQ(late.error_code(), grpc::DEADLINE_EXCEEDED) << late.error_message();
    });
    EXPECT_THAT(took, Lt(seconds(8)));
  });
  EXPECT_TRUE(Eventually([&] { return HasExecCgroup(); }));
  ASSERT_EQ(::kill(shim, SIGSTOP), 0);
  running.join();
  const auto took = TimeOf([&] {
    const grpc::Status late = ExecWithTimeout(*node_, pod_->container(), 1);
    EXPECT_EQ(late.error_code(), grpc::DEADLINE_EXCEEDED) << late.error_message();
  });
  EXPECT_THAT(took, Lt(seconds(8)));
  ASSERT_EQ(::kill(shim, SIGCONT), 0);
  // What it was asked to start meanwhile has no place any more; it works on.
  ExpectOk(pod_->Exec());
  EXPECT_TRUE(Eventually([&] { return !HasExecCgroup(); }));
}

TEST_F(TroubleTest, ASupervisorThatReadsNothingIsWaitedForOnlySoLong) {
  BringUp(*pod_);
  const pid_t shim = ParentOf(pod_->PausePid());
  ASSERT_EQ(::kill(shim, SIGSTOP), 0);
  // More than its socket's queue takes.
  constexpr int kClients = 100, kEach = 8;
  std::vector<std::thread> clients;
  const auto took = TimeOf([&] {
    for (int client = 0; client < kClients; ++client) {
      clients.emplace_back([&] {
        for (int each = 0; each < kEach; ++each) {
          const grpc::Status late = ExecWithTimeout(*node_, pod_->container(), 1);
          EXPECT_EQ(late.error_code(), grpc::DEADLINE_EXCEEDED) << late.error_message();
        }
      });
    }
    for (std::thread& client : clients) client.join();
  });
  EXPECT_THAT(took, Lt(seconds(55)));
  ASSERT_EQ(::kill(shim, SIGCONT), 0);
  EXPECT_TRUE(Eventually([&] { return pod_->Exec().ok(); }, seconds(30)));
}

TEST_F(TroubleTest, AStoppedProcessIsKilled) {
  BringUp(*pod_);
  ASSERT_EQ(::kill(pod_->ContainerPid(), SIGSTOP), 0);
  EXPECT_THAT(TimeOf([&] { ExpectOk(pod_->StopContainer(1)); }), Lt(seconds(4)));
  EXPECT_EQ(pod_->ContainerState(), api::CONTAINER_EXITED);
}

// A cgroup that can freeze the process: version 1's freezer, else version 2's own.
class Freezer {
 public:
  explicit Freezer(pid_t pid) {
    if (PathExists("/sys/fs/cgroup/freezer/freezer.state") ||
        PathExists("/sys/fs/cgroup/freezer/cgroup.procs")) {
      directory_ = "/sys/fs/cgroup/freezer/skiff-trouble-" + std::to_string(::getpid());
      CHECK(MakeDirectories(directory_).ok());
      CHECK(WriteControlFile(directory_ + "/cgroup.procs", std::to_string(pid)).ok());
      CHECK(WriteControlFile(directory_ + "/freezer.state", "FROZEN").ok());
      return;
    }
    std::string own = ReadFile("/proc/" + std::to_string(pid) + "/cgroup").value();
    own = own.substr(own.rfind("0::") + 3);
    own.pop_back();
    CHECK(WriteControlFile("/sys/fs/cgroup" + own + "/cgroup.freeze", "1").ok());
  }
  ~Freezer() {
    if (directory_.empty()) return;
    EXPECT_EQ(::rmdir(directory_.c_str()), 0);
  }

 private:
  std::string directory_;
};

TEST_F(TroubleTest, AFrozenContainerIsStopped) {
  BringUp(*pod_);
  Freezer frozen(pod_->ContainerPid());
  EXPECT_THAT(TimeOf([&] { ExpectOk(pod_->StopContainer(1)); }), Lt(seconds(8)));
  EXPECT_EQ(pod_->ContainerState(), api::CONTAINER_EXITED);
}

TEST_F(TroubleTest, AFrozenPodIsRemoved) {
  BringUp(*pod_);
  Freezer frozen(pod_->ContainerPid());
  EXPECT_THAT(TimeOf([&] { ExpectOk(pod_->StopSandbox()); }), Lt(seconds(8)));
  ExpectOk(pod_->RemoveSandbox());
}

TEST_F(TroubleTest, AKilledPauseEndsThePod) {
  BringUp(*pod_);
  ASSERT_EQ(::kill(pod_->PausePid(), SIGKILL), 0);
  EXPECT_TRUE(Eventually([&] { return !pod_->SandboxIsReady(); }));
  CleanUp(*pod_);
  pod_->NextSandboxAttempt();
  BringUp(*pod_);
}

TEST_F(TroubleTest, TheSameRequestsAtOnceAreOne) {
  auto at_once = [&](auto call, auto id) {
    std::vector<std::thread> clients;
    std::vector<PodClient> pods(8, *pod_);
    for (PodClient& pod : pods) clients.emplace_back([&] { ExpectOk((pod.*call)()); });
    for (std::thread& client : clients) client.join();
    for (PodClient& pod : pods) EXPECT_EQ((pod.*id)(), (pods[0].*id)());
    return pods[0];
  };
  ExpectOk(pod_->RunSandbox());
  *pod_ = at_once(&PodClient::CreateContainer, &PodClient::container);
  *pod_ = at_once(&PodClient::StartContainer, &PodClient::container);
  EXPECT_THAT(pod_->Containers(), SizeIs(1));
  at_once(&PodClient::Exec, &PodClient::container);
  at_once(&PodClient::RemoveContainer, &PodClient::container);
  at_once(&PodClient::StopSandbox, &PodClient::sandbox);
  at_once(&PodClient::RemoveSandbox, &PodClient::sandbox);
}

TEST_F(TroubleTest, AClientThatGaveUpAsksAgain) {
  for (int patience_ms : {1, 2, 3, 5, 8, 13, 21, 34}) {
    (void)pod_->RunSandbox(milliseconds(patience_ms));
    // The first call may run on; its answer is this one's too.
    ExpectOk(pod_->RunSandbox());
    EXPECT_THAT(pod_->Sandboxes(), SizeIs(1));
    EXPECT_TRUE(pod_->SandboxIsReady());
    CleanUp(*pod_);
  }
}

// One makes pods, others stop and remove whatever they see: nobody waits for ever, nobody's call
// that succeeded leaves something that is not listed.
TEST_F(TroubleTest, StopAndRemoveInTheMiddleOfEverything) {
  const bool is_long = std::getenv("SKIFF_LOOPS") != nullptr;
  const auto until = std::chrono::steady_clock::now() + seconds(is_long ? 60 : 5);
  std::vector<std::thread> threads;
  for (int maker = 0; maker < 3; ++maker) {
    threads.emplace_back([&, maker] {
      PodClient pod(*node_, "pod" + std::to_string(maker));
      while (std::chrono::steady_clock::now() < until) {
        // Each may fail, for its pod may be gone already.
        if (pod.RunSandbox().ok() && pod.CreateContainer().ok() && pod.StartContainer().ok()) {
          (void)pod.Exec();
        }
        pod.NextSandboxAttempt();
      }
    });
  }
  for (int breaker = 0; breaker < 2; ++breaker) {
    threads.emplace_back([&, breaker] {
      std::mt19937 random(static_cast<unsigned>(breaker));
      PodClient pod(*node_);
      while (std::chrono::steady_clock::now() < until) {
        for (const api::Container& item : pod.Containers()) {
          PodClient victim(*node_);
          victim.Adopt(item.pod_sandbox_id(), item.id());
          if (random() % 3 == 0) ExpectOk(victim.StopContainer(0));
          if (random() % 3 == 0) ExpectOk(victim.RemoveContainer());
        }
        for (const api::PodSandbox& item : pod.Sandboxes()) {
          PodClient victim(*node_);
          victim.Adopt(item.id(), "");
          if (random() % 2 == 0) ExpectOk(victim.StopSandbox());
          if (random() % 2 == 0) ExpectOk(victim.RemoveSandbox());
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const api::PodSandbox& item : pod_->Sandboxes()) {
    PodClient left(*node_);
    left.Adopt(item.id(), "");
    ExpectOk(left.RemoveSandbox());
  }
}

}  // namespace
}  // namespace skiff::test

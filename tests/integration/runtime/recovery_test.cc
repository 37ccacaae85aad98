// The daemon goes and comes; the supervisor is killed; the machine reboots.

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <thread>

#include "runtime/core/shim_link.h"
#include "runtime/state/paths.h"
#include "runtime/state/records.h"
#include "tests/integration/runtime/fixture.h"

namespace skiff::runtime {
namespace {

pid_t ParentOf(pid_t pid) {
  std::string text = ReadFile("/proc/" + std::to_string(pid) + "/stat").value();
  return std::atoi(text.c_str() + text.rfind(')') + 4);
}

// The supervisor of a pod: the parent of pause.
pid_t ShimOf(const Runtime& runtime, const std::string& pod) {
  return ParentOf(runtime.Sandbox(pod)->pause_pid);
}

TEST_F(RuntimeTest, PodsOutliveTheDaemon) {
  StartPod();
  ContainerSpec spec = Shell("c", "i=0; while true; do echo $i; i=$((i+1)); sleep 0.005; done");
  spec.client_data = std::string("bytes\0of the caller", 19);
  Start(spec);
  Start(Shell("ends", "trap 'exit 9' TERM; while true; do sleep 0.01; done"));
  ASSERT_OK(runtime_->CreateContainer(Shell("waits", "echo ran")));
  WaitForLog("c", " 2\n");
  pid_t pid = runtime_->Container("c")->pid;
  pid_t ending = runtime_->Container("ends")->pid;
  auto started = runtime_->Container("c")->started;
  Abandon();
  ASSERT_EQ(::kill(ending, SIGTERM), 0);
  std::this_thread::sleep_for(milliseconds(600));  // tidy: what ends unseen has no event
  Open();
  ContainerStatus status = runtime_->Container("c").value();
  EXPECT_EQ(status.pid, pid);
  EXPECT_EQ(status.state, ContainerState::kRunning);
  EXPECT_EQ(status.spec.client_data, spec.client_data);
  EXPECT_LT(*status.started - *started, milliseconds(100));
  EXPECT_EQ(runtime_->Sandbox("pod")->state, SandboxState::kReady);
  EXPECT_EQ(WaitExit("ends").status.code, 9);
  EXPECT_EQ(CountEvents("ends"), 1);
  // All goes on: start what was created, exec, stop; and the log has no gap.
  ASSERT_OK(runtime_->StartContainer("waits"));
  WaitExit("waits");
  EXPECT_EQ(Output("waits"), "ran\n");
  EXPECT_EQ(ExecShell("c", "echo in")->out, "in\n");
  ASSERT_OK(runtime_->StopContainer("c", milliseconds(0)));
  std::string output = Output("c");
  int next = 0;
  for (size_t at = 0; at < output.size(); at = output.find('\n', at) + 1) {
    EXPECT_EQ(std::atoi(output.c_str() + at), next++);
  }
  EXPECT_GT(next, 5);
}

TEST_F(RuntimeTest, OnlyOneDaemonAtATime) {
  auto second = Runtime::Open(config_, [](const ExitEvent&) {});
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.error().code(), Code::kFailedPrecondition);
}

TEST_F(RuntimeTest, KilledSupervisorEndsItsPod) {
  StartPod();
  Start(Shell("c", "sleep 1000"));
  ASSERT_EQ(::kill(ShimOf(*runtime_, "pod"), SIGKILL), 0);
  EXPECT_EQ(WaitExit("c").status.signal, SIGKILL);
  WaitExit("");
  EXPECT_EQ(runtime_->Sandbox("pod")->state, SandboxState::kStopped);
  EXPECT_EQ(runtime_->Container("c")->state, ContainerState::kExited);
  EXPECT_EQ(runtime_->Exec({.container_id = "c", .argv = {"true"}}, {}).error().code(),
            Code::kFailedPrecondition);
  ASSERT_OK(runtime_->StopSandbox("pod"));
}

TEST_F(RuntimeTest, SupervisorKilledWhileTheDaemonIsAway) {
  StartPod();
  Start(Shell("c", "sleep 1000"));
  Start(Shell("done", "exit 3"));
  WaitExit("done");
  pid_t shim = ShimOf(*runtime_, "pod");
  pid_t container = runtime_->Container("c")->pid;
  Abandon();
  ASSERT_EQ(::kill(shim, SIGKILL), 0);
  Open();
  EXPECT_EQ(runtime_->Sandbox("pod")->state, SandboxState::kStopped);
  EXPECT_EQ(runtime_->Container("c")->exit->status.signal, SIGKILL);
  // What the supervisor wrote down still counts.
  EXPECT_EQ(runtime_->Container("done")->exit->status.code, 3);
  auto deadline = std::chrono::steady_clock::now() + seconds(5);
  while (PathExists("/proc/" + std::to_string(container)) &&
         std::chrono::steady_clock::now() < deadline) {
    ::waitpid(-1, nullptr, WNOHANG);
  }
  EXPECT_FALSE(PathExists("/proc/" + std::to_string(container)));
}

// The shim that all others are copies of.
TEST_F(RuntimeTest, KilledSeedIsReplaced) {
  StartPod();
  const pid_t seed = ParentOf(ShimOf(*runtime_, "pod"));
  ASSERT_NE(seed, ::getpid());
  ASSERT_EQ(::kill(seed, SIGKILL), 0);
  ASSERT_OK(runtime_->CreateSandbox(Pod("another")));
  ASSERT_OK(runtime_->StartSandbox("another"));
  EXPECT_NE(ParentOf(ShimOf(*runtime_, "another")), seed);
  ASSERT_OK(runtime_->RemoveSandbox("another"));
  // Its pods live on.
  Start(Shell("c", "exit 4"));
  EXPECT_EQ(WaitExit("c").status.code, 4);
}

TEST_F(RuntimeTest, KilledPauseIsReported) {
  StartPod();
  ASSERT_EQ(::kill(runtime_->Sandbox("pod")->pause_pid, SIGKILL), 0);
  EXPECT_EQ(WaitExit("").status.signal, SIGKILL);
  EXPECT_EQ(runtime_->Sandbox("pod")->state, SandboxState::kStopped);
}

TEST_F(RuntimeTest, RecordsOfAnotherBootAreVoid) {
  StartPod();
  Start(Shell("c", "echo x > /file; sleep 1000"));
  std::string netns = runtime_->Sandbox("pod")->netns_path;
  StatePaths paths(config_.state_dir);
  ASSERT_OK(runtime_->StopSandbox("pod"));
  Abandon();
  auto sandbox = ReadRecord<SandboxRecord>(paths.SandboxRecord("pod")).value();
  auto container = ReadRecord<ContainerRecord>(paths.ContainerRecord("c")).value();
  sandbox.boot_id = container.boot_id = "another";
  ASSERT_OK(WriteRecord(paths.SandboxRecord("pod"), sandbox));
  ASSERT_OK(WriteRecord(paths.ContainerRecord("c"), container));
  Open();
  EXPECT_TRUE(runtime_->Sandboxes().empty());
  EXPECT_TRUE(runtime_->Containers().empty());
  EXPECT_FALSE(PathExists(netns));
  EXPECT_FALSE(PathExists(work_->path() + "/layers/c"));
}

TEST_F(RuntimeTest, UnfinishedWorkOfAKilledDaemonIsUndone) {
  StartPod();
  StatePaths paths(config_.state_dir);
  // Killed behind the record of a sandbox, and of a container that the shim already has.
  ASSERT_OK(runtime_->CreateSandbox(Pod("half")));
  ASSERT_OK(runtime_->CreateContainer(Shell("half", "sleep 1000")));
  Abandon();
  auto sandbox = ReadRecord<SandboxRecord>(paths.SandboxRecord("half")).value();
  sandbox.stage = Stage::kMaking;
  ASSERT_OK(WriteRecord(paths.SandboxRecord("half"), sandbox));
  auto container = ReadRecord<ContainerRecord>(paths.ContainerRecord("half")).value();
  container.stage = Stage::kMaking;
  ASSERT_OK(WriteRecord(paths.ContainerRecord("half"), container));
  ASSERT_OK(MakeDirectories(paths.Container("no-record-yet")));
  // And in the middle of StartSandbox: a supervisor without a pause.
  Open();
  EXPECT_EQ(runtime_->Sandboxes().size(), 1U);
  EXPECT_TRUE(runtime_->Containers().empty());
  EXPECT_FALSE(PathExists(paths.Container("no-record-yet")));
  EXPECT_FALSE(PathExists(sandbox.netns_path));
  // The same requests succeed now.
  ASSERT_OK(runtime_->CreateContainer(Shell("half", "sleep 1000")));
}

TEST_F(RuntimeTest, DaemonKilledWhileStartingASandbox) {
  ASSERT_OK(runtime_->CreateSandbox(Pod("pod")));
  pods_.push_back("pod");
  Abandon();
  StatePaths paths(config_.state_dir);
  auto record = ReadRecord<SandboxRecord>(paths.SandboxRecord("pod")).value();
  record.stage = Stage::kStarted;
  ASSERT_OK(WriteRecord(paths.SandboxRecord("pod"), record));
  {
    // As the daemon would, up to its death: the supervisor finds itself alone and goes.
    ShimPrograms programs = ShimPrograms::Load(config_.binary_dir).value();
    ShimNursery nursery(programs);
    SpawnedShim shim = nursery.Start(paths.Sandbox("pod")).value();
    shim.control.Reset();
    EXPECT_TRUE(shim.process.WaitEnd(seconds(5)).value());
  }
  Open();
  EXPECT_EQ(runtime_->Sandbox("pod")->state, SandboxState::kStopped);
}

TEST_F(RuntimeTest, DamagedRecordsHarmNobodyElse) {
  StartPod();
  StatePaths paths(config_.state_dir);
  ASSERT_OK(MakeDirectories(paths.Container("damaged")));
  for (std::string text : {"", "garbage", "\xff\xff\xff\xff", "\x04\x00\x00\x00zzzz"}) {
    Abandon();
    ASSERT_OK(WriteFileAtomic(paths.ContainerRecord("damaged"), text, Durability::kNone));
    Open();
    ASSERT_TRUE(runtime_);
    EXPECT_EQ(runtime_->Sandbox("pod")->state, SandboxState::kReady);
  }
  ASSERT_OK(RemoveTree(paths.Container("damaged")));
}

TEST_F(RuntimeTest, ChurnLeavesNothing) {
  for (int i = 0; i < 20; ++i) {
    std::string id = "pod" + std::to_string(i % 4);
    ASSERT_OK(runtime_->CreateSandbox(Pod(id)));
    ASSERT_OK(runtime_->StartSandbox(id));
    ContainerSpec spec = Shell("c" + std::to_string(i), i % 2 == 0 ? "true" : "sleep 1000");
    spec.sandbox_id = id;
    Start(spec);
    ASSERT_OK(runtime_->RemoveSandbox(id));
  }
}

}  // namespace
}  // namespace skiff::runtime

// Every call of the CRI that changes something, failed and killed at every failpoint it reaches
// (base/failpoint.h), in the daemon, in the supervisor and in skiff-init. Afterwards the same
// request succeeds, the state is that of an undisturbed run, and nothing is left behind.
//
// Stops at the first point that does harm; with SKIFF_LOOPS_GO_ON=1 it tells of all of them.
// SKIFF_LOOPS=long takes every visit of each point, and also lets a point fail from then on, so
// that undoing fails too.

// clang-format off: first, since <signal.h> has macros named as CRI's signals.
#include "tests/integration/cri/node_under_test.h"
// clang-format on

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <algorithm>
#include <filesystem>
#include <functional>
#include <map>
#include <set>
#include <sstream>

#include "base/net/rtnl.h"
#include "tests/support/needs.h"

namespace skiff::test {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::IsEmpty;

constexpr const char* kDaemon = NodeUnderTest::kProgram;
constexpr const char* kShim = "skiff-shim";
constexpr const char* kInit = "skiff-init";
constexpr const char* kPlugin = "skiff-cni";

// How far a pod is.
enum class Progress { kNothing, kSandbox, kContainer, kRunning };

struct Operation {
  const char* name;
  bool with_image;  // it is there before
  Progress before;
  grpc::Status (*run)(PodClient&);
  Progress after;
  bool image_after;
  bool halted = false;  // what is there afterwards has stopped
};

grpc::Status Stop(PodClient& pod) { return pod.StopContainer(); }

const Operation kOperations[] = {
    {"PullImage", false, Progress::kNothing, [](PodClient& pod) { return pod.Pull(); },
     Progress::kNothing, true},
    {"RemoveImage", true, Progress::kNothing, [](PodClient& pod) { return pod.RemoveImage(); },
     Progress::kNothing, false},
    {"RunPodSandbox", true, Progress::kNothing, [](PodClient& pod) { return pod.RunSandbox(); },
     Progress::kSandbox, true},
    {"CreateContainer", true, Progress::kSandbox,
     [](PodClient& pod) { return pod.CreateContainer(); }, Progress::kContainer, true},
    {"StartContainer", true, Progress::kContainer,
     [](PodClient& pod) { return pod.StartContainer(); }, Progress::kRunning, true},
    {"ExecSync", true, Progress::kRunning, [](PodClient& pod) { return pod.Exec(); },
     Progress::kRunning, true},
    {"StopContainer", true, Progress::kRunning, Stop, Progress::kContainer, true, true},
    {"RemoveContainer", true, Progress::kRunning,
     [](PodClient& pod) { return pod.RemoveContainer(); }, Progress::kSandbox, true},
    {"StopPodSandbox", true, Progress::kRunning, [](PodClient& pod) { return pod.StopSandbox(); },
     Progress::kContainer, true, true},
    {"RemovePodSandbox", true, Progress::kRunning,
     [](PodClient& pod) { return pod.RemoveSandbox(); }, Progress::kNothing, true},
};

// What is different about the pod.
enum class Kind {
  kPlain,
  kMapped,   // it has a user namespace
  kOci,      // an OCI runtime makes its containers
  kPlugins,  // CNI plugins make its network: skiff-cni, with failpoints of its own
};

bool IsLong() {
  const char* length = std::getenv("SKIFF_LOOPS");
  return length != nullptr && std::string_view(length) == "long";
}

// crun, or runc where crun refuses the machine's cgroups.
std::string OciRuntime() {
  return Missing(Need::kCrun).empty() ? "/usr/bin/crun" : "/usr/sbin/runc";
}

struct Case {
  Operation operation;
  Kind kind = Kind::kPlain;

  std::string name() const {
    static constexpr const char* kSuffixes[] = {"", "_Mapped", "_Oci", "_Plugins"};
    return std::string(operation.name) + kSuffixes[static_cast<int>(kind)];
  }
};

// The calls that go another way for such a pod; the others are the same but for the long loops.
bool IsPeculiar(Kind kind, std::string_view call) {
  return kind == Kind::kPlain || (kind == Kind::kMapped && call == "RunPodSandbox") ||
         (kind == Kind::kMapped && call == "CreateContainer") ||
         (kind == Kind::kOci && call == "CreateContainer") ||
         (kind == Kind::kOci && call == "RemoveContainer") ||
         (kind == Kind::kPlugins && (call == "RunPodSandbox" || call == "RemovePodSandbox"));
}

std::vector<Case> Cases() {
  std::vector<Case> cases;
  for (Kind kind : {Kind::kPlain, Kind::kMapped, Kind::kOci, Kind::kPlugins}) {
    for (const Operation& operation : kOperations) {
      const std::string_view call = operation.name;
      const bool of_image = kind != Kind::kPlain && call.ends_with("Image");
      if (IsPeculiar(kind, call) || (IsLong() && !of_image)) cases.push_back({operation, kind});
    }
  }
  return cases;
}

class RecoveryLoop : public ::testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    const Operation& operation = GetParam().operation;
    if (GetParam().kind == Kind::kOci && !PathExists(OciRuntime())) SKIFF_NEEDS(Need::kCrun);
    work_ = std::make_unique<TempDir>(TempDir::Make("skiff-loops").value());
    node_ = std::make_unique<NodeUnderTest>(work_->path());
    pod_ = std::make_unique<PodClient>(*node_);
    if (HasHostPorts()) pod_->set_host_port(18080);
    pod_->set_user_namespace(GetParam().kind == Kind::kMapped);
    if (GetParam().kind == Kind::kOci) {
      pod_->set_handler("oci");
      const std::string handlers = "runtimeHandlers: [{name: oci, path: " + OciRuntime() + "}]\n";
      ASSERT_TRUE(WriteFileAtomic(work_->path() + "/agent.yaml", handlers).ok());
    }
    if (GetParam().kind == Kind::kPlugins) {
      ASSERT_NO_FATAL_FAILURE(ConfigurePlugins());
    }
    ASSERT_NO_FATAL_FAILURE(node_->Start());
    // Once through everything, so that what is made once is there.
    ExpectOk(pod_->Pull());
    BringTo(Progress::kRunning);
    CleanUp();
    if (!operation.with_image || !operation.image_after) ExpectOk(pod_->RemoveImage());
    TakeBaseline();
  }

  void ConfigurePlugins() {
    const std::string& root = node_->root();
    const std::string network = R"({"cniVersion": "1.1.0", "name": "loop", "plugins": [{
        "type": "skiff-cni", "podCidrs": ["10.89.0.0/24"], "dataDir": ")" +
                                root +
                                R"(/network/plugin", "capabilities": {"portMappings": true}}]})";
    const std::string settings = "cni: {binDirs: [\"" SKIFF_TEST_BINARY_DIR "/failing\"]}\n";
    ASSERT_TRUE(MakeDirectories(root + "/cni-net.d").ok());
    ASSERT_TRUE(
        WriteFileAtomic(root + "/cni-net.d/10-loop.conflist", network, Durability::kNone).ok());
    ASSERT_TRUE(WriteFileAtomic(root + "/agent.yaml", settings, Durability::kNone).ok());
  }

  void TakeBaseline() {
    EXPECT_TRUE(InterfacesSettled(*node_));
    leaks_ = std::make_unique<LeakCheck>(NodeScope(*node_));
    rules_ = Rules();
    descriptors_ = ServerDescriptors();
  }

  void TearDown() override { node_.reset(); }

  // Rules are written by programs, so only where they are at stake.
  bool HasHostPorts() const {
    return std::string_view(GetParam().operation.name).ends_with("PodSandbox");
  }

  // Of the server, but connections: "pipe", paths.
  std::multiset<std::string> ServerDescriptors() {
    std::multiset<std::string> names;
    std::error_code gone;
    const std::string folder = "/proc/" + std::to_string(node_->pid()) + "/fd";
    for (const std::string& entry : ListDirectory(folder).value_or({})) {
      std::string target = std::filesystem::read_symlink(folder + "/" + entry, gone).string();
      target = target.substr(0, target.find(":["));
      if (target != "socket") names.insert(target);
    }
    return names;
  }

  // Every point that is listed, and tidy sees to it that every point is, has been tried.
  static void TearDownTestSuite() {
    if (surveyed_.size() < std::size(kOperations)) return;  // somebody chose tests
    std::istringstream list(ReadFile(SKIFF_TEST_SOURCE_DIR "/failpoints.txt").value());
    for (std::string point; std::getline(list, point);) {
      EXPECT_TRUE(reached_.contains(point)) << "no operation reaches \"" << point << "\"";
    }
  }

  void BringTo(Progress progress) {
    if (progress >= Progress::kSandbox) ExpectOk(pod_->RunSandbox());
    if (progress >= Progress::kContainer) ExpectOk(pod_->CreateContainer());
    if (progress >= Progress::kRunning) ExpectOk(pod_->StartContainer());
  }

  void CleanUp() {
    for (int twice = 0; twice < 2; ++twice) ExpectOk(pod_->StopSandbox());
    for (int twice = 0; twice < 2; ++twice) ExpectOk(pod_->RemoveSandbox());
    EXPECT_THAT(pod_->Sandboxes(), IsEmpty());
    EXPECT_THAT(pod_->Containers(), IsEmpty());
    pod_->Forget();
  }

  // The state is what the operation leaves undisturbed.
  void Verify(const Operation& operation) {
    EXPECT_EQ(pod_->HasImage(), operation.image_after);
    std::vector<api::PodSandbox> sandboxes = pod_->Sandboxes();
    if (operation.after == Progress::kNothing) {
      EXPECT_THAT(sandboxes, IsEmpty());
      EXPECT_THAT(pod_->Containers(), IsEmpty());
      return;
    }
    ASSERT_EQ(sandboxes.size(), 1U);
    EXPECT_EQ(sandboxes[0].id(), pod_->sandbox());
    bool halted = std::string_view(operation.name) == "StopPodSandbox";
    EXPECT_EQ(sandboxes[0].state(), halted ? api::SANDBOX_NOTREADY : api::SANDBOX_READY);
    if (!halted) VerifyNetwork();
    std::vector<api::Container> containers = pod_->Containers();
    ASSERT_EQ(containers.size(), operation.after == Progress::kSandbox ? 0U : 1U);
    if (containers.empty()) return;
    EXPECT_EQ(containers[0].id(), pod_->container());
    auto state = operation.halted                        ? api::CONTAINER_EXITED
                 : operation.after == Progress::kRunning ? api::CONTAINER_RUNNING
                                                         : api::CONTAINER_CREATED;
    EXPECT_EQ(containers[0].state(), state);
    if (state == api::CONTAINER_RUNNING) ExpectOk(pod_->Exec());
  }

  // The pod has its address inside, on the node and in the rules.
  void VerifyNetwork() {
    const std::string address = pod_->Address();
    ASSERT_NE(address, "");
    auto netns = net::Netns::Open(node_->root() + "/netns/" + pod_->sandbox());
    ASSERT_TRUE(netns.ok()) << netns.error().ToString();
    bool has = false;
    const std::vector<net::LinkAddress> addresses =
        net::Rtnl::OpenIn(*netns)->ListAddresses(net::IpFamily::kV4).value();
    for (const net::LinkAddress& held : addresses) {
      has = has || held.address.ToString() == address;
    }
    EXPECT_TRUE(has) << address << " is not in the pod";
    if (!HasHostPorts()) return;
    EXPECT_NE(Rules().find(address), std::string::npos) << "no host port of " << address;
  }

  void ExpectNothingLeft() {
    EXPECT_THAT(leaks_->Differences(seconds(4)), IsEmpty());
    if (HasHostPorts()) {
      EXPECT_EQ(Rules(), rules_);
    }
    if (!HasFailure()) return;
    // What is left is told once.
    for (const api::PodSandbox& item : pod_->Sandboxes()) {
      api::RemovePodSandboxRequest request;
      request.set_pod_sandbox_id(item.id());
      api::RemovePodSandboxResponse response;
      (void)Call(node_->runtime(), &api::RuntimeService::Stub::RemovePodSandbox, request,
                 &response);
    }
    TakeBaseline();
  }

  // What an undisturbed run reaches.
  std::vector<FailpointVisit> Survey(const Operation& operation) {
    Prepare(operation);
    node_->failpoints().Record();
    ExpectOk(operation.run(*pod_));
    std::vector<FailpointVisit> visits = node_->failpoints().Visits();
    node_->failpoints().Off();
    Verify(operation);
    Finish(operation);
    surveyed_.insert(operation.name);
    for (const FailpointVisit& visit : visits) reached_.insert(visit.point);
    return IsLong() ? visits : Sample(visits);
  }

  // Of each point in each program the first two visits and the last: a loop over rules or
  // controllers passes the same point a dozen times.
  static std::vector<FailpointVisit> Sample(const std::vector<FailpointVisit>& all) {
    std::map<std::pair<std::string, std::string>, uint32_t> last;
    for (const FailpointVisit& visit : all) last[{visit.program, visit.point}] = visit.index;
    std::vector<FailpointVisit> some;
    std::copy_if(all.begin(), all.end(), std::back_inserter(some), [&](const auto& visit) {
      return visit.index < 2 || visit.index == last[{visit.program, visit.point}] ||
             visit.point == "set-up step";
    });
    return some;
  }

  void Prepare(const Operation& operation) {
    if (operation.with_image && !operation.image_after) ExpectOk(pod_->Pull());
    BringTo(operation.before);
  }

  void Finish(const Operation& operation) {
    CleanUp();
    if (!operation.with_image) ExpectOk(pod_->RemoveImage());
    ExpectNothingLeft();
  }

  // A pod whose supervisor, or whose only process, was lost: kubelet removes it and makes another.
  void Replace(const Operation& operation) {
    CleanUp();
    pod_->NextSandboxAttempt();
    pod_->NextContainerAttempt();
    BringTo(operation.before);
    ExpectOk(operation.run(*pod_));
  }

  void Try(const Operation& operation, const FailpointVisit& visit, FailpointAction action,
           bool onwards) {
    Prepare(operation);
    node_->failpoints().Arm(visit, action, onwards);
    grpc::Status first = operation.run(*pod_);
    bool fired = node_->failpoints().fired();
    bool in_daemon = visit.program == kDaemon;
    if (fired && in_daemon && action == FailpointAction::kKill) {
      EXPECT_TRUE(Eventually([&] { return !node_->alive(); }));
    }
    node_->failpoints().Off();
    if (fired) ++fired_;
    node_->Revive();
    // Of a supervisor that was killed the daemon hears in its own time.
    bool shim_killed = fired && visit.program == kShim && action == FailpointAction::kKill;
    if (shim_killed && operation.before >= Progress::kSandbox) {
      EXPECT_TRUE(Eventually([&] { return !pod_->SandboxIsReady(); }));
    }
    bool init_killed = fired && visit.program == kInit && action == FailpointAction::kKill;
    if (init_killed && operation.before == Progress::kContainer) {
      EXPECT_TRUE(Eventually([&] { return pod_->ContainerState() == api::CONTAINER_EXITED; }));
    }
    grpc::Status second = operation.run(*pod_);
    bool to_be_ready = operation.after != Progress::kNothing &&
                       std::string_view(operation.name) != "StopPodSandbox";
    if (!second.ok() || (to_be_ready && !pod_->SandboxIsReady())) {
      // Only what was lost for good may be so.
      EXPECT_FALSE(in_daemon || visit.program == kPlugin)
          << "first: " << Text(first) << "; then: " << Text(second);
      Replace(operation);
    }
    Verify(operation);
    Finish(operation);
  }

  void Loop(FailpointAction action, bool onwards = false) {
    const Operation& operation = GetParam().operation;
    std::vector<FailpointVisit> visits = Survey(operation);
    ASSERT_FALSE(visits.empty());
    for (const FailpointVisit& visit : visits) {
      SCOPED_TRACE(visit.Name() + " (" + visit.subject + ")");
      auto begin = std::chrono::steady_clock::now();
      Try(operation, visit, action, onwards);
      auto took = std::chrono::steady_clock::now() - begin;
      if (took > seconds(3)) {
        std::printf("slow: %s (%s): %lld ms\n", visit.Name().c_str(), visit.subject.c_str(),
                    static_cast<long long>(took / milliseconds(1)));
      }
      if (HasFailure() && std::getenv("SKIFF_LOOPS_GO_ON") == nullptr) {
        std::printf("%s\n", node_->Log().c_str());
        return;
      }
    }
    std::printf("%s: %zu failpoints, %zu of them reached again\n", GetParam().name().c_str(),
                visits.size(), fired_);
    if (action == FailpointAction::kFail) {
      EXPECT_TRUE(Eventually([&] { return ServerDescriptors() == descriptors_; }))
          << ::testing::PrintToString(ServerDescriptors())
          << "\nbefore: " << ::testing::PrintToString(descriptors_);
    }
    // Threads may go another way round, but not often.
    EXPECT_GE(fired_ * 10, visits.size() * 8);
  }

  std::unique_ptr<TempDir> work_;
  std::unique_ptr<NodeUnderTest> node_;
  std::unique_ptr<PodClient> pod_;
  std::unique_ptr<LeakCheck> leaks_;
  std::string rules_;
  std::multiset<std::string> descriptors_;
  static inline std::set<std::string> surveyed_, reached_;
  size_t fired_ = 0;
};

TEST_P(RecoveryLoop, Fail) { Loop(FailpointAction::kFail); }
TEST_P(RecoveryLoop, Kill) { Loop(FailpointAction::kKill); }
TEST_P(RecoveryLoop, FailOnwards) {
  if (!IsLong()) GTEST_SKIP() << "SKIFF_LOOPS=long";
  Loop(FailpointAction::kFail, /*onwards=*/true);
}

INSTANTIATE_TEST_SUITE_P(Calls, RecoveryLoop, ::testing::ValuesIn(Cases()),
                         [](const auto& instance) { return instance.param.name(); });

}  // namespace
}  // namespace skiff::test

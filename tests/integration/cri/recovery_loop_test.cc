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
constexpr const char* kLater = "skiff-cri-under-test/links";  // whatever operation is under way

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

// What is left of a node's pods. The interface of a pod, and the lease that remembers it, go a
// moment after the pod (cni/link_removal.h), and nobody waits for them here either: what is still
// there some tries later is a leak of the one after which it was first seen.
class Leftovers {
 public:
  explicit Leftovers(LeakScope scope) : check_(std::move(scope)) {}

  std::vector<std::string> After(const std::string& tried) {
    std::vector<std::string> left;
    std::set<std::string> passing;
    (void)Eventually(
        [&] {
          left.clear();
          passing.clear();
          for (const std::string& item : check_.Differences(milliseconds(0))) {
            if (IsPassing(item)) {
              passing.insert(item);
            } else {
              left.push_back(item);
            }
          }
          return left.empty();
        },
        seconds(4));  // what is left then is told
    std::erase_if(passing_, [&](const auto& entry) { return !passing.contains(entry.first); });
    const auto now = std::chrono::steady_clock::now();
    for (const std::string& item : passing) {
      const Seen& seen = passing_.try_emplace(item, Seen{tried, now}).first->second;
      if (now - seen.first > seconds(4)) left.push_back(Told(item));
    }
    return left;
  }

  std::vector<std::string> AtTheEnd() const {
    std::vector<std::string> left = check_.Differences(seconds(4));
    std::transform(left.begin(), left.end(), left.begin(),
                   [this](const std::string& item) { return Told(item); });
    return left;
  }

 private:
  struct Seen {
    std::string tried;
    std::chrono::steady_clock::time_point first;
  };
  static bool IsPassing(const std::string& item) {
    return item.starts_with("+ link: veth") || item.ends_with(".retired");
  }
  std::string Told(const std::string& item) const {
    auto seen = passing_.find(item);
    return seen == passing_.end() ? item : item + ", of " + seen->second.tried;
  }

  const LeakCheck check_;
  std::map<std::string, Seen> passing_;
};

// Ids and numbers, which differ from run to run, are '#'.
std::string WithoutNumbers(std::string_view text) {
  constexpr size_t kShortestId = 8;
  std::string plain;
  for (size_t at = 0; at < text.size();) {
    const size_t hex = std::min(text.find_first_not_of("0123456789abcdef", at), text.size());
    const size_t decimal = std::min(text.find_first_not_of("0123456789", at), text.size());
    const size_t end = hex - at >= kShortestId ? hex : decimal;
    plain += end > at ? '#' : text[at];
    at = std::max(end, at + 1);
  }
  return plain;
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
    leftovers_ = std::make_unique<Leftovers>(NodeScope(*node_));
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

  void ExpectNothingLeft(const std::string& tried) {
    EXPECT_THAT(leftovers_->After(tried), IsEmpty());
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
    std::erase_if(visits, [](const FailpointVisit& visit) { return visit.program == kLater; });
    Verify(operation);
    Finish(operation, "the undisturbed run");
    surveyed_.insert(operation.name);
    for (const FailpointVisit& visit : visits) reached_.insert(visit.point);
    if (GetParam().kind == Kind::kPlain) plain_visits_[operation.name] = Signatures(visits);
    return IsLong() ? visits : Sample(Peculiar(operation, visits));
  }

  // What the visits are about, whichever pod it is.
  std::multiset<std::string> Signatures(const std::vector<FailpointVisit>& visits) {
    std::multiset<std::string> signatures;
    for (const FailpointVisit& visit : visits) signatures.insert(Signature(visit));
    return signatures;
  }
  std::string Signature(const FailpointVisit& visit) const {
    std::string_view subject = visit.subject;
    if (subject.starts_with(node_->root())) subject.remove_prefix(node_->root().size());
    return visit.program + ": " + visit.point + " " + WithoutNumbers(subject);
  }

  // Of a pod that is not plain only what goes another way: from there on, where the operation makes
  // something that is to be undone; up to there, where it takes it away. What lies before, or
  // behind, is the same as for a plain pod, of which all is tried.
  std::vector<FailpointVisit> Peculiar(const Operation& operation,
                                       const std::vector<FailpointVisit>& visits) const {
    auto plain = plain_visits_.find(operation.name);
    if (GetParam().kind == Kind::kPlain || plain == plain_visits_.end()) return visits;
    std::multiset<std::string> same = plain->second;
    auto first = visits.end(), last = visits.begin();
    for (auto visit = visits.begin(); visit != visits.end(); ++visit) {
      if (auto found = same.find(Signature(*visit)); found != same.end()) {
        same.erase(found);
        continue;
      }
      if (first == visits.end()) first = visit;
      last = visit + 1;
    }
    if (first == visits.end()) {
      // The same steps, in other namespaces.
      std::vector<FailpointVisit> steps;
      std::copy_if(visits.begin(), visits.end(), std::back_inserter(steps),
                   [](const FailpointVisit& visit) { return visit.program == kInit; });
      return steps;
    }
    return operation.after < operation.before ? std::vector(visits.begin(), last)
                                              : std::vector(first, visits.end());
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

  void Finish(const Operation& operation, const std::string& tried) {
    CleanUp();
    if (!operation.with_image) ExpectOk(pod_->RemoveImage());
    ExpectNothingLeft(tried);
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
      EXPECT_FALSE(in_daemon || visit.program.starts_with(kPlugin))
          << "first: " << Text(first) << "; then: " << Text(second);
      Replace(operation);
    }
    Verify(operation);
    Finish(operation, visit.Name());
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
      EXPECT_LT(took, seconds(20)) << "somebody waits for an answer that nobody gives";
      if (took > seconds(3)) {
        std::printf("slow: %s (%s): %lld ms\n", visit.Name().c_str(), visit.subject.c_str(),
                    static_cast<long long>(took / milliseconds(1)));
      }
      if (HasFailure() && std::getenv("SKIFF_LOOPS_GO_ON") == nullptr) {
        std::printf("%s\n", node_->Log().c_str());
        return;
      }
    }
    EXPECT_THAT(leftovers_->AtTheEnd(), IsEmpty());
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
  std::unique_ptr<Leftovers> leftovers_;
  std::string rules_;
  std::multiset<std::string> descriptors_;
  static inline std::set<std::string> surveyed_, reached_;
  static inline std::map<std::string, std::multiset<std::string>> plain_visits_;  // by operation
  size_t fired_ = 0;
};

TEST_P(RecoveryLoop, Fail) { Loop(FailpointAction::kFail); }
TEST_P(RecoveryLoop, Kill) { Loop(FailpointAction::kKill); }

class LongRecoveryLoop : public RecoveryLoop {};
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(LongRecoveryLoop);
TEST_P(LongRecoveryLoop, FailOnwards) { Loop(FailpointAction::kFail, /*onwards=*/true); }

std::string NameOf(const ::testing::TestParamInfo<Case>& instance) { return instance.param.name(); }
INSTANTIATE_TEST_SUITE_P(Calls, RecoveryLoop, ::testing::ValuesIn(Cases()), NameOf);
INSTANTIATE_TEST_SUITE_P(Calls, LongRecoveryLoop,
                         ::testing::ValuesIn(IsLong() ? Cases() : std::vector<Case>()), NameOf);

}  // namespace
}  // namespace skiff::test

// What a client of the CRI socket may rely on besides the calls' own answers: logs that lose
// nothing, events without gaps, figures that no stuck pod holds up.

// clang-format off: first, since <signal.h> has macros named as CRI's signals.
#include "tests/integration/cri/node_under_test.h"
// clang-format on

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <map>
#include <mutex>
#include <set>
#include <thread>

#include "base/os/files.h"

namespace skiff::test {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using Clock = std::chrono::steady_clock;
using ::testing::ElementsAre;
using Stub = api::RuntimeService::Stub;

// Output of kRounds times kLines lines of some hundred bytes, as fast as it is taken.
constexpr int kLines = 300'000;
constexpr int kRounds = 5;
constexpr int kPadding = 100;
constexpr int64_t kLoudLines = int64_t{kRounds} * (kLines + 1);  // with the word before each round

std::vector<std::string> Shell(const std::string& script) {
  return {"/bin/busybox", "sh", "-c", script};
}

std::vector<std::string> LoudCommand() {
  const std::string padding(kPadding, '.');
  return Shell("b=/bin/busybox; $b seq 1 " + std::to_string(kLines) + " | $b sed 's/$/ " + padding +
               "/' > /lines; for r in $($b seq 1 " + std::to_string(kRounds) +
               "); do echo round $r; $b cat /lines; done");
}

// The line of that number, counted from 0, of LoudCommand's output.
std::string LoudLine(int64_t number) {
  const int64_t in_round = number % (kLines + 1);
  if (in_round == 0) return "round " + std::to_string(number / (kLines + 1) + 1);
  return std::to_string(in_round) + " " + std::string(kPadding, '.');
}

class Behaviour : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_TRUE(Configure("")); }
  // Starts the server with an agent.yaml; whatever ran before has ended.
  bool Configure(const std::string& yaml) {
    if (node_.alive()) node_.Stop();
    auto written = WriteFileAtomic(work_.path() + "/agent.yaml", yaml, Durability::kNone);
    EXPECT_TRUE(written.ok());
    node_.Start();
    return !HasFatalFailure() && pod_.Pull().ok();
  }
  void TearDown() override {
    for (PodClient* pod : {&pod_, &other_}) {
      if (pod->sandbox().empty()) continue;
      EXPECT_TRUE(pod->RemoveSandbox().ok());
    }
  }
  static void Run(PodClient& pod) {
    ASSERT_TRUE(pod.RunSandbox().ok());
    ASSERT_TRUE(pod.CreateContainer().ok());
    ASSERT_TRUE(pod.StartContainer().ok());
  }
  bool AwaitExit(PodClient& pod, seconds patience) {
    const auto deadline = Clock::now() + patience;
    while (pod.ContainerState() != api::CONTAINER_EXITED) {
      if (Clock::now() > deadline) return false;
      std::this_thread::sleep_for(milliseconds(20));  // tidy: the events have a test of their own
    }
    return true;
  }
  std::string LogPath() const { return work_.path() + "/logs/pod/app.log"; }
  grpc::Status Reopen() {
    api::ReopenContainerLogRequest request;
    request.set_container_id(pod_.container());
    api::ReopenContainerLogResponse response;
    return Call(node_.runtime(), &Stub::ReopenContainerLog, request, &response);
  }

  TempDir work_ = TempDir::Make("skiff-behaviour").value();
  NodeUnderTest node_{work_.path()};
  PodClient pod_{node_};
  PodClient other_{node_, "other"};
};

int64_t CountLines(const std::vector<std::string>& files) {
  int64_t count = 0;
  for (const std::string& file : files) {
    const std::string text = ReadFile(file, size_t{1} << 30).value();
    count += std::count(text.begin(), text.end(), '\n');
  }
  return count;
}

// Checks that the files together hold LoudLine(next) and all that follow it to the end of the
// output, each once and in order.
void CheckLoudLines(const std::vector<std::string>& files, int64_t next) {
  for (const std::string& file : files) {
    const std::string text = ReadFile(file, size_t{1} << 30).value();
    size_t at = 0;
    while (at < text.size()) {
      const size_t end = text.find('\n', at);
      ASSERT_NE(end, std::string::npos) << file << " ends within a line";
      const size_t content = text.find(" stdout F ", at) + 10;
      ASSERT_LE(content, end) << file << ": " << text.substr(at, end - at);
      ASSERT_EQ(text.substr(content, end - content), LoudLine(next)) << file << ", line " << next;
      at = end + 1;
      ++next;
    }
  }
  EXPECT_EQ(next, kLoudLines);
}

TEST_F(Behaviour, LogsLoseNothingWhileAKubeletRotates) {
  pod_.set_command(LoudCommand());
  ASSERT_NO_FATAL_FAILURE(Run(pod_));
  std::vector<std::string> files;
  // As kubelet does it: rename, then ask for a new file.
  while (pod_.ContainerState() == api::CONTAINER_RUNNING) {
    std::this_thread::sleep_for(milliseconds(100));  // tidy: the time between two rotations
    const std::string renamed = LogPath() + "." + std::to_string(10'000 + files.size());
    if (::rename(LogPath().c_str(), renamed.c_str()) != 0) break;
    files.push_back(renamed);
    if (!Reopen().ok()) break;  // it has ended
  }
  ASSERT_TRUE(AwaitExit(pod_, seconds(120)));
  if (PathExists(LogPath())) files.push_back(LogPath());
  EXPECT_GT(files.size(), 5U);
  CheckLoudLines(files, 0);
}

TEST_F(Behaviour, TheWriterRotatesByItselfAndKeepsTheLogsBounded) {
  constexpr int kFiles = 4;
  constexpr int64_t kMaxBytes = 20 << 20;
  ASSERT_TRUE(Configure("containerLogMaxSize: 20Mi\ncontainerLogMaxFiles: 4\n"));
  pod_.set_command(LoudCommand());
  ASSERT_NO_FATAL_FAILURE(Run(pod_));
  ASSERT_TRUE(AwaitExit(pod_, seconds(120)));
  std::vector<std::string> files;
  for (int number = kFiles - 1; number >= 1; --number) {
    files.push_back(LogPath() + "." + std::to_string(number));
  }
  files.push_back(LogPath());
  EXPECT_FALSE(PathExists(LogPath() + "." + std::to_string(kFiles)));
  for (const std::string& file : files) {
    struct stat info {};
    ASSERT_EQ(::stat(file.c_str(), &info), 0) << file;
    EXPECT_LE(info.st_size, kMaxBytes);
  }
  // What is left is the end of the output, whole.
  const int64_t left = CountLines(files);
  EXPECT_GT(left, kLoudLines / kRounds);
  CheckLoudLines(files, kLoudLines - left);
}

// Follows the events and keeps those of one pod.
class Follower {
 public:
  explicit Follower(NodeUnderTest& node)
      : reader_(node.runtime().GetContainerEvents(&context_, api::GetEventsRequest())) {
    reader_->WaitForInitialMetadata();
    thread_ = std::thread([this] {
      api::ContainerEventResponse event;
      while (reader_->Read(&event)) {
        const std::lock_guard lock(mutex_);
        events_.push_back(event);
      }
    });
  }
  ~Follower() {
    context_.TryCancel();
    thread_.join();
    (void)reader_->Finish();  // cancelled, by us
  }
  std::vector<api::ContainerEventResponse> Of(const std::string& id) {
    const std::lock_guard lock(mutex_);
    std::vector<api::ContainerEventResponse> found;
    for (const auto& event : events_) {
      if (event.container_id() == id) found.push_back(event);
    }
    return found;
  }

 private:
  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReader<api::ContainerEventResponse>> reader_;
  std::mutex mutex_;
  std::vector<api::ContainerEventResponse> events_;
  std::thread thread_;
};

std::vector<int> Types(const std::vector<api::ContainerEventResponse>& events) {
  std::vector<int> types;
  for (const auto& event : events) types.push_back(event.container_event_type());
  return types;
}

TEST_F(Behaviour, EventsTellEveryStepOfShortLivesToEveryClient) {
  Follower first(node_);
  Follower second(node_);
  ASSERT_TRUE(pod_.RunSandbox().ok());
  pod_.set_command(Shell("exit 3"));
  std::vector<std::string> ids;
  for (int i = 0; i < 20; ++i) {
    ASSERT_TRUE(pod_.CreateContainer().ok());
    ASSERT_TRUE(pod_.StartContainer().ok());
    ids.push_back(pod_.container());
    if (i % 2 == 0) {
      ASSERT_TRUE(AwaitExit(pod_, seconds(10)));
    }
    ASSERT_TRUE(pod_.RemoveContainer().ok());
    pod_.NextContainerAttempt();
  }
  const std::string sandbox = pod_.sandbox();
  ASSERT_TRUE(pod_.RemoveSandbox().ok());
  pod_.Forget();
  for (Follower* follower : {&first, &second}) {
    const auto deadline = Clock::now() + seconds(10);
    while (follower->Of(sandbox).size() < 4 && Clock::now() < deadline) std::this_thread::yield();
    EXPECT_THAT(Types(follower->Of(sandbox)), ElementsAre(0, 1, 2, 3));
    for (const std::string& id : ids) {
      const auto events = follower->Of(id);
      EXPECT_THAT(Types(events), ElementsAre(0, 1, 2, 3)) << id;
      for (const auto& event : events) {
        EXPECT_EQ(event.pod_sandbox_status().id(), sandbox);
        EXPECT_GT(event.created_at(), 0);
      }
    }
  }
}

// The supervisor of a pod: the parent of its pause.
pid_t ShimOf(NodeUnderTest& node, const std::string& sandbox) {
  api::PodSandboxStatusRequest request;
  request.set_pod_sandbox_id(sandbox);
  request.set_verbose(true);
  api::PodSandboxStatusResponse response;
  EXPECT_TRUE(Call(node.runtime(), &Stub::PodSandboxStatus, request, &response).ok());
  const std::string& info = response.info().at("info");
  const std::string pid = info.substr(info.find("\"pid\":") + 6);
  const std::string status =
      ReadFile("/proc/" + std::to_string(std::atoi(pid.c_str())) + "/status").value();
  return std::atoi(status.c_str() + status.find("PPid:") + 5);
}

TEST_F(Behaviour, AStoppedSupervisorHoldsUpNoList) {
  ASSERT_NO_FATAL_FAILURE(Run(pod_));
  ASSERT_NO_FATAL_FAILURE(Run(other_));
  const pid_t shim = ShimOf(node_, pod_.sandbox());
  ASSERT_GT(shim, 1);
  ASSERT_EQ(::kill(shim, SIGSTOP), 0);
  // More calls than there are threads for what blocks all hang on it.
  constexpr int kStuck = 300;
  struct StuckCall {
    grpc::ClientContext context;
    api::ExecSyncResponse response;
    grpc::Status status;
    std::unique_ptr<grpc::ClientAsyncResponseReader<api::ExecSyncResponse>> reader;
  };
  grpc::CompletionQueue queue;
  std::vector<StuckCall> calls(kStuck);
  api::ExecSyncRequest exec;
  exec.set_container_id(pod_.container());
  for (const std::string& word : Shell("true")) exec.add_cmd(word);
  for (StuckCall& call : calls) {
    call.reader = node_.runtime().AsyncExecSync(&call.context, exec, &queue);
    call.reader->Finish(&call.response, &call.status, &call);
  }
  const auto before = Clock::now();
  api::ListContainerStatsResponse container_stats;
  EXPECT_TRUE(Call(node_.runtime(), &Stub::ListContainerStats, api::ListContainerStatsRequest(),
                   &container_stats)
                  .ok());
  EXPECT_EQ(container_stats.stats_size(), 2);
  for (const auto& stats : container_stats.stats()) {
    EXPECT_GT(stats.memory().usage_bytes().value(), 0U) << "of the stuck one too: it is a file";
  }
  api::ListPodSandboxStatsResponse pod_stats;
  EXPECT_TRUE(Call(node_.runtime(), &Stub::ListPodSandboxStats, api::ListPodSandboxStatsRequest(),
                   &pod_stats)
                  .ok());
  EXPECT_EQ(pod_stats.stats_size(), 2);
  for (const auto& stats : pod_stats.stats()) {
    EXPECT_EQ(stats.linux().network().default_interface().name(), "eth0");
    EXPECT_GT(stats.linux().process().process_count().value(), 0U);
  }
  api::ListPodSandboxMetricsResponse metrics;
  EXPECT_TRUE(Call(node_.runtime(), &Stub::ListPodSandboxMetrics,
                   api::ListPodSandboxMetricsRequest(), &metrics)
                  .ok());
  EXPECT_EQ(metrics.pod_metrics_size(), 2);
  EXPECT_EQ(pod_.Containers().size(), 2U);
  EXPECT_EQ(pod_.Sandboxes().size(), 2U);
  EXPECT_LT(Clock::now() - before, seconds(5)) << "it waited for the stuck supervisor";
  ASSERT_EQ(::kill(shim, SIGCONT), 0);
  for (int done = 0; done < kStuck; ++done) {
    void* tag = nullptr;
    bool ok = false;
    ASSERT_EQ(queue.AsyncNext(&tag, &ok, std::chrono::system_clock::now() + seconds(60)),
              grpc::CompletionQueue::GOT_EVENT)
        << done << " of the calls that hung have come back";
    const StuckCall& call = *static_cast<StuckCall*>(tag);
    EXPECT_TRUE(call.status.ok()) << call.status.error_message();
  }
  EXPECT_TRUE(other_.Exec().ok());
}

template <class Item, class Response, class Items>
std::vector<Item> ReadAll(std::unique_ptr<grpc::ClientReader<Response>> reader, Items items,
                          int* messages) {
  std::vector<Item> all;
  Response response;
  *messages = 0;
  while (reader->Read(&response)) {
    ++*messages;
    EXPECT_GT(items(response).size(), 0) << "a message without an item";
    for (const Item& item : items(response)) all.push_back(item);
  }
  EXPECT_TRUE(reader->Finish().ok());
  return all;
}

TEST_F(Behaviour, StreamedListsHaveTheItemsOfTheListsAndEnd) {
  int messages = 0;
  {
    grpc::ClientContext context;
    ReadAll<api::PodSandbox>(
        node_.runtime().StreamPodSandboxes(&context, api::StreamPodSandboxesRequest()),
        [](auto& r) -> auto& { return r.pod_sandboxes(); }, &messages);
    EXPECT_EQ(messages, 0) << "nothing to tell: the end at once";
  }
  ASSERT_TRUE(pod_.RunSandbox().ok());
  std::set<std::string> created;
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(pod_.CreateContainer().ok());
    created.insert(pod_.container());
    pod_.NextContainerAttempt();
  }
  grpc::ClientContext context;
  const auto containers = ReadAll<api::Container>(
      node_.runtime().StreamContainers(&context, api::StreamContainersRequest()),
      [](auto& r) -> auto& { return r.containers(); }, &messages);
  std::set<std::string> listed;
  for (const auto& container : containers) listed.insert(container.id());
  EXPECT_EQ(listed, created);
  EXPECT_EQ(containers.size(), created.size()) << "one came twice";
  grpc::ClientContext metrics_context;
  const auto metrics = ReadAll<api::PodSandboxMetrics>(
      node_.runtime().StreamPodSandboxMetrics(&metrics_context,
                                              api::StreamPodSandboxMetricsRequest()),
      [](auto& r) -> auto& { return r.pod_sandbox_metrics(); }, &messages);
  ASSERT_EQ(metrics.size(), 1U);
  EXPECT_EQ(metrics[0].pod_sandbox_id(), pod_.sandbox());
}

TEST_F(Behaviour, MetricsComeWithTheLabelsOfTheirDescriptors) {
  ASSERT_NO_FATAL_FAILURE(Run(pod_));
  api::ListMetricDescriptorsResponse descriptors;
  ASSERT_TRUE(Call(node_.runtime(), &Stub::ListMetricDescriptors,
                   api::ListMetricDescriptorsRequest(), &descriptors)
                  .ok());
  std::map<std::string, int> labels;
  for (const auto& one : descriptors.descriptors()) labels[one.name()] = one.label_keys_size();
  api::ListPodSandboxMetricsResponse response;
  ASSERT_TRUE(Call(node_.runtime(), &Stub::ListPodSandboxMetrics,
                   api::ListPodSandboxMetricsRequest(), &response)
                  .ok());
  ASSERT_EQ(response.pod_metrics_size(), 1);
  ASSERT_EQ(response.pod_metrics(0).container_metrics_size(), 1);
  std::map<std::string, uint64_t> values;
  auto take = [&](const auto& metrics) {
    for (const auto& metric : metrics) {
      EXPECT_EQ(metric.label_values_size(), labels[metric.name()]) << metric.name();
      values[metric.name()] = metric.value().value();
    }
  };
  take(response.pod_metrics(0).metrics());
  take(response.pod_metrics(0).container_metrics(0).metrics());
  // What every machine that runs pods can tell.
  for (const char* name : {"container_cpu_usage_seconds_total",
                           "container_cpu_user_seconds_total",
                           "container_memory_usage_bytes",
                           "container_memory_working_set_bytes",
                           "container_memory_rss",
                           "container_memory_cache",
                           "container_memory_failures_total",
                           "container_memory_kernel_usage",
                           "container_memory_mapped_file",
                           "container_memory_max_usage_bytes",
                           "container_memory_failcnt",
                           "container_fs_usage_bytes",
                           "container_fs_limit_bytes",
                           "container_fs_inodes_free",
                           "container_processes",
                           "container_threads",
                           "container_threads_max",
                           "container_file_descriptors",
                           "container_sockets",
                           "container_network_receive_bytes_total",
                           "container_network_transmit_packets_dropped_total",
                           "container_oom_events_total",
                           "container_start_time_seconds",
                           "container_last_seen",
                           "container_ulimits_soft"}) {
    EXPECT_TRUE(values.contains(name)) << name;
  }
  EXPECT_EQ(values["container_spec_memory_limit_bytes"], 64U << 20);
  EXPECT_EQ(values["container_spec_cpu_shares"], 512U);
  EXPECT_GE(values["container_processes"], 2U) << "the shell and its sleep";
  EXPECT_GE(values["container_file_descriptors"], 6U);
}

}  // namespace
}  // namespace skiff::test

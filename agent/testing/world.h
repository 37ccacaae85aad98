// A node in a test: pod workers over the fake runtime, in virtual time, with everything they
// report.
#pragma once

// First: CRI's enum Signal has the names that signal.h, which gtest brings, defines as macros.
#include "agent/testing/fake_cri.h"

// clang-format off: after the above.
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>
// clang-format on

#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "agent/pods/workers.h"
#include "base/os/files.h"
#include "proto/k8s/core/v1/config.pb.h"
#include "proto/k8s/core/v1/event.pb.h"
#include "proto/k8s/core/v1/pod.pb.h"
#include "proto/k8s/core/v1/service.pb.h"

namespace skiff::agent::testing {

class FakeObjects : public ObjectSource {
 public:
  std::map<std::string, std::shared_ptr<k8s::core::v1::ConfigMap>> config_maps;  // "ns/name"
  std::map<std::string, std::shared_ptr<k8s::core::v1::Secret>> secrets;
  std::map<std::string, std::string> runtime_handlers;  // by RuntimeClass
  std::map<std::string, std::vector<std::shared_ptr<const k8s::core::v1::Service>>> services;

  std::shared_ptr<const k8s::core::v1::ConfigMap> FindConfigMap(
      const std::string& name_space, const std::string& name) const override {
    auto found = config_maps.find(name_space + "/" + name);
    return found == config_maps.end() ? nullptr : found->second;
  }
  std::shared_ptr<const k8s::core::v1::Secret> FindSecret(const std::string& name_space,
                                                          const std::string& name) const override {
    auto found = secrets.find(name_space + "/" + name);
    return found == secrets.end() ? nullptr : found->second;
  }
  std::optional<std::string> FindRuntimeHandler(const std::string& runtime_class) const override {
    auto found = runtime_handlers.find(runtime_class);
    if (found == runtime_handlers.end()) return std::nullopt;
    return found->second;
  }
  std::vector<std::shared_ptr<const k8s::core::v1::Service>> ServicesIn(
      const std::string& name_space) const override {
    auto found = services.find(name_space);
    if (found == services.end()) return {};
    return found->second;
  }
};

// Remembers mounts instead of making them.
class FakeMounter : public Mounter {
 public:
  std::set<std::string> mounts;
  Result<> MountTmpfs(const std::string& path, uint64_t) override {
    mounts.insert(path);
    return {};
  }
  Result<> BindFd(int, const std::string& path) override {
    mounts.insert(path);
    return {};
  }
  Result<> Unmount(const std::string& path) override {
    mounts.erase(path);
    return {};
  }
  bool IsMounted(const std::string& path) override { return mounts.contains(path); }
};

// Remembers cgroups instead of making them.
class FakeCgroups : public PodCgroups {
 public:
  std::map<std::string, PodLimits> cgroups;
  Result<> Create(const std::string& path, const PodLimits& limits) override {
    cgroups[path] = limits;
    return {};
  }
  Result<> Remove(const std::string& path) override {
    cgroups.erase(path);
    return {};
  }
  std::vector<std::string> Children(const std::string& path) override {
    std::vector<std::string> names;
    for (const auto& [child, limits] : cgroups) {
      if (child.starts_with(path + "/") && child.find('/', path.size() + 1) == std::string::npos) {
        names.push_back(child.substr(path.size() + 1));
      }
    }
    return names;
  }
};

// Answers probes as told.
class FakeProbes : public ProbeRunner {
 public:
  ProbeOutcome answer{ProbeOutcome::Kind::kSuccess, ""};
  int runs = 0;
  void Run(const ProbeTarget&, std::chrono::seconds, Done done) override {
    ++runs;
    done(answer);
  }
};

// Admits pods when told to.
class FakeTraffic : public TrafficRules {
 public:
  std::map<std::string, std::vector<std::string>> addresses;  // by uid, as last observed
  std::vector<std::function<void(Result<>)>> waiting;
  bool admits = true;

  void Admit(PodPtr, std::vector<std::string>, std::function<void(Result<>)> done) override {
    if (admits) return done(Result<>());
    waiting.push_back(std::move(done));
  }
  void Observe(PodPtr pod, std::vector<std::string> now) override {
    addresses[pod->metadata().uid()] = std::move(now);
  }
  void Forget(const std::string& uid) override { addresses.erase(uid); }
};

class World {
 public:
  World() : dir_(std::move(TempDir::Make("agent").value())) {
    cri.OnChange([this](const std::string& uid) {
      if (workers) workers->Wake(uid);
    });
    StartWorkers();
  }
  ~World() { StopWorkers(); }

  // A pod from its text form; uid, name and namespace are filled in where absent.
  static std::shared_ptr<k8s::core::v1::Pod> MakePod(const std::string& text) {
    auto pod = std::make_shared<k8s::core::v1::Pod>();
    EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, pod.get()));
    auto* metadata = pod->mutable_metadata();
    if (metadata->name().empty()) metadata->set_name("web");
    if (metadata->namespace_().empty()) metadata->set_namespace_("default");
    if (metadata->uid().empty()) metadata->set_uid("uid-" + metadata->name());
    if (metadata->generation() == 0) metadata->set_generation(1);
    return pod;
  }

  void Run(std::vector<std::shared_ptr<k8s::core::v1::Pod>> pods) {
    workers->SetDesired({pods.begin(), pods.end()});
    executor.RunUntilIdle();
  }
  // The same pod, marked for deletion.
  static std::shared_ptr<k8s::core::v1::Pod> Deleted(const k8s::core::v1::Pod& pod, int64_t grace) {
    auto copy = std::make_shared<k8s::core::v1::Pod>(pod);
    copy->mutable_metadata()->mutable_deletion_timestamp()->set_seconds(1);
    copy->mutable_metadata()->set_deletion_grace_period_seconds(grace);
    return copy;
  }
  void Advance(std::chrono::nanoseconds time) { executor.Advance(time); }

  const k8s::core::v1::PodStatus& status(const std::string& name = "web") { return statuses[name]; }
  const k8s::core::v1::ContainerStatus& container(int index = 0, const std::string& name = "web") {
    return statuses[name].container_statuses(index);
  }
  std::string condition(const std::string& type, const std::string& name = "web") {
    for (const auto& condition : statuses[name].conditions()) {
      if (condition.type() == type) return condition.status();
    }
    return "absent";
  }
  bool SawEvent(const std::string& reason, const std::string& message) const {
    for (const auto& event : events) {
      if (event.reason() == reason && event.message().find(message) != std::string::npos) {
        return true;
      }
    }
    return false;
  }
  std::string pod_dir(const std::string& uid) const { return dir_.path() + "/state/pods/" + uid; }

  // As when the agent is killed and started again: what is in memory is lost.
  void RestartAgent() {
    StopWorkers();
    StartWorkers();
  }
  void StopWorkers() {
    workers.reset();
    executor.RunUntilIdle();
  }
  void StartWorkers() {
    recorder = std::make_unique<EventRecorder>(
        "node-1", executor.clock(),
        [this](const k8s::core::v1::Event& event) { events.push_back(event); });
    deps = std::make_unique<PodDeps>(
        PodDeps{executor, executor, executor, client, volumes, probes, *recorder, objects, cgroups,
                id_ranges, [this] { return Context(); }, "fake", "",
                [this](const k8s::core::v1::Pod& pod, const k8s::core::v1::PodStatus& status) {
                  statuses[pod.metadata().name()] = status;
                  ++reports;
                },
                [this](const k8s::core::v1::Pod& pod) { gone.push_back(pod.metadata().name()); },
                &traffic});
    workers = std::make_unique<PodWorkers>(*deps);
  }

  NodeContext Context() const {
    NodeContext context;
    context.node_name = "node-1";
    context.host_ips = {"192.0.2.1"};
    context.cluster_dns = {"10.96.0.10"};
    context.state_dir = dir_.path() + "/state";
    context.log_dir = dir_.path() + "/logs";
    return context;
  }

 private:
  TempDir dir_;

 public:
  ManualExecutor executor;
  FakeCri cri{executor.clock()};
  CriClient client{cri.stubs()};
  FakeMounter mounter;
  PodVolumes volumes{mounter};
  FakeProbes probes;
  FakeObjects objects;
  FakeCgroups cgroups;
  IdRanges id_ranges{{}};
  FakeTraffic traffic;
  std::map<std::string, k8s::core::v1::PodStatus> statuses;
  std::vector<k8s::core::v1::Event> events;
  std::vector<std::string> gone;
  int reports = 0;
  std::unique_ptr<EventRecorder> recorder;
  std::unique_ptr<PodDeps> deps;
  std::unique_ptr<PodWorkers> workers;
};

}  // namespace skiff::agent::testing

// skiff-cri-bench: how long a pod takes at a CRI socket, ours or another runtime's.
//
//   skiff-cri-bench --endpoint unix:///run/skiff/skiff.sock --image busybox:test --parallel 10
//   --json
//
// Measured is what a kubelet waits for: RunPodSandbox, CreateContainer, StartContainer, until
// ContainerStatus says running. Each pod is stopped and removed before the next one of its worker.
#include <grpcpp/grpcpp.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "base/random.h"
#include "base/result.h"
#include "proto/cri/runtime/v1/api.grpc.pb.h"

namespace skiff {
namespace {

namespace v1 = runtime::v1;
using Clock = std::chrono::steady_clock;

constexpr const char* kLabel = "skiff-cri-bench";

struct Options {
  std::string endpoint = "unix:///run/skiff/skiff.sock";
  std::string peer_endpoint;
  std::string image;
  std::string runtime_handler;
  std::string cgroup_parent;
  std::vector<std::string> command = {"sleep", "100000"};
  int count = 100;
  int parallel = 1;
  bool host_network = false;
  bool json = false;
};

// Milliseconds of each step of one pod.
struct Times {
  double sandbox = 0, create = 0, start = 0, up = 0, down = 0;
};

double Since(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

// One runtime. Thread-safe.
class Runtime {
 public:
  Runtime(const Options& options, const std::string& endpoint) : options_(options) {
    auto channel = grpc::CreateChannel(endpoint, grpc::InsecureChannelCredentials());
    runtime_ = v1::RuntimeService::NewStub(channel);
    images_ = v1::ImageService::NewStub(channel);
  }

  // Pulls the image where it is missing and removes pods that an interrupted run left.
  Result<> Prepare() {
    v1::ImageStatusRequest status;
    status.mutable_image()->set_image(options_.image);
    v1::ImageStatusResponse known;
    TRY(Call("ImageStatus", &v1::ImageService::Stub::ImageStatus, *images_, status, &known));
    if (!known.has_image()) {
      v1::PullImageRequest pull;
      pull.mutable_image()->set_image(options_.image);
      v1::PullImageResponse pulled;
      TRY(Call("PullImage", &v1::ImageService::Stub::PullImage, *images_, pull, &pulled));
    }
    v1::ListPodSandboxRequest list;
    (*list.mutable_filter()->mutable_label_selector())[kLabel] = "true";
    v1::ListPodSandboxResponse left;
    TRY(Call("ListPodSandbox", &v1::RuntimeService::Stub::ListPodSandbox, *runtime_, list, &left));
    for (const v1::PodSandbox& pod : left.items()) TRY(Remove(pod.id()));
    return {};
  }

  // Runs one pod up and down.
  Result<Times> OnePod() {
    Times times;
    v1::PodSandboxConfig config = SandboxConfig();
    auto start = Clock::now();
    std::string sandbox = TRY(RunSandbox(config));
    times.sandbox = Since(start);
    Result<> started = StartContainer(config, sandbox, start, times);
    auto stopping = Clock::now();
    Result<> removed = Remove(sandbox);
    times.down = Since(stopping);
    TRY(std::move(started));
    TRY(std::move(removed));
    return times;
  }

 private:
  template <class Stub, class Request, class Response>
  static Result<> Call(const char* name,
                       grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&,
                                                    Response*),
                       Stub& stub, const Request& request, Response* response) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::minutes(2));
    grpc::Status status = (stub.*method)(&context, request, response);
    if (status.ok()) return {};
    return Error(Code::kInternal, std::string(name) + ": " + status.error_message());
  }

  v1::PodSandboxConfig SandboxConfig() {
    v1::PodSandboxConfig config;
    std::string name = "bench-" + RandomHex(6);
    auto& metadata = *config.mutable_metadata();
    metadata.set_name(name);
    metadata.set_namespace_("bench");
    metadata.set_uid(RandomUuid());
    (*config.mutable_labels())[kLabel] = "true";
    config.set_log_directory("/tmp/skiff-cri-bench/" + name);
    auto& linux_config = *config.mutable_linux();
    linux_config.set_cgroup_parent(options_.cgroup_parent);
    if (options_.host_network) {
      linux_config.mutable_security_context()->mutable_namespace_options()->set_network(v1::NODE);
    } else {
      config.set_hostname(name);
    }
    return config;
  }

  Result<std::string> RunSandbox(const v1::PodSandboxConfig& config) {
    v1::RunPodSandboxRequest request;
    *request.mutable_config() = config;
    request.set_runtime_handler(options_.runtime_handler);
    v1::RunPodSandboxResponse response;
    TRY(Call("RunPodSandbox", &v1::RuntimeService::Stub::RunPodSandbox, *runtime_, request,
             &response));
    return response.pod_sandbox_id();
  }

  Result<> StartContainer(const v1::PodSandboxConfig& sandbox_config, const std::string& sandbox,
                          Clock::time_point start, Times& times) {
    v1::CreateContainerRequest create;
    create.set_pod_sandbox_id(sandbox);
    *create.mutable_sandbox_config() = sandbox_config;
    auto& config = *create.mutable_config();
    config.mutable_metadata()->set_name("main");
    config.mutable_image()->set_image(options_.image);
    for (const std::string& word : options_.command) config.add_command(word);
    config.set_log_path("main.log");
    config.mutable_linux();
    v1::CreateContainerResponse created;
    TRY(Call("CreateContainer", &v1::RuntimeService::Stub::CreateContainer, *runtime_, create,
             &created));
    times.create = Since(start) - times.sandbox;

    v1::StartContainerRequest request;
    request.set_container_id(created.container_id());
    v1::StartContainerResponse response;
    TRY(Call("StartContainer", &v1::RuntimeService::Stub::StartContainer, *runtime_, request,
             &response));
    v1::ContainerStatusRequest ask;
    ask.set_container_id(created.container_id());
    v1::ContainerStatusResponse status;
    TRY(Call("ContainerStatus", &v1::RuntimeService::Stub::ContainerStatus, *runtime_, ask,
             &status));
    if (status.status().state() != v1::CONTAINER_RUNNING) {
      return Error(Code::kInternal, "container is not running after StartContainer: " +
                                        v1::ContainerState_Name(status.status().state()) + " " +
                                        status.status().reason() + " " + status.status().message());
    }
    times.up = Since(start);
    times.start = times.up - times.create - times.sandbox;
    return {};
  }

  Result<> Remove(const std::string& sandbox) {
    v1::StopPodSandboxRequest stop;
    stop.set_pod_sandbox_id(sandbox);
    v1::StopPodSandboxResponse stopped;
    TRY(Call("StopPodSandbox", &v1::RuntimeService::Stub::StopPodSandbox, *runtime_, stop,
             &stopped));
    v1::RemovePodSandboxRequest remove;
    remove.set_pod_sandbox_id(sandbox);
    v1::RemovePodSandboxResponse removed;
    return Call("RemovePodSandbox", &v1::RuntimeService::Stub::RemovePodSandbox, *runtime_, remove,
                &removed);
  }

  const Options& options_;
  std::unique_ptr<v1::RuntimeService::Stub> runtime_;
  std::unique_ptr<v1::ImageService::Stub> images_;
};

double Percentile(std::vector<double> values, double percent) {
  std::sort(values.begin(), values.end());
  size_t index = static_cast<size_t>(static_cast<double>(values.size()) * percent / 100);
  return values[std::min(index, values.size() - 1)];
}

struct Figure {
  std::string name;
  double value;
  std::string unit;
};

Result<std::vector<Figure>> Measure(const Options& options, const std::string& endpoint) {
  Runtime runtime(options, endpoint);
  TRY(runtime.Prepare().With(endpoint));
  TRY(runtime.OnePod().With(endpoint));  // warms caches up
  std::mutex mutex;
  std::vector<Times> all;
  std::optional<Error> failure;
  std::atomic<int> next = 0;
  auto start = Clock::now();
  std::vector<std::thread> workers;
  for (int i = 0; i < options.parallel; ++i) {
    workers.emplace_back([&] {
      while (next++ < options.count) {
        auto times = runtime.OnePod();
        std::lock_guard lock(mutex);
        if (times.ok()) all.push_back(*times);
        if (!times.ok() && !failure) failure = std::move(times).error();
        if (failure) return;
      }
    });
  }
  for (std::thread& worker : workers) worker.join();
  if (failure) return std::move(*failure).With(endpoint);

  double seconds = Since(start) / 1000;
  const std::string at_once = ", " + std::to_string(options.parallel) + " at once";
  std::vector<Figure> figures;
  auto add = [&](const std::string& name, double Times::*step) {
    std::vector<double> values;
    for (const Times& times : all) values.push_back(times.*step);
    for (int percent : {50, 95}) {
      figures.push_back(
          {name + at_once + ", p" + std::to_string(percent), Percentile(values, percent), "ms"});
    }
  };
  add("RunPodSandbox to container Running", &Times::up);
  add("RunPodSandbox", &Times::sandbox);
  add("CreateContainer", &Times::create);
  add("StartContainer and ContainerStatus", &Times::start);
  add("StopPodSandbox and RemovePodSandbox", &Times::down);
  figures.push_back({"pods up and down at the CRI" + at_once,
                     static_cast<double>(options.count) / seconds, "pods/s"});
  return figures;
}

void Print(const Options& options, const std::vector<Figure>& figures,
           const std::vector<Figure>& peer) {
  auto rounded = [](double value) { return std::round(value * 100) / 100; };
  for (size_t i = 0; i < figures.size(); ++i) {
    const Figure& figure = figures[i];
    if (options.json) {
      nlohmann::json line{
          {"name", figure.name}, {"value", rounded(figure.value)}, {"unit", figure.unit}};
      if (!peer.empty()) line["peer"] = rounded(peer[i].value);
      printf("%s\n", line.dump().c_str());
      continue;
    }
    printf("%-60s %10.2f %s", figure.name.c_str(), figure.value, figure.unit.c_str());
    if (!peer.empty()) printf("   (peer: %.2f)", peer[i].value);
    printf("\n");
  }
}

int Main(int argc, char** argv) {
  Options options;
  CLI::App app{"Measures how long pods take to start at a CRI socket"};
  app.add_option("--endpoint", options.endpoint, "the runtime's socket");
  app.add_option("--peer-endpoint", options.peer_endpoint, "another runtime's, to compare with");
  app.add_option("--image", options.image, "pulled where it is missing")->required();
  app.add_option("--command", options.command, "what the container runs");
  app.add_option("--count", options.count, "pods")->check(CLI::Range(1, 100000));
  app.add_option("--parallel", options.parallel, "pods at once")->check(CLI::Range(1, 1000));
  app.add_option("--runtime-handler", options.runtime_handler);
  app.add_option("--cgroup-parent", options.cgroup_parent);
  app.add_flag("--host-network", options.host_network, "pods share the node's network");
  app.add_flag("--json", options.json, "one JSON object a figure");
  CLI11_PARSE(app, argc, argv);

  auto figures = Measure(options, options.endpoint);
  if (!figures.ok()) {
    fprintf(stderr, "skiff-cri-bench: %s\n", figures.error().message().c_str());
    return 1;
  }
  std::vector<Figure> peer;
  if (!options.peer_endpoint.empty()) {
    auto measured = Measure(options, options.peer_endpoint);
    if (!measured.ok()) {
      fprintf(stderr, "skiff-cri-bench: peer: %s\n", measured.error().message().c_str());
      return 1;
    }
    peer = *std::move(measured);
  }
  Print(options, *figures, peer);
  return 0;
}

}  // namespace
}  // namespace skiff

int main(int argc, char** argv) { return skiff::Main(argc, argv); }

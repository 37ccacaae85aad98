// skiff-cri-bench: a load for a CRI socket, ours or another runtime's. One JSON object a figure.
//
//   skiff-cri-bench --endpoint unix:///run/skiff/skiff.sock --image HOST/busybox:test latency
//   skiff-cri-bench ... throughput --parallel 10
//   skiff-cri-bench ... hold --count 50
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <atomic>
#include <cstdio>
#include <functional>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "tests/bench/cri_pods.h"
#include "tests/bench/figures.h"

namespace skiff::bench {
namespace {

constexpr int kExecsAPod = 3;
constexpr int kHoldThreads = 4;

// Runs work on `threads` threads, `count` times in all; the first failure ends it.
Result<> InThreads(int threads, int count, const std::function<Result<>(int number)>& work) {
  std::mutex mutex;
  std::optional<Error> failure;
  std::atomic<int> next = 0;
  std::vector<std::thread> workers;
  for (int i = 0; i < threads; ++i) {
    workers.emplace_back([&] {
      for (int number = next++; number < count; number = next++) {
        Result<> done = work(number);
        std::lock_guard lock(mutex);
        if (!done.ok() && !failure) failure = std::move(done).error();
        if (failure) return;
      }
    });
  }
  for (std::thread& worker : workers) worker.join();
  if (failure) return std::move(*failure);
  return {};
}

// Every call by itself, one pod after another.
Result<> MeasureLatency(CriPods& pods, int count) {
  Samples samples;
  for (int i = 0; i < count; ++i) {
    Times times;
    CriPods::Pod pod = TRY(pods.Up(times));
    for (int exec = 0; exec < kExecsAPod; ++exec) {
      TRY(pods.Exec(pod, times));
      samples.Add(std::exchange(times, {}));
    }
    TRY(pods.Down(pod, times));
    samples.Add(times);
  }
  samples.Print("");
  return {};
}

// Pods up and down, `parallel` of them at any time.
Result<> MeasureThroughput(CriPods& pods, int count, int parallel) {
  Samples samples;
  std::mutex mutex;
  const auto start = std::chrono::steady_clock::now();
  Result<> done = InThreads(parallel, count, [&](int) -> Result<> {
    Times times;
    CriPods::Pod pod = TRY(pods.Up(times));
    TRY(pods.Down(pod, times));
    std::lock_guard lock(mutex);
    samples.Add(times);
    return {};
  });
  TRY(std::move(done));
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  const std::string at_once = ", " + std::to_string(parallel) + " at once";
  PrintFigure("pods up and down" + at_once, count / seconds.count(), "pods/s");
  samples.Print(at_once);
  return {};
}

// Brings pods up, says "held", and removes them when its input ends.
Result<> Hold(CriPods& pods, int count) {
  std::vector<CriPods::Pod> held(static_cast<size_t>(count));
  Result<> up = InThreads(kHoldThreads, count, [&](int number) -> Result<> {
    Times times;
    held[static_cast<size_t>(number)] = TRY(pods.Up(times));
    return {};
  });
  if (up.ok()) {
    std::puts("held");
    std::fflush(stdout);
    char ignored[64];
    while (::read(STDIN_FILENO, ignored, sizeof ignored) > 0) {
    }
  }
  Result<> down = InThreads(kHoldThreads, count, [&](int number) -> Result<> {
    Times times;
    const CriPods::Pod& pod = held[static_cast<size_t>(number)];
    return pod.sandbox.empty() ? Result<>() : pods.Down(pod, times);
  });
  TRY(std::move(up));
  return down;
}

int Main(int argc, char** argv) {
  CriPodsOptions options;
  int count = 50;
  int parallel = 10;
  CLI::App app{"A load for a CRI socket"};
  app.require_subcommand(1);
  app.add_option("--endpoint", options.endpoint, "the runtime's socket");
  app.add_option("--image", options.image, "pulled where it is missing")->required();
  app.add_option("--command", options.command, "what the container runs");
  app.add_option("--runtime-handler", options.runtime_handler);
  app.add_option("--cgroup-parent", options.cgroup_parent);
  app.add_flag("--host-network", options.host_network, "pods share the node's network");
  app.add_option("--log-directory", options.log_directory, "the containers' logs go below it");
  CLI::App* latency = app.add_subcommand("latency", "each call's time, one pod after another");
  CLI::App* throughput = app.add_subcommand("throughput", "pods a second, some at once");
  CLI::App* hold = app.add_subcommand("hold", "pods that stay until the input ends");
  for (CLI::App* each : {latency, throughput, hold}) {
    each->add_option("--count", count, "pods")->check(CLI::Range(1, 100000));
  }
  throughput->add_option("--parallel", parallel, "pods at once")->check(CLI::Range(1, 1000));
  CLI11_PARSE(app, argc, argv);

  CriPods pods(options);
  auto measure = [&]() -> Result<> {
    TRY(pods.Prepare());
    if (hold->parsed()) return Hold(pods, count);
    Times times;
    CriPods::Pod first = TRY(pods.Up(times));  // warms caches up
    TRY(pods.Down(first, times));
    return latency->parsed() ? MeasureLatency(pods, count)
                             : MeasureThroughput(pods, count, parallel);
  };
  if (Result<> done = measure(); !done.ok()) {
    fprintf(stderr, "skiff-cri-bench: %s: %s\n", options.endpoint.c_str(),
            done.error().message().c_str());
    return 1;
  }
  return 0;
}

}  // namespace
}  // namespace skiff::bench

int main(int argc, char** argv) { return skiff::bench::Main(argc, argv); }

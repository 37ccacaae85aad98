// CriPods: pods at a CRI socket, ours or another runtime's, as a kubelet makes and removes them,
// each call timed.
#pragma once

#include <chrono>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"

namespace skiff::bench {

struct CriPodsOptions {
  std::string endpoint = "unix:///run/skiff/skiff.sock";
  std::string image;  // pulled where it is missing
  std::string runtime_handler;
  std::string cgroup_parent;
  std::vector<std::string> command = {"sleep", "100000"};
  bool host_network = false;
  std::string log_directory = "/tmp/skiff-cri-bench";
};

// Milliseconds by the name of the step.
using Times = std::map<std::string, double>;

// Thread-safe.
class CriPods {
 public:
  explicit CriPods(CriPodsOptions options);
  ~CriPods();

  // Pulls the image and removes pods that an interrupted run left.
  Result<> Prepare();

  struct Pod {
    std::string sandbox;
    std::string container;
  };
  // RunPodSandbox, CreateContainer, StartContainer, until ContainerStatus says running. A pod that
  // came up in part is removed again.
  Result<Pod> Up(Times& times);
  // ExecSync of `true`.
  Result<> Exec(const Pod& pod, Times& times);
  // StopContainer without grace, StopPodSandbox, RemovePodSandbox.
  Result<> Down(const Pod& pod, Times& times);

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace skiff::bench

// skiff-cri-under-test: the CRI server alone, below one directory, for crictl, critest and the
// tests beside this file. Runs in the network namespace it is started in; ends on SIGTERM and
// leaves what runs running, as the agent does.
#include <CLI/CLI.hpp>
#include <csignal>
#include <cstdio>

#include "base/log.h"
#include "base/net/conntrack.h"
#include "base/net/iptables.h"
#include "cni/bridge_network.h"
#include "cri/server.h"

namespace {

using skiff::Result;

struct Flags {
  std::string root;
  std::string binaries;
  std::string pod_cidr = "10.89.0.0/24";
  std::string cgroup_parent = "/skiff-cri-test";
  std::vector<std::string> mirrors;  // host=URL
  std::vector<std::string> cas;      // host=file
  bool remove_all = false;
};

skiff::cri::CriOptions MakeOptions(const Flags& flags) {
  skiff::cri::CriOptions options;
  options.socket = flags.root + "/skiff.sock";
  options.state_dir = flags.root + "/cri";
  options.runtime.state_dir = flags.root + "/runtime";
  options.runtime.netns_dir = flags.root + "/netns";
  options.runtime.binary_dir = flags.binaries;
  options.runtime.default_cgroup_parent = flags.cgroup_parent;
  options.images.root = flags.root + "/images";
  for (const std::string& mirror : flags.mirrors) {
    const size_t equals = mirror.find('=');
    options.images.registries.hosts[mirror.substr(0, equals)].mirrors.push_back(
        mirror.substr(equals + 1));
  }
  for (const std::string& ca : flags.cas) {
    const size_t equals = ca.find('=');
    options.images.registries.hosts[ca.substr(0, equals)].tls.ca_file = ca.substr(equals + 1);
  }
  return options;
}

Result<> Run(const Flags& flags) {
  auto iptables = TRY(skiff::net::SystemIptables::Open());
  skiff::net::SystemConntrack conntrack;
  skiff::cni::BridgeConfig bridge;
  bridge.state_dir = flags.root + "/network";
  auto network = TRY(skiff::cni::BridgeNetwork::Open(bridge, *iptables, conntrack));
  const auto range = TRY(skiff::net::IpPrefix::Parse(flags.pod_cidr));
  TRY(network->SetPodCidrs({range}, {}));
  auto options = MakeOptions(flags);
  options.network = network.get();
  auto server = TRY(skiff::cri::CriServer::Start(std::move(options)));
  if (flags.remove_all) {
    TRY(server->RemoveAll());
    server.reset();
    return network->RemoveAll();
  }
  std::puts("ready");
  std::fflush(stdout);
  sigset_t stop;
  sigemptyset(&stop);
  sigaddset(&stop, SIGTERM);
  sigaddset(&stop, SIGINT);
  int signal_number = 0;
  sigwait(&stop, &signal_number);
  return {};
}

}  // namespace

int main(int argc, char** argv) {
  Flags flags;
  CLI::App app("The CRI server of Skiff, alone");
  app.add_option("--root", flags.root, "everything lies below it")->required();
  app.add_option("--binaries", flags.binaries, "where skiff-shim and its kin are")->required();
  app.add_option("--pod-cidr", flags.pod_cidr, "the pods' range");
  app.add_option("--cgroup-parent", flags.cgroup_parent, "of pods that name none");
  app.add_option("--mirror", flags.mirrors, "HOST=URL");
  app.add_option("--ca", flags.cas, "HOST=FILE");
  app.add_flag("--remove-all", flags.remove_all, "remove every pod and the network, and end");
  CLI11_PARSE(app, argc, argv);
  sigset_t stop;
  sigemptyset(&stop);
  sigaddset(&stop, SIGTERM);
  sigaddset(&stop, SIGINT);
  sigprocmask(SIG_BLOCK, &stop, nullptr);  // for all threads
  if (auto ran = Run(flags); !ran.ok()) {
    skiff::log::Error("the CRI server cannot go on", {{"error", ran.error()}});
    return 1;
  }
  return 0;
}

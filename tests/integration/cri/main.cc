// skiff-cri-under-test: what `skiff-agent --runtime-only` runs, with failpoints armed and
// everything below one directory, for crictl, critest and the tests beside this file. Runs in the
// network namespace it is started in; ends on SIGTERM and leaves what runs running, as the agent
// does.
#include <CLI/CLI.hpp>
#include <csignal>
#include <cstdio>

#include "agent/daemon/builtin_runtime.h"
#include "agent/daemon/config.h"
#include "base/log.h"
#include "base/net/conntrack.h"
#include "base/net/iptables.h"

namespace {

using skiff::Result;
using skiff::agent::AgentConfig;
using skiff::agent::RegistryConfig;

struct Flags {
  std::string config;
  std::string root;
  std::string run;
  std::string binaries;
  std::string pod_cidr = "10.89.0.0/24";
  std::string cgroup_parent = "/skiff-cri-test";
  std::vector<std::string> mirrors;   // host=URL
  std::vector<std::string> cas;       // host=file
  std::vector<std::string> handlers;  // name=program
  bool remove_all = false;
};

RegistryConfig& Registry(AgentConfig& config, const std::string& host) {
  for (RegistryConfig& registry : config.registries) {
    if (registry.host == host) return registry;
  }
  config.registries.push_back({.host = host});
  return config.registries.back();
}

Result<AgentConfig> MakeConfig(const Flags& flags) {
  AgentConfig config;
  if (!flags.config.empty()) config = TRY(skiff::agent::LoadConfig(flags.config));
  config.runtime_only = true;
  config.run_dir = flags.run;
  config.state_dir = flags.root;
  config.libexec_dir = flags.binaries;
  config.pod_cidrs = {flags.pod_cidr};
  config.default_cgroup_parent = flags.cgroup_parent;
  config.cdi_dirs = {flags.root + "/cdi"};
  config.cni.conf_dir = flags.root + "/cni-net.d";
  for (const std::string& mirror : flags.mirrors) {
    const size_t equals = mirror.find('=');
    Registry(config, mirror.substr(0, equals)).mirrors.push_back(mirror.substr(equals + 1));
  }
  for (const std::string& ca : flags.cas) {
    const size_t equals = ca.find('=');
    Registry(config, ca.substr(0, equals)).ca_file = ca.substr(equals + 1);
  }
  for (const std::string& handler : flags.handlers) {
    const size_t equals = handler.find('=');
    config.runtime_handlers.push_back(
        {.name = handler.substr(0, equals), .path = handler.substr(equals + 1)});
  }
  TRY(skiff::agent::CompleteConfig(&config));
  return config;
}

Result<> RemoveAll(const AgentConfig& config) {
  auto iptables = TRY(skiff::net::SystemIptables::Open());
  skiff::net::SystemConntrack conntrack;
  auto runtime = TRY(skiff::agent::BuiltinRuntime::Start(config, *iptables, conntrack));
  return runtime->RemoveAll();
}

Result<> Run(const Flags& flags) {
  const AgentConfig config = TRY(MakeConfig(flags));
  if (flags.remove_all) return RemoveAll(config);
  auto runtime = TRY(skiff::agent::StandaloneRuntime::Start(config));
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
  app.add_option("--config", flags.config, "an agent.yaml, for all that has no flag here");
  app.add_option("--root", flags.root, "everything lies below it")->required();
  app.add_option("--run", flags.run,
                 "what a reboot voids, as the agent's runDir; by default the root");
  app.add_option("--binaries", flags.binaries, "where skiff-shim and its kin are")->required();
  app.add_option("--pod-cidr", flags.pod_cidr, "the pods' range");
  app.add_option("--cgroup-parent", flags.cgroup_parent, "of pods that name none");
  app.add_option("--mirror", flags.mirrors, "HOST=URL");
  app.add_option("--ca", flags.cas, "HOST=FILE");
  app.add_option("--runtime-handler", flags.handlers, "NAME=PROGRAM of an OCI runtime");
  app.add_flag("--remove-all", flags.remove_all, "remove every pod and the network, and end");
  CLI11_PARSE(app, argc, argv);
  if (flags.run.empty()) flags.run = flags.root;
  sigset_t stop;
  sigemptyset(&stop);
  sigaddset(&stop, SIGTERM);
  sigaddset(&stop, SIGINT);
  sigprocmask(SIG_BLOCK, &stop, nullptr);  // for all threads
  ::signal(SIGPIPE, SIG_IGN);              // as the agent
  if (auto ran = Run(flags); !ran.ok()) {
    skiff::log::Error("the CRI server cannot go on", {{"error", ran.error()}});
    return 1;
  }
  return 0;
}

// skiff-agent: the daemon of a node.
#include <signal.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>

#include "agent/daemon/agent.h"
#include "agent/daemon/builtin_runtime.h"
#include "agent/daemon/config.h"
#include "base/log.h"
#include "base/os/files.h"
#include "base/os/heap.h"

namespace {

using skiff::Error;
using skiff::Result;
using skiff::agent::AgentConfig;

// What the command line says; empty: as the file says.
struct Flags {
  std::string config_path = "/etc/skiff/agent.yaml";
  std::string node_name, server, token, token_file, ca_hash, ca_file, state_dir, run_dir;
  std::string runtime_endpoint, proxy_mode, cgroup_root, libexec_dir, health_address, log_level;
  std::vector<std::string> node_ips;
  bool runtime_only = false;
  bool reset = false;
  bool keep_state = false;
};

void Define(CLI::App& app, Flags& flags) {
  app.add_option("--config", flags.config_path, "configuration file")->capture_default_str();
  app.add_flag("--runtime-only", flags.runtime_only, "serve only CRI, for another kubelet");
  app.add_option("--node-name", flags.node_name, "the node's name in the cluster");
  app.add_option("--node-ip", flags.node_ips, "the node's addresses, one a family");
  app.add_option("--server", flags.server, "the control plane's node link, host:port");
  app.add_option("--token", flags.token, "join token");
  app.add_option("--token-file", flags.token_file, "file with the join token");
  app.add_option("--ca-hash", flags.ca_hash, "sha256:<hex> of the cluster CA");
  app.add_option("--ca-file", flags.ca_file, "the cluster CA, instead of its hash");
  app.add_option("--state-dir", flags.state_dir, "certificates, images, volumes");
  app.add_option("--run-dir", flags.run_dir, "sockets and what a reboot voids");
  app.add_option("--runtime-endpoint", flags.runtime_endpoint, "another CRI runtime's socket");
  app.add_option("--proxy-mode", flags.proxy_mode, "iptables, nftables, auto or none");
  app.add_option("--cgroup-root", flags.cgroup_root, "the cgroup below which pods live");
  app.add_option("--libexec-dir", flags.libexec_dir, "where skiff-shim and its kin are");
  app.add_option("--health-address", flags.health_address, "local health and metrics endpoint");
  app.add_option("--log-level", flags.log_level, "debug, info, warning or error");
  auto* reset = app.add_subcommand("reset", "remove all that Skiff made on this machine");
  reset->add_option("--config", flags.config_path, "configuration file");
  reset->add_flag("--keep-state", flags.keep_state, "keep images and certificates");
  reset->callback([&flags] { flags.reset = true; });
}

Result<AgentConfig> MakeConfig(const Flags& flags) {
  AgentConfig config = TRY(skiff::agent::LoadConfig(flags.config_path));
  auto set = [](std::string* target, const std::string& value) {
    if (!value.empty()) *target = value;
  };
  set(&config.node_name, flags.node_name);
  set(&config.server, flags.server);
  set(&config.token, flags.token);
  set(&config.ca_hash, flags.ca_hash);
  set(&config.ca_file, flags.ca_file);
  set(&config.state_dir, flags.state_dir);
  set(&config.run_dir, flags.run_dir);
  set(&config.runtime_endpoint, flags.runtime_endpoint);
  set(&config.proxy_mode, flags.proxy_mode);
  set(&config.cgroup_root, flags.cgroup_root);
  set(&config.libexec_dir, flags.libexec_dir);
  set(&config.health_address, flags.health_address);
  config.runtime_only = flags.runtime_only;
  if (!flags.node_ips.empty()) config.node_ips = flags.node_ips;
  if (!flags.token_file.empty()) {
    config.token = TRY(skiff::ReadFile(flags.token_file, 4096));
    config.token = config.token.substr(0, config.token.find_first_of(" \r\n"));
  }
  if (!flags.log_level.empty()) config.log_level = TRY(skiff::log::ParseLevel(flags.log_level));
  TRY(skiff::agent::CompleteConfig(&config));
  return config;
}

int Fail(const Error& error) {
  std::fprintf(stderr, "skiff-agent: %s\n", error.message().c_str());
  return 1;
}

// Waits for the signal to end.
void AwaitEnd(const sigset_t& signals) {
  for (;;) {
    int number = 0;
    if (::sigwait(&signals, &number) != 0) continue;
    if (number == SIGTERM || number == SIGINT) return;
  }
}

// Runs one of the two daemons until it is told to end.
template <class Daemon>
int Run(const AgentConfig& config, const sigset_t& signals) {
  auto daemon = Daemon::Start(config);
  if (!daemon.ok()) return Fail(daemon.error());
  (void)::sd_notify(0, "READY=1");
  skiff::log::Info("ready", {{"node", config.node_name}});
  AwaitEnd(signals);
  (void)::sd_notify(0, "STOPPING=1");
  skiff::log::Info("stopping; pods go on");
  daemon->reset();
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  skiff::LimitHeap();
  Flags flags;
  CLI::App app("The daemon of a Skiff node.", "skiff-agent");
  Define(app, flags);
  CLI11_PARSE(app, argc, argv);
  auto config = MakeConfig(flags);
  if (!config.ok()) return Fail(config.error());
  skiff::log::SetLevel(config->log_level);
  ::umask(0022);
  // Before any thread, so that all of them leave these signals to the main one.
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  ::pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  ::signal(SIGPIPE, SIG_IGN);
  if (flags.reset) {
    auto done = skiff::agent::ResetNode(*config, flags.keep_state);
    return done.ok() ? 0 : Fail(done.error());
  }
  return config->runtime_only ? Run<skiff::agent::StandaloneRuntime>(*config, signals)
                              : Run<skiff::agent::Agent>(*config, signals);
}

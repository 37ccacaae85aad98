#include "cli/commands.h"

#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <thread>

#include "base/os/files.h"
#include "base/os/spawn.h"
#include "base/pki/pki.h"
#include "cli/config_file.h"

namespace skiff::cli {

namespace {

constexpr std::string_view kDefaultNodeLinkPort = "6444";
constexpr std::chrono::seconds kStartTimeout{60};

void Print(const std::string& text) { (void)WriteAll(STDOUT_FILENO, text); }  // as printf(3)

bool IsTokenText(std::string_view text, size_t size) {
  return text.size() == size && std::all_of(text.begin(), text.end(), [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
         });
}

bool IsPort(std::string_view text) {
  int port = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  return error == std::errc() && end == text.data() + text.size() && port > 0 && port < 65536;
}

std::string PortOf(std::string_view address) {
  size_t colon = address.rfind(':');
  return colon == std::string_view::npos ? std::string() : std::string(address.substr(colon + 1));
}

Result<> Systemctl(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), "systemctl");
  ProgramOutput output = TRY(RunProgram(
      {.path = "/usr/bin/systemctl", .argv = arguments, .env = {"PATH=/usr/bin:/bin", "LC_ALL=C"}},
      {}, kStartTimeout));
  if (output.status.Success()) return {};
  std::string reason = output.err.substr(0, output.err.find('\n'));
  return Error(Code::kInternal, "systemctl: " + reason);
}

// sd_booted(3).
bool HasSystemd() { return PathExists("/run/systemd/system"); }

// Enables and (re)starts a unit, or says how the user starts the daemon without systemd.
Result<bool> StartUnit(const std::string& daemon, const std::string& config) {
  if (!HasSystemd()) {
    Print("This machine does not run systemd; start the daemon with:\n  " + daemon + " --config " +
          config + "\n");
    return false;
  }
  TRY(Systemctl({"enable", "--quiet", daemon}));
  TRY(Systemctl({"restart", daemon}));
  return true;
}

}  // namespace

// ---- tokens ----

std::string NodeLinkAddress(const std::string& server_url, const std::string& config_text) {
  std::string host = SettingOf(config_text, "advertiseAddress");
  if (host.empty()) host = HostOfUrl(server_url);
  std::string port = PortOf(SettingOf(config_text, "nodeLinkAddress"));
  if (!IsPort(port)) port = kDefaultNodeLinkPort;
  bool v6 = host.find(':') != std::string::npos;
  return (v6 ? "[" + host + "]" : host) + ":" + port;
}

Result<> RunTokenCreate(const TokenCreateOptions& options) {
  Kubeconfig config = TRY(LoadKubeconfig(options.kubeconfig));
  std::string ca_hash = TRY(pki::PublicKeyHash(config.ca_pem).With("the kubeconfig's CA"));
  std::string server = options.server;
  if (server.empty()) {
    Result<std::string> text = ReadFile(options.control_plane_config, 1 << 20);
    server = NodeLinkAddress(config.server, text.ok() ? *text : std::string());
  }
  ApiClient api(std::move(config));
  std::string token = TRY(CreateToken(api, options.request, Clock::Real().WallNow()));
  Print(token + "\nskiff join --server " + server + " --token " + token + " --ca-hash " + ca_hash +
        "\n");
  return {};
}

Result<> RunTokenList(const std::string& kubeconfig) {
  ApiClient api(TRY(LoadKubeconfig(kubeconfig)));
  Print(TokenTable(TRY(ListTokens(api)), Clock::Real().WallNow()));
  return {};
}

Result<> RunTokenDelete(const std::string& kubeconfig, const std::string& id_or_token) {
  ApiClient api(TRY(LoadKubeconfig(kubeconfig)));
  TRY(DeleteToken(api, id_or_token));
  Print("token " + id_or_token.substr(0, id_or_token.find('.')) + " deleted\n");
  return {};
}

// ---- join ----

Result<> CheckJoinOptions(const JoinOptions& options) {
  constexpr const char* kAdvice =
      "; `skiff token create` on the control plane prints the whole command";
  auto bad = [&](const std::string& why) { return Error(Code::kInvalidArgument, why + kAdvice); };
  size_t dot = options.token.find('.');
  if (dot == std::string::npos || !IsTokenText(options.token.substr(0, dot), 6) ||
      !IsTokenText(options.token.substr(dot + 1), 16)) {
    return bad("the token is not of the form abcdef.0123456789abcdef");
  }
  std::string_view hash = options.ca_hash;
  if (!hash.starts_with("sha256:") || hash.size() != 7 + 64 ||
      hash.substr(7).find_first_not_of("0123456789abcdef") != std::string_view::npos) {
    return bad("the CA hash is not of the form sha256:<64 hexadecimal digits>");
  }
  if (options.server.find_first_of(" \"\n/") != std::string::npos ||
      options.server.rfind(':') == std::string::npos || options.server.starts_with(':') ||
      !IsPort(PortOf(options.server))) {
    return bad("the server \"" + options.server + "\" is not HOST:PORT");
  }
  if (options.node_name.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789.-") !=
      std::string::npos) {
    return Error(Code::kInvalidArgument,
                 "the node name \"" + options.node_name +
                     "\" is not a lower-case DNS name (RFC 1123); choose another");
  }
  return {};
}

namespace {

// A token that is new to this machine asks for a new identity; the old one, of a node that was
// deleted or of another cluster, would keep the agent from using it. The agent keeps its identity
// in STATE_DIR/pki (agent/link/credentials.h).
Result<> ForgetIdentity(const std::string& config, const std::string& token) {
  Result<std::string> text = ReadFile(config, 1 << 20);
  if (!text.ok()) return {};  // no configuration yet: WriteSettings tells of real trouble
  if (SettingOf(*text, "token") == token) return {};
  std::string state_dir = SettingOf(*text, "stateDir");
  if (state_dir.empty()) state_dir = "/var/lib/skiff";
  for (const char* file : {"node.crt", "node.key", "ca.crt"}) {
    TRY(RemoveFile(state_dir + "/pki/" + file));
  }
  return {};
}

}  // namespace

Result<> RunJoin(const JoinOptions& options) {
  TRY(CheckJoinOptions(options));
  TRY(ForgetIdentity(options.config, options.token));
  Settings settings = {
      {"server", options.server}, {"token", options.token}, {"caHash", options.ca_hash}};
  if (!options.node_name.empty()) settings.emplace_back("nodeName", options.node_name);
  TRY(WriteSettings(options.config, settings).With("write the agent's configuration"));
  Print("wrote " + options.config + "\n");
  if (!options.start) return {};
  if (!TRY(StartUnit("skiff-agent", options.config))) return {};
  Print(
      "skiff-agent is started and joins the cluster; `kubectl get nodes` shows it, and "
      "`journalctl -u skiff-agent` tells what it does\n");
  return {};
}

// ---- init ----

Result<> RunInit(const InitOptions& options) {
  Settings settings;
  for (const auto& [key, value] : {std::pair("advertiseAddress", &options.advertise_address),
                                   std::pair("clusterCidr", &options.cluster_cidr),
                                   std::pair("serviceCidr", &options.service_cidr)}) {
    if (!value->empty()) settings.emplace_back(key, *value);
  }
  if (!settings.empty() || !PathExists(options.config)) {
    TRY(WriteSettings(options.config, settings).With("write the control plane's configuration"));
    Print("wrote " + options.config + "\n");
  }
  if (!options.start) return {};
  if (!TRY(StartUnit("skiff-control-plane", options.config))) return {};
  auto deadline = std::chrono::steady_clock::now() + kStartTimeout;
  Result<std::string> ready = Error(Code::kUnavailable, "no kubeconfig yet");
  while (!ready.ok()) {
    if (std::chrono::steady_clock::now() > deadline) {
      return Error(Code::kDeadlineExceeded, "the control plane is not ready after a minute (" +
                                                ready.error().message() +
                                                "); `journalctl -u skiff-control-plane` tells why");
    }
    // Another program's start has no event to wait for.
    std::this_thread::sleep_for(
        std::chrono::milliseconds(200));  // tidy: another program's start has no event
    Result<Kubeconfig> config = LoadKubeconfig(options.kubeconfig);
    if (config.ok()) ready = ApiClient(std::move(*config)).Get("/readyz");
  }
  Print("The control plane is ready.\n\n  export KUBECONFIG=" + options.kubeconfig +
        "\n  kubectl get nodes\n\nTo add a node, run `skiff token create` here and the command it "
        "prints there.\n");
  return {};
}

// ---- kubeconfig ----

Result<> RunKubeconfig(const std::string& kubeconfig, const std::string& server) {
  std::string text = TRY(ReadFile(kubeconfig, 1 << 20));
  if (!server.empty()) {
    std::string present = TRY(LoadKubeconfig(kubeconfig)).server;
    if (size_t at = text.find(present); at != std::string::npos) {
      text.replace(at, present.size(), server);
    }
  }
  Print(text);
  return {};
}

}  // namespace skiff::cli

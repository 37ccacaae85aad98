// The commands of skiff(1). Each prints what a user wants to see to standard output; an Error is
// printed by main as one line.
#pragma once

#include <string>

#include "base/result.h"
#include "cli/tokens.h"

namespace skiff::cli {

struct TokenCreateOptions {
  std::string kubeconfig;
  std::string control_plane_config;
  std::string server;  // HOST:PORT to print; empty: found out
  TokenRequest request;
};
Result<> RunTokenCreate(const TokenCreateOptions& options);
Result<> RunTokenList(const std::string& kubeconfig);
Result<> RunTokenDelete(const std::string& kubeconfig, const std::string& id_or_token);

struct JoinOptions {
  std::string server;
  std::string token;
  std::string ca_hash;
  std::string node_name;  // empty: the hostname, decided by the agent
  std::string config;
  bool start = true;
};
Result<> RunJoin(const JoinOptions& options);

struct InitOptions {
  std::string config;
  std::string kubeconfig;
  std::string advertise_address;
  std::string cluster_cidr;
  std::string service_cidr;
  bool start = true;
};
Result<> RunInit(const InitOptions& options);

// Prints the administrator's kubeconfig, for another server address if one is given.
Result<> RunKubeconfig(const std::string& kubeconfig, const std::string& server);

// Pure checks of what `skiff join` is given; the messages say what to do.
Result<> CheckJoinOptions(const JoinOptions& options);
// HOST:PORT of the node link: the kubeconfig's host unless the control plane's configuration names
// an address to advertise, and the port of its nodeLinkAddress.
std::string NodeLinkAddress(const std::string& server_url, const std::string& config_text);

}  // namespace skiff::cli

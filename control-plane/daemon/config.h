// The control plane's configuration: defaults, then the file, then the flags.
#pragma once

#include <string>
#include <vector>

#include "base/log.h"
#include "base/result.h"

namespace skiff::cp {

// As packaging/config/control-plane.yaml explains it, key by key.
struct Config {
  std::string data_dir = "/var/lib/skiff/control-plane";
  std::string kubeconfig = "/etc/skiff/admin.kubeconfig";
  std::string advertise_address;  // after FillDefaults, never empty
  std::string listen_address;     // after FillDefaults, never empty
  std::string node_link_address;  // likewise
  std::vector<std::string> certificate_names;
  // One, or one of each family; the first one's family is the cluster's primary one.
  std::vector<std::string> cluster_cidrs = {"10.244.0.0/16"};
  std::vector<std::string> service_cidrs = {"10.96.0.0/16"};
  int node_cidr_mask_size = 24;       // of nodes' IPv4 ranges
  int node_cidr_mask_size_ipv6 = 64;  // of their IPv6 ranges
  int first_node_port = 30000;
  int last_node_port = 32767;
  bool load_balancers = true;
  std::vector<std::string> load_balancer_pool;
  std::string cluster_domain = "cluster.local";
  std::vector<std::string> cluster_dns;  // after FillDefaults, one in each of service_cidrs
  std::string log_level = "info";

  // Applies the text of a configuration file. InvalidArgument names the key and its line.
  Result<void> ApplyYaml(std::string_view text);
  // Finds the addresses that are not given, and checks how the ranges and addresses fit together.
  Result<void> FillDefaults();
};

// What the command line asks for: either a configuration to run with, or text to print and an exit
// code (--help, --version, a wrong flag).
struct CommandLine {
  Config config;
  bool run = false;
  int exit_code = 0;
};
// A missing file is as an empty one, unless it was named with --config.
Result<CommandLine> ReadCommandLine(int argc, char** argv);

// "30000-32767".
Result<void> ParsePortRange(std::string_view text, int* first, int* last);

}  // namespace skiff::cp

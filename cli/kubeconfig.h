// The parts of a kubeconfig that name one cluster and one user.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"

namespace skiff::cli {

struct Kubeconfig {
  std::string server;  // "https://10.0.0.1:6443"
  std::string ca_pem;
  std::string certificate_pem;
  std::string key_pem;
  std::string token;
};

// Of the current context. Data is taken inline or from the files named, which are looked for from
// base_directory. InvalidArgument says what is missing.
Result<Kubeconfig> ParseKubeconfig(std::string_view yaml, const std::string& base_directory);
// NotFound says where it was looked for and what to do.
Result<Kubeconfig> LoadKubeconfig(const std::string& path);

// "10.0.0.1" of "https://10.0.0.1:6443"; without brackets for IPv6.
std::string HostOfUrl(std::string_view url);

}  // namespace skiff::cli

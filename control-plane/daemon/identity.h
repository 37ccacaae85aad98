// Identity: the cluster's CA, the API server's certificate and the administrator's kubeconfig, made
// at the first start and renewed in time.
//
// Under DATA_DIR/pki: ca.crt, ca.key, server.crt, server.key.
#pragma once

#include <string>
#include <vector>

#include "base/clock.h"
#include "base/pki/pki.h"
#include "base/result.h"

namespace skiff::cp {

struct IdentityOptions {
  std::string data_dir;
  std::string kubeconfig;          // path of the administrator's
  std::vector<std::string> names;  // of the server's certificate
  std::string server_url;          // "https://10.0.0.1:6443", for the kubeconfig
};

struct Identity {
  pki::KeyPair ca;
  pki::KeyPair server;
  bool server_renewed = false;  // by this call
};

// Makes what is missing, renews what is due or no longer fits, leaves the rest. Idempotent.
Result<Identity> EnsureIdentity(const IdentityOptions& options, WallTime now);

// Pure: a kubeconfig with everything inline.
std::string MakeKubeconfig(const std::string& server_url, const std::string& ca_pem,
                           const pki::KeyPair& client);
// The client certificate of a kubeconfig made by MakeKubeconfig; empty for others.
std::string ClientCertificateOf(const std::string& kubeconfig);

}  // namespace skiff::cp

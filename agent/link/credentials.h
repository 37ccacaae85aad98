// The node's identity: its key and certificate under the state directory, and how it got them.
#pragma once

#include <string>

#include "base/pki/pki.h"
#include "base/result.h"

namespace skiff::agent {

struct JoinOptions {
  std::string server;  // "host:port" of the node link
  std::string node_name;
  std::string token;      // "id.secret"
  std::string ca_hash;    // "sha256:<hex>", the pin of the token
  std::string ca_file;    // instead of the pin: the CA itself
  std::string directory;  // keeps ca.crt, node.crt and node.key
  std::string agent_version;
};

struct NodeCredentials {
  std::string ca_pem;
  pki::KeyPair node;
};

// What is on disk, or else joins: a key made here, a certificate for it from the control plane.
// Blocks for seconds. FailedPrecondition when there is neither an identity nor a token;
// Unauthenticated: the token is wrong, expired or used up, or the server's CA is not the pinned
// one; AlreadyExists: the name is another machine's. The text says what to do.
Result<NodeCredentials> LoadOrJoin(const JoinOptions& options);

// A new key and certificate in place of `present`, over its own connection.
Result<NodeCredentials> Renew(const JoinOptions& options, const NodeCredentials& present);

// The CA certificate with that hash among those a TLS server shows, without trusting any of them.
// Unauthenticated when there is none.
Result<std::string> FetchPinnedCa(const std::string& server, const std::string& ca_hash);

}  // namespace skiff::agent

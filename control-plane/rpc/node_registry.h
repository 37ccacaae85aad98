// NodeRegistry: who a node is. Lets machines join with a token, recognises them by their key
// afterwards, and keeps their Node objects registered.
//
// The Node object is made when a machine joins and carries the hash of its public key in the
// annotation skiff.dev/node-key. Deleting the Node therefore shuts the machine out until it joins
// again with a fresh token.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "base/clock.h"
#include "base/pki/pki.h"
#include "base/result.h"
#include "control-plane/api/client.h"
#include "proto/k8s/fwd.h"

namespace skiff::cp {

inline constexpr const char* kNodeKeyAnnotation = "skiff.dev/node-key";

struct TokenUse;

struct JoinOutcome {
  std::string certificate_pem;
  std::string ca_pem;
};

// Thread-safe; all calls block on the API.
class NodeRegistry {
 public:
  // client and clock must outlive this.
  NodeRegistry(Client& client, pki::KeyPair ca, const Clock& clock)
      : client_(client), ca_(std::move(ca)), clock_(clock) {}

  // Unauthenticated: the token. InvalidArgument: name or request. AlreadyExists: the name is that
  // of another machine which is connected now (is_connected says so).
  Result<JoinOutcome> Join(std::string_view token, const std::string& node,
                           std::string_view csr_pem,
                           const std::function<bool(const std::string&)>& is_connected);

  // The name in a node's certificate, if its key is still that of the Node object. PermissionDenied
  // when the Node is gone or belongs to another key by now.
  Result<std::string> Authenticate(std::string_view certificate_pem);

  // A new certificate for an authenticated node; from now on both keys are the node's.
  Result<JoinOutcome> Renew(const std::string& node, std::string_view csr_pem);

  // Brings the Node object in line with what the node says of itself: labels within the bounds of
  // the NodeRestriction admission plugin, annotations, status. certificate_pem: what it connected
  // with; older keys are forgotten.
  Result<> Register(const std::string& node, std::string_view certificate_pem,
                    const k8s::core::v1::Node& said);

 private:
  // Checks that the token allows the use; puts it on record if asked to.
  Result<> UseToken(std::string_view token, const TokenUse& use, bool record);
  Result<> AdmitKey(const std::string& node, const std::string& key_hash,
                    const std::function<bool(const std::string&)>& is_connected);

  Client& client_;
  const pki::KeyPair ca_;
  const Clock& clock_;
};

// Whether a node may set the label on itself
// (https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/#noderestriction).
bool MayNodeSetLabel(std::string_view key);
// An RFC 1123 subdomain.
bool IsNodeName(std::string_view name);

}  // namespace skiff::cp

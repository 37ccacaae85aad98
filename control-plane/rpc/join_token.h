// Join tokens: "id.secret", kept as Kubernetes bootstrap-token Secrets in kube-system
// (https://kubernetes.io/docs/reference/access-authn-authz/bootstrap-tokens/), with how often they
// may be used besides. Pure.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/clock.h"
#include "base/result.h"
#include "proto/k8s/fwd.h"

namespace skiff::cp {

struct JoinToken {
  std::string id;      // [a-z0-9]{6}; not secret
  std::string secret;  // [a-z0-9]{16}
  // InvalidArgument, without the text in the message.
  static Result<JoinToken> Parse(std::string_view text);
  std::string SecretName() const { return "bootstrap-token-" + id; }
};

// One use of a token.
struct TokenUse {
  std::string node;
  std::string key_hash;  // of the node's public key
  bool operator==(const TokenUse&) const = default;
};

// Whether the token, as its Secret says, lets the node in. Success also for a use that is on record
// already: the answer to it was lost. Unauthenticated with one line that says why: wrong,
// expired, used up, not for joining.
Result<> CheckToken(const k8s::core::v1::Secret* secret, const JoinToken& token,
                    const TokenUse& use, WallTime now);
// The Secret with the use on record; nothing if it is already.
std::optional<k8s::core::v1::Secret> RecordUse(const k8s::core::v1::Secret& secret,
                                               const TokenUse& use);

}  // namespace skiff::cp

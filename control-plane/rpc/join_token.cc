#include "control-plane/rpc/join_token.h"

#include <openssl/crypto.h>

#include <algorithm>
#include <charconv>
#include <vector>

#include "proto/k8s/core/v1/config.pb.h"

namespace skiff::cp {

namespace {

namespace core = k8s::core::v1;

// Members of a token's Secret: upstream's, and "max-uses" and "used-by" of our own.
constexpr const char* kTokenSecret = "token-secret";
constexpr const char* kExpiration = "expiration";
constexpr const char* kUsage = "usage-bootstrap-authentication";
constexpr const char* kMaxUses = "max-uses";  // 0 or none: any number
constexpr const char* kUsedBy = "used-by";    // lines "NODE KEYHASH"

bool IsTokenText(std::string_view text, size_t size) {
  return text.size() == size && std::all_of(text.begin(), text.end(), [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
         });
}

// What to do about it is said where the user reads it, by the agent.
Error Refuse(const std::string& why) { return Error(Code::kUnauthenticated, why); }

std::string Member(const core::Secret& secret, const char* name) {
  auto found = secret.data().find(name);
  return found == secret.data().end() ? std::string() : found->second;
}

std::vector<TokenUse> UsesOf(const core::Secret& secret) {
  std::vector<TokenUse> uses;
  std::string text = Member(secret, kUsedBy);
  std::string_view rest = text;
  while (!rest.empty()) {
    std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(rest.size(), line.size() + 1));
    size_t space = line.find(' ');
    if (space == std::string_view::npos) continue;
    uses.push_back({std::string(line.substr(0, space)), std::string(line.substr(space + 1))});
  }
  return uses;
}

bool HasUse(const std::vector<TokenUse>& uses, const TokenUse& use) {
  return std::find(uses.begin(), uses.end(), use) != uses.end();
}

}  // namespace

Result<JoinToken> JoinToken::Parse(std::string_view text) {
  size_t dot = text.find('.');
  if (dot == std::string_view::npos || !IsTokenText(text.substr(0, dot), 6) ||
      !IsTokenText(text.substr(dot + 1), 16)) {
    return Error(Code::kInvalidArgument,
                 "the join token is not of the form abcdef.0123456789abcdef (6 and 16 lower-case "
                 "letters and digits)");
  }
  return JoinToken{std::string(text.substr(0, dot)), std::string(text.substr(dot + 1))};
}

Result<> CheckToken(const core::Secret* secret, const JoinToken& token, const TokenUse& use,
                    WallTime now) {
  std::string stored = secret != nullptr ? Member(*secret, kTokenSecret) : std::string();
  // An unknown id and a wrong secret look the same, also in time.
  std::string compared = stored.size() == token.secret.size() ? stored : std::string(16, '\0');
  if (CRYPTO_memcmp(compared.data(), token.secret.data(), token.secret.size()) != 0) {
    return Refuse("the join token is wrong or has been deleted");
  }
  if (Member(*secret, kUsage) != "true") return Refuse("the join token is not for joining nodes");
  if (std::string text = Member(*secret, kExpiration); !text.empty()) {
    Result<WallTime> expiration = ParseTime(text);
    if (!expiration.ok() || now >= *expiration) {
      return Refuse("the join token expired at " + text);
    }
  }
  std::vector<TokenUse> uses = UsesOf(*secret);
  if (HasUse(uses, use)) return {};
  size_t max_uses = 0;
  std::string text = Member(*secret, kMaxUses);
  (void)std::from_chars(text.data(), text.data() + text.size(), max_uses);  // no number: no limit
  if (max_uses > 0 && uses.size() >= max_uses) {
    return Refuse("the join token has been used already, by node " + uses.back().node);
  }
  return {};
}

std::optional<core::Secret> RecordUse(const core::Secret& secret, const TokenUse& use) {
  if (HasUse(UsesOf(secret), use)) return std::nullopt;
  core::Secret changed = secret;
  (*changed.mutable_data())[kUsedBy] += use.node + " " + use.key_hash + "\n";
  return changed;
}

}  // namespace skiff::cp

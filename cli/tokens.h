// Join tokens as Kubernetes bootstrap-token Secrets in kube-system, seen from the command line.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "cli/api_client.h"

namespace skiff::cli {

struct TokenRequest {
  std::chrono::seconds ttl{24 * 3600};  // 0: never expires
  int max_uses = 1;                     // 0: any number
  std::string description;
};

struct TokenInfo {
  std::string id;
  std::optional<WallTime> expiration;
  int max_uses = 0;
  std::vector<std::string> used_by;  // names of nodes
  std::string description;
};

// "id.secret".
Result<std::string> CreateToken(ApiClient& api, const TokenRequest& request, WallTime now);
// Sorted by id.
Result<std::vector<TokenInfo>> ListTokens(ApiClient& api);
// Takes an id or a whole token. NotFound when there is no such token.
Result<> DeleteToken(ApiClient& api, std::string_view id_or_token);

// Pure: the Secret of a token, and back.
std::string TokenSecretJson(std::string_view id, std::string_view secret,
                            const TokenRequest& request, WallTime now);
Result<std::vector<TokenInfo>> ParseTokenList(std::string_view json);
// One line a token under a heading.
std::string TokenTable(const std::vector<TokenInfo>& tokens, WallTime now);

// "90s", "30m", "24h", "7d"; "0" for never.
Result<std::chrono::seconds> ParseTtl(std::string_view text);

}  // namespace skiff::cli

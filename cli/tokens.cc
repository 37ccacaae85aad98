#include "cli/tokens.h"

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>

#include "base/base64.h"
#include "base/random.h"
#include "cli/table.h"

namespace skiff::cli {

namespace {

using nlohmann::json;

constexpr const char* kSecretsPath = "/api/v1/namespaces/kube-system/secrets";
constexpr const char* kTokenType = "bootstrap.kubernetes.io/token";
constexpr std::string_view kAlphabet = "abcdefghijklmnopqrstuvwxyz0123456789";

// A member of a Secret's data, decoded; empty when it is not there.
std::string Member(const json& secret, const char* name) {
  auto data = secret.find("data");
  if (data == secret.end() || !data->is_object()) return {};
  auto member = data->find(name);
  if (member == data->end() || !member->is_string()) return {};
  return Base64Decode(member->get<std::string>()).value_or({});
}

TokenInfo InfoOf(const json& secret) {
  TokenInfo info;
  info.id = Member(secret, "token-id");
  info.description = Member(secret, "description");
  if (Result<WallTime> time = ParseTime(Member(secret, "expiration")); time.ok()) {
    info.expiration = *time;
  }
  std::string uses = Member(secret, "max-uses");
  (void)std::from_chars(uses.data(), uses.data() + uses.size(), info.max_uses);  // none: no limit
  std::string used_by = Member(secret, "used-by");
  std::string_view rest = used_by;
  while (!rest.empty()) {
    std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(rest.size(), line.size() + 1));
    if (!line.empty()) info.used_by.emplace_back(line.substr(0, line.find(' ')));
  }
  return info;
}

std::string Remaining(const TokenInfo& token, WallTime now) {
  if (!token.expiration) return "never";
  auto left = std::chrono::duration_cast<std::chrono::minutes>(*token.expiration - now).count();
  if (*token.expiration <= now) return "expired";
  if (left < 60) return std::to_string(left) + "m";
  return std::to_string(left / 60) + "h" + std::to_string(left % 60) + "m";
}

}  // namespace

std::string TokenSecretJson(std::string_view id, std::string_view secret,
                            const TokenRequest& request, WallTime now) {
  json data = {
      {"token-id", id},
      {"token-secret", secret},
      {"usage-bootstrap-authentication", "true"},
      {"usage-bootstrap-signing", "true"},
      {"max-uses", std::to_string(request.max_uses)},
  };
  if (request.ttl.count() > 0) data["expiration"] = FormatTime(now + request.ttl);
  if (!request.description.empty()) data["description"] = request.description;
  json object = {
      {"apiVersion", "v1"},
      {"kind", "Secret"},
      {"metadata", {{"name", "bootstrap-token-" + std::string(id)}, {"namespace", "kube-system"}}},
      {"type", kTokenType},
      {"stringData", data}};
  return object.dump(-1, ' ', false, json::error_handler_t::replace);
}

Result<std::string> CreateToken(ApiClient& api, const TokenRequest& request, WallTime now) {
  std::string id = RandomString(6, kAlphabet), secret = RandomString(16, kAlphabet);
  TRY(api.Post(kSecretsPath, TokenSecretJson(id, secret, request, now)));
  return id + "." + secret;
}

Result<std::vector<TokenInfo>> ParseTokenList(std::string_view text) {
  json list = json::parse(text, nullptr, false);
  if (!list.is_object() || !list.contains("items") || !list["items"].is_array()) {
    return Error(Code::kInternal, "the control plane's answer is not a list of Secrets");
  }
  std::vector<TokenInfo> tokens;
  for (const json& item : list["items"]) {
    if (!item.is_object() || item.value("type", json()) != kTokenType) continue;
    tokens.push_back(InfoOf(item));
  }
  std::sort(tokens.begin(), tokens.end(),
            [](const TokenInfo& a, const TokenInfo& b) { return a.id < b.id; });
  return tokens;
}

Result<std::vector<TokenInfo>> ListTokens(ApiClient& api) {
  return ParseTokenList(TRY(api.Get(kSecretsPath)));
}

Result<> DeleteToken(ApiClient& api, std::string_view id_or_token) {
  std::string id(id_or_token.substr(0, id_or_token.find('.')));
  bool clean = id.size() == 6 && id.find_first_not_of(kAlphabet) == std::string::npos;
  if (!clean) {
    return Error(Code::kInvalidArgument,
                 "\"" + id + "\" is not a token's id (6 lower-case letters and digits)");
  }
  Result<std::string> deleted = api.Delete(std::string(kSecretsPath) + "/bootstrap-token-" + id);
  if (!deleted.ok() && deleted.error().code() == Code::kNotFound) {
    return Error(Code::kNotFound, "there is no token " + id + "; `skiff token list` shows them");
  }
  TRY(std::move(deleted));
  return {};
}

std::string TokenTable(const std::vector<TokenInfo>& tokens, WallTime now) {
  std::vector<std::vector<std::string>> rows = {
      {"ID", "TTL", "EXPIRES", "USES", "USED BY", "DESCRIPTION"}};
  for (const TokenInfo& token : tokens) {
    std::string names;
    for (const std::string& name : token.used_by) names += (names.empty() ? "" : ",") + name;
    std::string limit = token.max_uses > 0 ? std::to_string(token.max_uses) : "unlimited";
    rows.push_back({token.id, Remaining(token, now),
                    token.expiration ? FormatTime(*token.expiration) : "never",
                    std::to_string(token.used_by.size()) + "/" + limit, names.empty() ? "-" : names,
                    token.description.empty() ? "-" : token.description});
  }
  return RenderTable(rows);
}

Result<std::chrono::seconds> ParseTtl(std::string_view text) {
  int64_t count = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), count);
  std::string_view unit = text.substr(static_cast<size_t>(end - text.data()));
  int64_t factor = unit == "s"   ? 1
                   : unit == "m" ? 60
                   : unit == "h" ? 3600
                   : unit == "d" ? 86400
                                 : 0;
  if (unit.empty() && count == 0) factor = 1;
  constexpr int64_t kTenYears = 3650LL * 86400;
  if (error != std::errc() || count < 0 || factor == 0 || count > kTenYears / factor) {
    return Error(Code::kInvalidArgument, "\"" + std::string(text) +
                                             "\" is not a time to live, such as 30m, 24h or 7d "
                                             "(0 for no end)");
  }
  return std::chrono::seconds(count * factor);
}

}  // namespace skiff::cli

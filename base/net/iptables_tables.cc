#include "base/net/iptables_tables.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <string_view>

namespace skiff::net {
namespace {

constexpr std::array<std::string_view, 5> kTables = {"raw", "mangle", "nat", "filter", "security"};
constexpr std::array<std::string_view, 5> kBuiltinChains = {"PREROUTING", "INPUT", "FORWARD",
                                                            "OUTPUT", "POSTROUTING"};

bool DoesNothing(const nft::Chain& chain) {
  const auto* named = std::find(kBuiltinChains.begin(), kBuiltinChains.end(), chain.name);
  return named != kBuiltinChains.end() && chain.base && !chain.base->drop;
}

Result<> RemoveIfBare(Nft& nft, const nft::Table& table) {
  auto seen = nft.List(table);
  if (!seen.ok()) return IsNoTable(seen.error()) ? Result<>() : Result<>(seen.error());
  if (!seen->rules.empty() || !seen->sets.empty()) return {};
  if (!std::all_of(seen->chains.begin(), seen->chains.end(), DoesNothing)) return {};
  nft::Transaction change(table);
  for (const nft::Chain& chain : seen->chains) change.DeleteEmptyChain(chain.name);
  Result<> removed = nft.Commit(std::move(change.DeleteEmptyTable()));
  if (removed.ok() || removed.error().sys_errno() == EBUSY || IsNoTable(removed.error())) return {};
  return removed;
}

}  // namespace

Result<> RemoveBareIptablesTables(Nft& nft) {
  for (nft::Family family : {nft::Family::kIp4, nft::Family::kIp6}) {
    for (std::string_view name : kTables) {
      TRY(RemoveIfBare(nft, {family, std::string(name)}));
    }
  }
  return {};
}

}  // namespace skiff::net

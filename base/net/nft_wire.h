// What writing and reading nftables messages share. For base/net/nft_messages.cc and
// nft_listing.cc.
#pragma once

#include <libnftnl/chain.h>
#include <libnftnl/rule.h>
#include <libnftnl/set.h>
#include <libnftnl/table.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "base/net/nft_types.h"
#include "base/result.h"

namespace skiff::net::nft {

// libnftnl's objects.
struct NftnlDeleter {
  void operator()(nftnl_table* table) const { nftnl_table_free(table); }
  void operator()(nftnl_chain* chain) const { nftnl_chain_free(chain); }
  void operator()(nftnl_rule* rule) const { nftnl_rule_free(rule); }
  void operator()(nftnl_set* set) const { nftnl_set_free(set); }
};
template <class T>
using NftnlPtr = std::unique_ptr<T, NftnlDeleter>;
template <class T>
NftnlPtr<T> Checked(T* object) {
  CHECK(object != nullptr);
  return NftnlPtr<T>(object);
}

// The numbers of nft(8)'s types; the kernel keeps them for it and looks at lengths only.
struct TypeNumber {
  Type type;
  uint32_t number;
};
constexpr TypeNumber kTypeNumbers[] = {{Type::kIp4, 7},       {Type::kIp6, 8},
                                       {Type::kProtocol, 12}, {Type::kPort, 13},
                                       {Type::kMark, 19},     {Type::kInterface, 41}};
constexpr uint32_t kTypeBits = 6;

// A concatenation's fields are padded, a single one is not.
inline size_t WireSize(const std::vector<Type>& fields, size_t padded) {
  return fields.size() == 1 ? SizeOf(fields[0]) : padded;
}

}  // namespace skiff::net::nft

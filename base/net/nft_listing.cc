#include <arpa/inet.h>
#include <endian.h>
#include <libmnl/libmnl.h>
#include <libnftnl/common.h>
#include <libnftnl/expr.h>
#include <libnftnl/udata.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "base/net/nft_messages.h"
#include "base/net/nft_wire.h"

namespace skiff::net::nft {
namespace {

std::vector<Type> ParseTypes(uint32_t number) {
  std::vector<Type> fields;
  for (; number != 0; number >>= kTypeBits) {
    for (const TypeNumber& known : kTypeNumbers) {
      if (known.number == (number & ((1 << kTypeBits) - 1))) fields.push_back(known.type);
    }
  }
  std::reverse(fields.begin(), fields.end());
  return fields;
}

std::string ParseComment(uint8_t type, const void* data, size_t size) {
  const auto* bytes = static_cast<const uint8_t*>(data);
  for (size_t at = 0; at + 2 <= size && at + 2 + bytes[at + 1] <= size; at += 2 + bytes[at + 1]) {
    if (bytes[at] != type || bytes[at + 1] == 0) continue;
    return std::string(reinterpret_cast<const char*>(bytes) + at + 2, bytes[at + 1] - 1u);
  }
  return "";
}

Verdict::Kind ParseVerdictNumber(int32_t number) {
  switch (number) {
    case NF_ACCEPT: return Verdict::Kind::kAccept;
    case NF_DROP: return Verdict::Kind::kDrop;
    case NFT_RETURN: return Verdict::Kind::kReturn;
    case NFT_JUMP: return Verdict::Kind::kJump;
    case NFT_GOTO: return Verdict::Kind::kGoto;
    default: return Verdict::Kind::kContinue;
  }
}

Bytes Predecessor(Bytes key) {
  for (size_t i = key.size(); i-- > 0;) {
    key[i] = static_cast<char>(key[i] - 1);
    if (key[i] != '\xff') break;
  }
  return key;
}

std::optional<Hook> ParseHook(uint32_t number) {
  switch (number) {
    case NF_INET_PRE_ROUTING: return Hook::kPrerouting;
    case NF_INET_LOCAL_IN: return Hook::kInput;
    case NF_INET_FORWARD: return Hook::kForward;
    case NF_INET_LOCAL_OUT: return Hook::kOutput;
    case NF_INET_POST_ROUTING: return Hook::kPostrouting;
    default: return std::nullopt;
  }
}

bool Same(const char* name, const Table& table) { return name != nullptr && table.name == name; }

// Attributes of one level, by type.
template <size_t kMax>
std::array<const nlattr*, kMax + 1> ParseNest(const nlattr* nest) {
  std::array<const nlattr*, kMax + 1> found{};
  if (nest == nullptr) return found;
  mnl_attr_parse_nested(
      nest,
      [](const nlattr* attribute, void* into) {
        if (mnl_attr_get_type(attribute) <= kMax) {
          (*static_cast<std::array<const nlattr*, kMax + 1>*>(into))[mnl_attr_get_type(attribute)] =
              attribute;
        }
        return MNL_CB_OK;
      },
      &found);
  return found;
}

Bytes ParseValue(const nlattr* nest) {
  const nlattr* value = ParseNest<NFTA_DATA_MAX>(nest)[NFTA_DATA_VALUE];
  if (value == nullptr) return "";
  return Bytes(static_cast<const char*>(mnl_attr_get_payload(value)),
               mnl_attr_get_payload_len(value));
}

KernelElement ParseElement(const nlattr* nest) {
  auto attributes = ParseNest<NFTA_SET_ELEM_MAX>(nest);
  KernelElement parsed;
  Element& element = parsed.element;
  element.key = ParseValue(attributes[NFTA_SET_ELEM_KEY]);
  element.key_end = ParseValue(attributes[NFTA_SET_ELEM_KEY_END]);
  if (const nlattr* data = attributes[NFTA_SET_ELEM_DATA]) {
    element.data = ParseValue(data);
    if (const nlattr* verdict = ParseNest<NFTA_DATA_MAX>(data)[NFTA_DATA_VERDICT]) {
      auto parts = ParseNest<NFTA_VERDICT_MAX>(verdict);
      element.verdict.emplace();
      if (const nlattr* code = parts[NFTA_VERDICT_CODE]) {
        element.verdict->kind =
            ParseVerdictNumber(static_cast<int32_t>(ntohl(mnl_attr_get_u32(code))));
      }
      if (const nlattr* chain = parts[NFTA_VERDICT_CHAIN]) {
        element.verdict->chain = mnl_attr_get_str(chain);
      }
    }
  }
  if (const nlattr* timeout = attributes[NFTA_SET_ELEM_TIMEOUT]) {
    element.timeout =
        std::chrono::milliseconds(static_cast<int64_t>(be64toh(mnl_attr_get_u64(timeout))));
  }
  if (const nlattr* data = attributes[NFTA_SET_ELEM_USERDATA]) {
    element.comment = ParseComment(NFTNL_UDATA_SET_ELEM_COMMENT, mnl_attr_get_payload(data),
                                   mnl_attr_get_payload_len(data));
  }
  if (const nlattr* flags = attributes[NFTA_SET_ELEM_FLAGS]) {
    parsed.interval_end = (ntohl(mnl_attr_get_u32(flags)) & NFT_SET_ELEM_INTERVAL_END) != 0;
  }
  return parsed;
}

void PadElement(const Set& set, Element& element) {
  element.key.resize(set.key_size());
  if (!element.key_end.empty()) element.key_end.resize(set.key_size());
  element.data.resize(set.data_size());
}

// Starts and the ends behind them, ends first where they touch.
std::vector<Element> JoinRanges(std::vector<KernelElement> elements) {
  std::sort(elements.begin(), elements.end(), [](const KernelElement& a, const KernelElement& b) {
    return std::tuple(a.element.key, !a.interval_end) < std::tuple(b.element.key, !b.interval_end);
  });
  std::vector<Element> joined;
  for (size_t i = 0; i < elements.size(); ++i) {
    if (elements[i].interval_end) continue;
    Element& element = joined.emplace_back(std::move(elements[i].element));
    bool closed = i + 1 < elements.size() && elements[i + 1].interval_end;
    element.key_end =
        closed ? Predecessor(elements[i + 1].element.key) : Bytes(element.key.size(), '\xff');
  }
  return joined;
}

}  // namespace

std::optional<Chain> ParseChain(const nlmsghdr* header, const Table& table) {
  auto from = Checked(nftnl_chain_alloc());
  if (nftnl_chain_nlmsg_parse(header, from.get()) != 0 ||
      !Same(nftnl_chain_get_str(from.get(), NFTNL_CHAIN_TABLE), table)) {
    return std::nullopt;
  }
  const char* name = nftnl_chain_get_str(from.get(), NFTNL_CHAIN_NAME);
  if (name == nullptr) return std::nullopt;
  Chain chain{.name = name};
  if (!nftnl_chain_is_set(from.get(), NFTNL_CHAIN_HOOKNUM)) return chain;
  auto hook = ParseHook(nftnl_chain_get_u32(from.get(), NFTNL_CHAIN_HOOKNUM));
  if (!hook) return chain;
  const char* type = nftnl_chain_get_str(from.get(), NFTNL_CHAIN_TYPE);
  chain.base = BaseChain{
      .type = type != nullptr && strcmp(type, "nat") == 0 ? ChainType::kNat : ChainType::kFilter,
      .hook = *hook,
      .priority = nftnl_chain_get_s32(from.get(), NFTNL_CHAIN_PRIO),
      .drop = nftnl_chain_get_u32(from.get(), NFTNL_CHAIN_POLICY) == NF_DROP};
  return chain;
}

std::optional<Set> ParseSet(const nlmsghdr* header, const Table& table) {
  auto from = Checked(nftnl_set_alloc());
  if (nftnl_set_nlmsg_parse(header, from.get()) != 0 ||
      !Same(nftnl_set_get_str(from.get(), NFTNL_SET_TABLE), table)) {
    return std::nullopt;
  }
  uint32_t flags = nftnl_set_get_u32(from.get(), NFTNL_SET_FLAGS);
  const char* name = nftnl_set_get_str(from.get(), NFTNL_SET_NAME);
  if (name == nullptr || (flags & NFT_SET_ANONYMOUS) != 0) return std::nullopt;
  Set set{.name = name,
          .key = ParseTypes(nftnl_set_get_u32(from.get(), NFTNL_SET_KEY_TYPE)),
          .interval = (flags & NFT_SET_INTERVAL) != 0,
          .dynamic = (flags & NFT_SET_EVAL) != 0,
          .timeouts = (flags & NFT_SET_TIMEOUT) != 0,
          .size = nftnl_set_get_u32(from.get(), NFTNL_SET_DESC_SIZE)};
  if ((flags & NFT_SET_MAP) == 0) return set;
  uint32_t data = nftnl_set_get_u32(from.get(), NFTNL_SET_DATA_TYPE);
  set.data = data == NFT_DATA_VERDICT ? std::vector<Type>{Type::kVerdict} : ParseTypes(data);
  return set;
}

std::optional<RuleInfo> ParseRule(const nlmsghdr* header, const Table& table) {
  auto from = Checked(nftnl_rule_alloc());
  if (nftnl_rule_nlmsg_parse(header, from.get()) != 0 ||
      !Same(nftnl_rule_get_str(from.get(), NFTNL_RULE_TABLE), table)) {
    return std::nullopt;
  }
  RuleInfo rule;
  if (const char* chain = nftnl_rule_get_str(from.get(), NFTNL_RULE_CHAIN)) rule.chain = chain;
  uint32_t size = 0;
  if (const void* data = nftnl_rule_get_data(from.get(), NFTNL_RULE_USERDATA, &size)) {
    rule.comment = ParseComment(NFTNL_UDATA_RULE_COMMENT, data, size);
  }
  nftnl_expr_foreach(
      from.get(),
      [](nftnl_expr* expression, void* into) {
        const char* name = nftnl_expr_get_str(expression, NFTNL_EXPR_NAME);
        static_cast<RuleInfo*>(into)->expressions.emplace_back(name == nullptr ? "" : name);
        return MNL_CB_OK;
      },
      &rule);
  return rule;
}

void ParseElements(const nlmsghdr* header, std::vector<KernelElement>& elements) {
  mnl_attr_parse(
      header, sizeof(nfgenmsg),
      [](const nlattr* attribute, void* into) {
        if (mnl_attr_get_type(attribute) != NFTA_SET_ELEM_LIST_ELEMENTS) return MNL_CB_OK;
        mnl_attr_parse_nested(
            attribute,
            [](const nlattr* element, void* list) {
              static_cast<std::vector<KernelElement>*>(list)->push_back(ParseElement(element));
              return MNL_CB_OK;
            },
            into);
        return MNL_CB_OK;
      },
      &elements);
}

std::vector<Element> JoinElements(const Set& set, std::vector<KernelElement> elements) {
  std::vector<Element> joined;
  if (set.interval && set.key.size() == 1) {
    joined = JoinRanges(std::move(elements));
  } else {
    for (KernelElement& element : elements) joined.push_back(std::move(element.element));
    std::sort(joined.begin(), joined.end(),
              [](const Element& a, const Element& b) { return a.key < b.key; });
  }
  for (Element& element : joined) PadElement(set, element);
  return joined;
}

}  // namespace skiff::net::nft

#include "base/net/nft_messages.h"

#include <arpa/inet.h>
#include <endian.h>
#include <libmnl/libmnl.h>
#include <libnftnl/chain.h>
#include <libnftnl/common.h>
#include <libnftnl/rule.h>
#include <libnftnl/set.h>
#include <libnftnl/table.h>
#include <libnftnl/udata.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>

#include <algorithm>
#include <limits>

#include "base/net/nft_rule_message.h"
#include "base/net/nft_wire.h"

namespace skiff::net::nft {
namespace {

constexpr size_t kStagingSize = 128 * 1024;
// Attributes have 16 bits for their length; an element takes less than a kilobyte.
constexpr size_t kElementsPerMessage = 32 * 1024;
constexpr size_t kLongestComment = NFTNL_UDATA_COMMENT_MAXLEN - 1;

uint32_t HookNumber(Hook hook) {
  switch (hook) {
    case Hook::kPrerouting: return NF_INET_PRE_ROUTING;
    case Hook::kInput: return NF_INET_LOCAL_IN;
    case Hook::kForward: return NF_INET_FORWARD;
    case Hook::kOutput: return NF_INET_LOCAL_OUT;
    case Hook::kPostrouting: return NF_INET_POST_ROUTING;
  }
  return NF_INET_PRE_ROUTING;
}

uint32_t TypesNumber(const std::vector<Type>& fields) {
  uint32_t number = 0;
  for (Type field : fields) {
    for (const TypeNumber& known : kTypeNumbers) {
      if (known.type == field) number = number << kTypeBits | known.number;
    }
  }
  return number;
}

Bytes UserData(uint8_t type, const std::string& comment) {
  Bytes data;
  std::string text = comment.substr(0, kLongestComment);
  data.push_back(static_cast<char>(type));
  data.push_back(static_cast<char>(text.size() + 1));
  return data.append(text.c_str(), text.size() + 1);
}

int32_t VerdictNumber(Verdict::Kind kind) {
  switch (kind) {
    case Verdict::Kind::kAccept: return NF_ACCEPT;
    case Verdict::Kind::kDrop: return NF_DROP;
    case Verdict::Kind::kContinue: return NFT_CONTINUE;
    case Verdict::Kind::kReturn: return NFT_RETURN;
    case Verdict::Kind::kJump: return NFT_JUMP;
    case Verdict::Kind::kGoto: return NFT_GOTO;
  }
  return NFT_CONTINUE;
}

void PutValue(nlmsghdr* header, uint16_t attribute, const Bytes& value) {
  nlattr* nest = mnl_attr_nest_start(header, attribute);
  mnl_attr_put(header, NFTA_DATA_VALUE, value.size(), value.data());
  mnl_attr_nest_end(header, nest);
}

void PutVerdict(nlmsghdr* header, const Verdict& verdict) {
  nlattr* data = mnl_attr_nest_start(header, NFTA_SET_ELEM_DATA);
  nlattr* nest = mnl_attr_nest_start(header, NFTA_DATA_VERDICT);
  mnl_attr_put_u32(header, NFTA_VERDICT_CODE,
                   htonl(static_cast<uint32_t>(VerdictNumber(verdict.kind))));
  if (!verdict.chain.empty()) mnl_attr_put_strz(header, NFTA_VERDICT_CHAIN, verdict.chain.c_str());
  mnl_attr_nest_end(header, nest);
  mnl_attr_nest_end(header, data);
}

// The next key; nothing behind the last one.
std::optional<Bytes> Successor(Bytes key) {
  for (size_t i = key.size(); i-- > 0;) {
    key[i] = static_cast<char>(key[i] + 1);
    if (key[i] != 0) return key;
  }
  return std::nullopt;
}

void PutElement(nlmsghdr* header, const Element& element, bool add, bool interval_end) {
  nlattr* nest = mnl_attr_nest_start(header, NFTA_LIST_ELEM);
  PutValue(header, NFTA_SET_ELEM_KEY, element.key);
  if (!element.key_end.empty()) PutValue(header, NFTA_SET_ELEM_KEY_END, element.key_end);
  if (interval_end) {
    mnl_attr_put_u32(header, NFTA_SET_ELEM_FLAGS, htonl(NFT_SET_ELEM_INTERVAL_END));
  } else if (add) {
    if (element.verdict) {
      PutVerdict(header, *element.verdict);
    } else if (!element.data.empty()) {
      PutValue(header, NFTA_SET_ELEM_DATA, element.data);
    }
    if (element.timeout.count() > 0) {
      mnl_attr_put_u64(header, NFTA_SET_ELEM_TIMEOUT,
                       htobe64(static_cast<uint64_t>(element.timeout.count())));
    }
    if (!element.comment.empty()) {
      Bytes data = UserData(NFTNL_UDATA_SET_ELEM_COMMENT, element.comment);
      mnl_attr_put(header, NFTA_SET_ELEM_USERDATA, data.size(), data.data());
    }
  }
  mnl_attr_nest_end(header, nest);
}

}  // namespace

uint16_t FamilyNumber(Family family) {
  switch (family) {
    case Family::kIp4: return NFPROTO_IPV4;
    case Family::kIp6: return NFPROTO_IPV6;
    case Family::kInet: return NFPROTO_INET;
  }
  return NFPROTO_INET;
}

// Writes one operation's message.
struct BatchWriter::Writer {
  BatchWriter& batch;
  const char* table;

  void operator()(const op::AddTable&) {
    auto object = Checked(nftnl_table_alloc());
    nftnl_table_set_str(object.get(), NFTNL_TABLE_NAME, table);
    nlmsghdr* header = batch.Start(NFT_MSG_NEWTABLE, NLM_F_CREATE);
    nftnl_table_nlmsg_build_payload(header, object.get());
    batch.Send(header);
  }
  void operator()(const op::DeleteTable& gone) {
    auto object = Checked(nftnl_table_alloc());
    nftnl_table_set_str(object.get(), NFTNL_TABLE_NAME, table);
    nlmsghdr* header = batch.Start(NFT_MSG_DELTABLE, gone.if_empty ? NLM_F_NONREC : 0);
    nftnl_table_nlmsg_build_payload(header, object.get());
    batch.Send(header);
  }
  void operator()(const op::AddChain& add) {
    auto object = Checked(nftnl_chain_alloc());
    nftnl_chain_set_str(object.get(), NFTNL_CHAIN_TABLE, table);
    nftnl_chain_set_str(object.get(), NFTNL_CHAIN_NAME, add.chain.name.c_str());
    if (const auto& base = add.chain.base) {
      nftnl_chain_set_u32(object.get(), NFTNL_CHAIN_HOOKNUM, HookNumber(base->hook));
      nftnl_chain_set_s32(object.get(), NFTNL_CHAIN_PRIO, base->priority);
      nftnl_chain_set_str(object.get(), NFTNL_CHAIN_TYPE,
                          base->type == ChainType::kNat ? "nat" : "filter");
      nftnl_chain_set_u32(object.get(), NFTNL_CHAIN_POLICY, base->drop ? NF_DROP : NF_ACCEPT);
    }
    nlmsghdr* header = batch.Start(NFT_MSG_NEWCHAIN, NLM_F_CREATE);
    nftnl_chain_nlmsg_build_payload(header, object.get());
    batch.Send(header);
  }
  void operator()(const op::DeleteChain& gone) {
    auto object = Checked(nftnl_chain_alloc());
    nftnl_chain_set_str(object.get(), NFTNL_CHAIN_TABLE, table);
    nftnl_chain_set_str(object.get(), NFTNL_CHAIN_NAME, gone.name.c_str());
    nlmsghdr* header = batch.Start(NFT_MSG_DELCHAIN, gone.if_empty ? NLM_F_NONREC : 0);
    nftnl_chain_nlmsg_build_payload(header, object.get());
    batch.Send(header);
  }
  void operator()(const op::FlushRules& flush) {
    auto object = Checked(nftnl_rule_alloc());
    nftnl_rule_set_str(object.get(), NFTNL_RULE_TABLE, table);
    if (!flush.chain.empty()) {
      nftnl_rule_set_str(object.get(), NFTNL_RULE_CHAIN, flush.chain.c_str());
    }
    nlmsghdr* header = batch.Start(NFT_MSG_DELRULE, 0);
    nftnl_rule_nlmsg_build_payload(header, object.get());
    batch.Send(header);
  }
  void operator()(const op::AddRule& add) {
    auto object = Checked(nftnl_rule_alloc());
    nftnl_rule_set_str(object.get(), NFTNL_RULE_TABLE, table);
    nftnl_rule_set_str(object.get(), NFTNL_RULE_CHAIN, add.rule.chain.c_str());
    if (!add.rule.comment.empty()) {
      Bytes data = UserData(NFTNL_UDATA_RULE_COMMENT, add.rule.comment);
      nftnl_rule_set_data(object.get(), NFTNL_RULE_USERDATA, data.data(),
                          static_cast<uint32_t>(data.size()));
    }
    AppendSteps(object.get(), batch.table_->family, add.rule.body);
    nlmsghdr* header = batch.Start(NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND);
    nftnl_rule_nlmsg_build_payload(header, object.get());
    batch.Send(header);
  }
  void operator()(const op::AddSet& add) { batch.WriteSet(add.set); }
  void operator()(const op::DeleteSet& gone) {
    auto object = Checked(nftnl_set_alloc());
    nftnl_set_set_str(object.get(), NFTNL_SET_TABLE, table);
    nftnl_set_set_str(object.get(), NFTNL_SET_NAME, gone.name.c_str());
    nlmsghdr* header = batch.Start(NFT_MSG_DELSET, 0);
    nftnl_set_nlmsg_build_payload(header, object.get());
    batch.Send(header);
  }
  void operator()(const op::FlushSet& flush) {
    nlmsghdr* header = batch.Start(NFT_MSG_DELSETELEM, 0);
    mnl_attr_put_strz(header, NFTA_SET_ELEM_LIST_TABLE, table);
    mnl_attr_put_strz(header, NFTA_SET_ELEM_LIST_SET, flush.name.c_str());
    batch.Send(header);
  }
  void operator()(const op::AddElements& add) { batch.WriteElements(add.set, add.elements, true); }
  void operator()(const op::DeleteElements& gone) {
    batch.WriteElements(gone.set, gone.elements, false);
  }
};

BatchWriter::BatchWriter(uint32_t first_sequence)
    : staging_(kStagingSize), sequence_(first_sequence) {
  nlmsghdr* header = nftnl_batch_begin(staging_.data(), sequence_++);
  bytes_.append(staging_.data(), header->nlmsg_len);
}

void BatchWriter::Finish() {
  nlmsghdr* header = nftnl_batch_end(staging_.data(), sequence_++);
  bytes_.append(staging_.data(), header->nlmsg_len);
}

Result<> BatchWriter::Add(const Transaction& transaction) {
  TRY(CheckNames(transaction));
  table_ = &transaction.table();
  for (const Transaction::Operation& operation : transaction.operations()) {
    operation_ = &operation;
    std::visit(Writer{*this, table_->name.c_str()}, operation);
  }
  return {};
}

nlmsghdr* BatchWriter::Start(uint16_t type, uint16_t flags, size_t first_element) {
  sent_.push_back({sequence_, table_, operation_, first_element});
  return nftnl_nlmsg_build_hdr(staging_.data(), type, FamilyNumber(table_->family), flags,
                               sequence_++);
}

void BatchWriter::Send(nlmsghdr* header) {
  CHECK(header->nlmsg_len <= staging_.size());
  bytes_.append(staging_.data(), header->nlmsg_len);
}

void BatchWriter::WriteSet(const Set& set) {
  auto object = Checked(nftnl_set_alloc());
  uint32_t flags = (set.interval ? NFT_SET_INTERVAL : 0) | (set.dynamic ? NFT_SET_EVAL : 0) |
                   (set.timeouts ? NFT_SET_TIMEOUT : 0) | (set.is_map() ? NFT_SET_MAP : 0);
  nftnl_set_set_str(object.get(), NFTNL_SET_TABLE, table_->name.c_str());
  nftnl_set_set_str(object.get(), NFTNL_SET_NAME, set.name.c_str());
  nftnl_set_set_u32(object.get(), NFTNL_SET_ID, ++set_ids_);
  nftnl_set_set_u32(object.get(), NFTNL_SET_KEY_TYPE, TypesNumber(set.key));
  nftnl_set_set_u32(object.get(), NFTNL_SET_KEY_LEN,
                    static_cast<uint32_t>(WireSize(set.key, set.key_size())));
  if (set.is_verdict_map()) {
    nftnl_set_set_u32(object.get(), NFTNL_SET_DATA_TYPE, NFT_DATA_VERDICT);
    nftnl_set_set_u32(object.get(), NFTNL_SET_DATA_LEN, 0);
  } else if (set.is_map()) {
    nftnl_set_set_u32(object.get(), NFTNL_SET_DATA_TYPE, TypesNumber(set.data));
    nftnl_set_set_u32(object.get(), NFTNL_SET_DATA_LEN,
                      static_cast<uint32_t>(WireSize(set.data, set.data_size())));
  }
  if (set.interval && set.key.size() > 1) {
    flags |= NFT_SET_CONCAT;
    std::vector<uint8_t> lengths;
    for (Type field : set.key) lengths.push_back(static_cast<uint8_t>(SizeOf(field)));
    nftnl_set_set_data(object.get(), NFTNL_SET_DESC_CONCAT, lengths.data(),
                       static_cast<uint32_t>(lengths.size()));
  }
  nftnl_set_set_u32(object.get(), NFTNL_SET_FLAGS, flags);
  if (set.size != 0) nftnl_set_set_u32(object.get(), NFTNL_SET_DESC_SIZE, set.size);
  nlmsghdr* header = Start(NFT_MSG_NEWSET, NLM_F_CREATE);
  nftnl_set_nlmsg_build_payload(header, object.get());
  Send(header);
}

void BatchWriter::WriteElements(const Set& set, const std::vector<Element>& elements, bool add) {
  const bool ranges = set.interval && set.key.size() == 1;
  for (size_t i = 0; i < elements.size();) {
    nlmsghdr* header =
        Start(add ? NFT_MSG_NEWSETELEM : NFT_MSG_DELSETELEM, add ? NLM_F_CREATE : 0, i);
    mnl_attr_put_strz(header, NFTA_SET_ELEM_LIST_TABLE, table_->name.c_str());
    mnl_attr_put_strz(header, NFTA_SET_ELEM_LIST_SET, set.name.c_str());
    nlattr* list = mnl_attr_nest_start(header, NFTA_SET_ELEM_LIST_ELEMENTS);
    for (; i < elements.size() && header->nlmsg_len < kElementsPerMessage; ++i) {
      Element element = elements[i];
      element.key.resize(WireSize(set.key, element.key.size()));
      element.data.resize(WireSize(set.data, element.data.size()));
      std::optional<Bytes> behind;
      if (ranges) {
        Bytes last = element.key_end.empty() ? element.key : std::move(element.key_end);
        last.resize(element.key.size());
        behind = Successor(std::move(last));
        element.key_end.clear();
      } else if (set.interval && element.key_end.empty()) {
        element.key_end = element.key;
      }
      PutElement(header, element, add, /*interval_end=*/false);
      if (behind) PutElement(header, Element{.key = *behind}, add, /*interval_end=*/true);
    }
    mnl_attr_nest_end(header, list);
    Send(header);
  }
}

std::string BatchWriter::Describe(uint32_t sequence) const {
  for (const Sent& sent : sent_) {
    if (sent.sequence == sequence)
      return nft::Describe(*sent.table, *sent.operation, sent.first_element);
  }
  return "nftables";
}

}  // namespace skiff::net::nft

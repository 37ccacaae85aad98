#include "base/net/nft_rule_message.h"

#include <libnftnl/expr.h>
#include <libnftnl/rule.h>
#include <linux/netfilter/nf_nat.h>
#include <linux/netfilter/nf_tables.h>

#include "base/result.h"

namespace skiff::net::nft {
namespace {

constexpr uint32_t kIcmpPortUnreachable = 3, kIcmp6PortUnreachable = 4;

uint32_t Register(Slot slot) {
  CHECK(slot < kSlots);
  return NFT_REG32_00 + uint32_t{slot};
}

// One expression under construction; it belongs to the rule from the start.
class Expression {
 public:
  Expression(nftnl_rule* rule, const char* name) : expr_(nftnl_expr_alloc(name)) {
    CHECK(expr_ != nullptr);
    nftnl_rule_add_expr(rule, expr_);
  }
  Expression& U32(uint16_t attribute, uint32_t value) {
    nftnl_expr_set_u32(expr_, attribute, value);
    return *this;
  }
  Expression& U64(uint16_t attribute, uint64_t value) {
    nftnl_expr_set_u64(expr_, attribute, value);
    return *this;
  }
  Expression& U8(uint16_t attribute, uint8_t value) {
    nftnl_expr_set_u8(expr_, attribute, value);
    return *this;
  }
  Expression& Text(uint16_t attribute, const std::string& value) {
    nftnl_expr_set_str(expr_, attribute, value.c_str());
    return *this;
  }
  Expression& Data(uint16_t attribute, const Bytes& value) {
    nftnl_expr_set(expr_, attribute, value.data(), static_cast<uint32_t>(value.size()));
    return *this;
  }

 private:
  nftnl_expr* expr_;
};

uint32_t MetaKey(PacketFact fact) {
  switch (fact) {
    case PacketFact::kProtocolFamily: return NFT_META_NFPROTO;
    case PacketFact::kL4Protocol: return NFT_META_L4PROTO;
    case PacketFact::kMark: return NFT_META_MARK;
    case PacketFact::kInName: return NFT_META_IIFNAME;
    case PacketFact::kOutName: return NFT_META_OIFNAME;
  }
  return NFT_META_MARK;
}

int32_t VerdictCode(Verdict::Kind kind) {
  switch (kind) {
    case Verdict::Kind::kAccept: return 1;  // NF_ACCEPT
    case Verdict::Kind::kDrop: return 0;    // NF_DROP
    case Verdict::Kind::kContinue: return NFT_CONTINUE;
    case Verdict::Kind::kReturn: return NFT_RETURN;
    case Verdict::Kind::kJump: return NFT_JUMP;
    case Verdict::Kind::kGoto: return NFT_GOTO;
  }
  return NFT_CONTINUE;
}

// Loads a source into a register.
class SourceEncoder {
 public:
  SourceEncoder(nftnl_rule* rule, Slot slot) : rule_(rule), slot_(slot) {}

  void operator()(const Source::Payload& from) {
    Add("payload")
        .U32(NFTNL_EXPR_PAYLOAD_DREG, Register(slot_))
        .U32(NFTNL_EXPR_PAYLOAD_BASE,
             from.transport ? NFT_PAYLOAD_TRANSPORT_HEADER : NFT_PAYLOAD_NETWORK_HEADER)
        .U32(NFTNL_EXPR_PAYLOAD_OFFSET, from.offset)
        .U32(NFTNL_EXPR_PAYLOAD_LEN, from.length);
  }
  void operator()(const Source::Meta& from) {
    Add("meta")
        .U32(NFTNL_EXPR_META_KEY, MetaKey(from.fact))
        .U32(NFTNL_EXPR_META_DREG, Register(slot_));
  }
  void operator()(const Source::CtState&) { Ct(NFT_CT_STATE); }
  void operator()(const Source::CtStatus&) { Ct(NFT_CT_STATUS); }
  void operator()(const Source::CtOriginal& from) {
    bool source = from.end == End::kSource, v4 = from.family == IpFamily::kV4;
    uint32_t key = from.port ? (source ? NFT_CT_PROTO_SRC : NFT_CT_PROTO_DST)
                   : v4      ? (source ? NFT_CT_SRC_IP : NFT_CT_DST_IP)
                             : (source ? NFT_CT_SRC_IP6 : NFT_CT_DST_IP6);
    Ct(key).U8(NFTNL_EXPR_CT_DIR, 0);
  }
  void operator()(const Source::RouteType& from) {
    Add("fib")
        .U32(NFTNL_EXPR_FIB_DREG, Register(slot_))
        .U32(NFTNL_EXPR_FIB_RESULT, NFT_FIB_RESULT_ADDRTYPE)
        .U32(NFTNL_EXPR_FIB_FLAGS, from.end == End::kSource ? NFTA_FIB_F_SADDR : NFTA_FIB_F_DADDR);
  }
  void operator()(const Source::Random& from) {
    Add("numgen")
        .U32(NFTNL_EXPR_NG_DREG, Register(slot_))
        .U32(NFTNL_EXPR_NG_TYPE, NFT_NG_RANDOM)
        .U32(NFTNL_EXPR_NG_MODULUS, from.modulus)
        .U32(NFTNL_EXPR_NG_OFFSET, from.offset);
  }
  void operator()(const Source::Constant& from) {
    Add("immediate")
        .U32(NFTNL_EXPR_IMM_DREG, Register(slot_))
        .Data(NFTNL_EXPR_IMM_DATA, from.value);
  }

 private:
  Expression Add(const char* name) { return Expression(rule_, name); }
  Expression Ct(uint32_t key) {
    return Add("ct").U32(NFTNL_EXPR_CT_KEY, key).U32(NFTNL_EXPR_CT_DREG, Register(slot_));
  }
  nftnl_rule* rule_;
  Slot slot_;
};

class StepEncoder {
 public:
  StepEncoder(nftnl_rule* rule, Family family) : rule_(rule), family_(family) {}

  void operator()(const Load& load) {
    std::visit(SourceEncoder(rule_, load.slot), load.source.value);
  }
  void operator()(const Bitwise& step) {
    CHECK(step.mask.size() == step.flip.size());
    Add("bitwise")
        .U32(NFTNL_EXPR_BITWISE_SREG, Register(step.slot))
        .U32(NFTNL_EXPR_BITWISE_DREG, Register(step.slot))
        .U32(NFTNL_EXPR_BITWISE_LEN, static_cast<uint32_t>(step.mask.size()))
        .Data(NFTNL_EXPR_BITWISE_MASK, step.mask)
        .Data(NFTNL_EXPR_BITWISE_XOR, step.flip);
  }
  void operator()(const Compare& step) {
    Add("cmp")
        .U32(NFTNL_EXPR_CMP_SREG, Register(step.slot))
        .U32(NFTNL_EXPR_CMP_OP, step.equal ? NFT_CMP_EQ : NFT_CMP_NEQ)
        .Data(NFTNL_EXPR_CMP_DATA, step.value);
  }
  void operator()(const Between& step) {
    Add("range")
        .U32(NFTNL_EXPR_RANGE_SREG, Register(step.slot))
        .U32(NFTNL_EXPR_RANGE_OP, step.inside ? NFT_RANGE_EQ : NFT_RANGE_NEQ)
        .Data(NFTNL_EXPR_RANGE_FROM_DATA, step.from)
        .Data(NFTNL_EXPR_RANGE_TO_DATA, step.to);
  }
  void operator()(const Lookup& step) {
    Expression expression = Add("lookup");
    expression.U32(NFTNL_EXPR_LOOKUP_SREG, Register(step.key))
        .Text(NFTNL_EXPR_LOOKUP_SET, step.set);
    if (step.into) expression.U32(NFTNL_EXPR_LOOKUP_DREG, Register(*step.into));
    if (step.dispatch) expression.U32(NFTNL_EXPR_LOOKUP_DREG, NFT_REG_VERDICT);
    if (step.invert) expression.U32(NFTNL_EXPR_LOOKUP_FLAGS, NFT_LOOKUP_F_INV);
  }
  void operator()(const UpdateSet& step) {
    uint32_t operation = step.operation == UpdateSet::Operation::kAdd      ? NFT_DYNSET_OP_ADD
                         : step.operation == UpdateSet::Operation::kUpdate ? NFT_DYNSET_OP_UPDATE
                                                                           : NFT_DYNSET_OP_DELETE;
    Expression expression = Add("dynset");
    expression.Text(NFTNL_EXPR_DYNSET_SET_NAME, step.set)
        .U32(NFTNL_EXPR_DYNSET_OP, operation)
        .U32(NFTNL_EXPR_DYNSET_SREG_KEY, Register(step.key));
    if (step.data) expression.U32(NFTNL_EXPR_DYNSET_SREG_DATA, Register(*step.data));
    if (step.timeout.count() > 0) {
      expression.U64(NFTNL_EXPR_DYNSET_TIMEOUT, static_cast<uint64_t>(step.timeout.count()));
    }
  }
  void operator()(const StoreMark& step) {
    Add("meta")
        .U32(NFTNL_EXPR_META_KEY, NFT_META_MARK)
        .U32(NFTNL_EXPR_META_SREG, Register(step.slot));
  }
  void operator()(const Decision& step) {
    Expression expression = Add("immediate");
    expression.U32(NFTNL_EXPR_IMM_DREG, NFT_REG_VERDICT)
        .U32(NFTNL_EXPR_IMM_VERDICT, static_cast<uint32_t>(VerdictCode(step.verdict.kind)));
    if (!step.verdict.chain.empty()) expression.Text(NFTNL_EXPR_IMM_CHAIN, step.verdict.chain);
  }
  void operator()(const Dnat& step) {
    Expression expression = Add("nat");
    expression.U32(NFTNL_EXPR_NAT_TYPE, NFT_NAT_DNAT)
        .U32(NFTNL_EXPR_NAT_FAMILY,
             uint32_t(step.family == IpFamily::kV4 ? NFPROTO_IPV4 : NFPROTO_IPV6))
        .U32(NFTNL_EXPR_NAT_REG_ADDR_MIN, Register(step.address));
    if (step.port) expression.U32(NFTNL_EXPR_NAT_REG_PROTO_MIN, Register(*step.port));
  }
  void operator()(const Masquerade&) {
    Add("masq").U32(NFTNL_EXPR_MASQ_FLAGS, NF_NAT_RANGE_PROTO_RANDOM_FULLY);
  }
  void operator()(const Reject& step) {
    uint32_t type = step.tcp_reset             ? NFT_REJECT_TCP_RST
                    : family_ == Family::kInet ? NFT_REJECT_ICMPX_UNREACH
                                               : NFT_REJECT_ICMP_UNREACH;
    uint32_t code = family_ == Family::kInet  ? uint32_t{NFT_REJECT_ICMPX_PORT_UNREACH}
                    : family_ == Family::kIp4 ? kIcmpPortUnreachable
                                              : kIcmp6PortUnreachable;
    Add("reject")
        .U32(NFTNL_EXPR_REJECT_TYPE, type)
        .U8(NFTNL_EXPR_REJECT_CODE, static_cast<uint8_t>(step.tcp_reset ? 0 : code));
  }
  void operator()(const Counter&) { Add("counter"); }
  void operator()(const Notrack&) { Add("notrack"); }

 private:
  Expression Add(const char* name) { return Expression(rule_, name); }
  nftnl_rule* rule_;
  Family family_;
};

}  // namespace

void AppendSteps(nftnl_rule* rule, Family family, const Body& body) {
  StepEncoder encoder(rule, family);
  for (const Step& step : body.steps()) std::visit(encoder, step);
}

}  // namespace skiff::net::nft

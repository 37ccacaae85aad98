#include "base/net/conntrack.h"

#include <arpa/inet.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <netlink/attr.h>

#include <array>
#include <cerrno>
#include <optional>

#include "base/net/netlink.h"

namespace skiff::net {
namespace {

// The flags of CTA_FILTER are ABI but stand in no uapi header (net/netfilter/nf_internals.h).
constexpr uint32_t kFilterProtocolNumber = 1 << 3;  // CTA_FILTER_F_CTA_PROTO_NUM, since 5.8

int MessageType(int message) { return (NFNL_SUBSYS_CTNETLINK << 8) | message; }

nfgenmsg FamilyHeader(IpFamily family) {
  return {.nfgen_family = static_cast<uint8_t>(family == IpFamily::kV4 ? AF_INET : AF_INET6),
          .version = NFNETLINK_V0,
          .res_id = 0};
}

std::optional<FlowTuple> ParseTuple(nlattr* attribute, IpFamily family, uint8_t* protocol) {
  std::array<nlattr*, CTA_TUPLE_MAX + 1> tuple{};
  std::array<nlattr*, CTA_IP_MAX + 1> ip{};
  std::array<nlattr*, CTA_PROTO_MAX + 1> proto{};
  if (attribute == nullptr ||
      nla_parse_nested(tuple.data(), CTA_TUPLE_MAX, attribute, nullptr) != 0 ||
      tuple[CTA_TUPLE_IP] == nullptr || tuple[CTA_TUPLE_PROTO] == nullptr ||
      nla_parse_nested(ip.data(), CTA_IP_MAX, tuple[CTA_TUPLE_IP], nullptr) != 0 ||
      nla_parse_nested(proto.data(), CTA_PROTO_MAX, tuple[CTA_TUPLE_PROTO], nullptr) != 0 ||
      proto[CTA_PROTO_NUM] == nullptr) {
    return std::nullopt;
  }
  bool v4 = family == IpFamily::kV4;
  const void* source = AttributeData(ip[v4 ? CTA_IP_V4_SRC : CTA_IP_V6_SRC], v4 ? 4 : 16);
  const void* destination = AttributeData(ip[v4 ? CTA_IP_V4_DST : CTA_IP_V6_DST], v4 ? 4 : 16);
  if (source == nullptr || destination == nullptr) return std::nullopt;
  *protocol = nla_get_u8(proto[CTA_PROTO_NUM]);
  FlowTuple flow{.source = IpAddress::FromBytes(family, source),
                 .destination = IpAddress::FromBytes(family, destination)};
  if (nlattr* port = proto[CTA_PROTO_SRC_PORT]) flow.source_port = ntohs(nla_get_u16(port));
  if (nlattr* port = proto[CTA_PROTO_DST_PORT]) flow.destination_port = ntohs(nla_get_u16(port));
  return flow;
}

std::optional<Flow> ParseFlow(nlmsghdr* header, IpFamily family) {
  std::array<nlattr*, CTA_MAX + 1> attributes{};
  if (header->nlmsg_type != MessageType(IPCTNL_MSG_CT_NEW) ||
      nlmsg_parse(header, sizeof(nfgenmsg), attributes.data(), CTA_MAX, nullptr) != 0) {
    return std::nullopt;
  }
  Flow flow;
  uint8_t reply_protocol = 0;
  auto original = ParseTuple(attributes[CTA_TUPLE_ORIG], family, &flow.protocol);
  auto reply = ParseTuple(attributes[CTA_TUPLE_REPLY], family, &reply_protocol);
  if (!original || !reply) return std::nullopt;
  flow.original = *original;
  flow.reply = *reply;
  if (nlattr* zone = attributes[CTA_ZONE]) flow.zone = ntohs(nla_get_u16(zone));
  if (nlattr* id = attributes[CTA_ID]) flow.id = ntohl(nla_get_u32(id));
  return flow;
}

NetlinkMessage ListMessage(IpFamily family, uint8_t protocol, bool filtered) {
  NetlinkMessage message(MessageType(IPCTNL_MSG_CT_GET), NLM_F_DUMP, FamilyHeader(family),
                         "list connections");
  if (filtered) {
    message.Nest(CTA_TUPLE_ORIG, [&](NetlinkMessage& tuple) {
      tuple.Nest(CTA_TUPLE_PROTO,
                 [&](NetlinkMessage& proto) { proto.PutU8(CTA_PROTO_NUM, protocol); });
    });
    message.Nest(CTA_FILTER, [](NetlinkMessage& filter) {
      filter.PutU32(CTA_FILTER_ORIG_FLAGS, kFilterProtocolNumber);
      filter.PutU32(CTA_FILTER_REPLY_FLAGS, 0);
    });
  }
  return message;
}

}  // namespace

std::string Flow::ToString() const {
  std::string name = protocol == kProtocolTcp    ? "tcp"
                     : protocol == kProtocolUdp  ? "udp"
                     : protocol == kProtocolSctp ? "sctp"
                                                 : std::to_string(protocol);
  return name + " " + original.source.WithPort(original.source_port) + " -> " +
         original.destination.WithPort(original.destination_port) + " (" +
         reply.source.WithPort(reply.source_port) + ")";
}

Result<std::vector<Flow>> SystemConntrack::List(IpFamily family, uint8_t protocol,
                                                const std::function<bool(const Flow&)>& keep) {
  NetlinkSocket socket = TRY(NetlinkSocket::Open(NETLINK_NETFILTER));
  std::vector<Flow> flows;
  auto each = [&](nlmsghdr* header) {
    auto flow = ParseFlow(header, family);
    if (flow && flow->protocol == protocol && keep(*flow)) flows.push_back(*std::move(flow));
  };
  NetlinkMessage message = ListMessage(family, protocol, /*filtered=*/true);
  Result<> listed = socket.Query(message, each);
  if (!listed.ok() &&
      (listed.error().sys_errno() == EINVAL || listed.error().sys_errno() == EOPNOTSUPP)) {
    // Kernels before 5.8 cannot filter by tuple.
    flows.clear();
    message = ListMessage(family, protocol, /*filtered=*/false);
    listed = socket.Query(message, each);
  }
  TRY(std::move(listed));
  return flows;
}

Result<> SystemConntrack::Delete(const Flow& flow) {
  NetlinkSocket socket = TRY(NetlinkSocket::Open(NETLINK_NETFILTER));
  IpFamily family = flow.original.source.family();
  bool v4 = family == IpFamily::kV4;
  NetlinkMessage message(MessageType(IPCTNL_MSG_CT_DELETE), 0, FamilyHeader(family),
                         "delete connection " + flow.ToString());
  message.Nest(CTA_TUPLE_ORIG, [&](NetlinkMessage& tuple) {
    tuple.Nest(CTA_TUPLE_IP, [&](NetlinkMessage& ip) {
      ip.PutAddress(v4 ? CTA_IP_V4_SRC : CTA_IP_V6_SRC, flow.original.source);
      ip.PutAddress(v4 ? CTA_IP_V4_DST : CTA_IP_V6_DST, flow.original.destination);
    });
    tuple.Nest(CTA_TUPLE_PROTO, [&](NetlinkMessage& proto) {
      uint16_t source = htons(flow.original.source_port);
      uint16_t destination = htons(flow.original.destination_port);
      proto.PutU8(CTA_PROTO_NUM, flow.protocol);
      proto.Put(CTA_PROTO_SRC_PORT, &source, sizeof source);
      proto.Put(CTA_PROTO_DST_PORT, &destination, sizeof destination);
    });
  });
  if (flow.zone != 0) {
    uint16_t zone = htons(flow.zone);
    message.Put(CTA_ZONE, &zone, sizeof zone);
  }
  // With the id, an entry that took the same tuple in the meantime is left alone.
  if (flow.id != 0) message.PutU32(CTA_ID, htonl(flow.id));
  Result<> deleted = socket.Request(message);
  if (!deleted.ok() && deleted.error().sys_errno() == ENOENT) return {};
  return deleted;
}

}  // namespace skiff::net

#include "base/net/traffic_control.h"

#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/if_link.h>
#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <linux/tc_act/tc_mirred.h>
#include <net/if.h>
#include <netlink/attr.h>

#include <algorithm>
#include <cstring>
#include <limits>

namespace skiff::net {
namespace rtnl {
namespace {

constexpr uint32_t kRootHandle = 0x00010000;     // 1:
constexpr uint32_t kIngressHandle = 0xffff0000;  // ffff:
constexpr uint32_t kFilterPriority = 1;
constexpr char kProgramPlace[] = "clsact";

tcmsg QueueHeader(int link, uint32_t parent, uint32_t handle) {
  tcmsg header{};
  header.tcm_family = AF_UNSPEC;
  header.tcm_ifindex = link;
  header.tcm_parent = parent;
  header.tcm_handle = handle;
  return header;
}

std::string OfLink(const char* what, int link) { return what + std::to_string(link); }

}  // namespace

NetlinkMessage LimitRate(int link, const TokenBucket& bucket) {
  NetlinkMessage message(RTM_NEWQDISC, NLM_F_CREATE | NLM_F_REPLACE,
                         QueueHeader(link, TC_H_ROOT, kRootHandle),
                         OfLink("limit the rate of link ", link));
  message.PutString(TCA_KIND, "tbf");
  message.Nest(TCA_OPTIONS, [&](NetlinkMessage& options) {
    constexpr uint64_t kMost = std::numeric_limits<uint32_t>::max();
    tc_tbf_qopt parameters{};
    parameters.rate.rate = static_cast<uint32_t>(std::min(bucket.bytes_per_second, kMost));
    // With the kind of link said, the kernel computes times itself instead of by a table of ours.
    parameters.rate.linklayer = TC_LINKLAYER_ETHERNET;
    parameters.limit = bucket.limit_bytes;
    options.Put(TCA_TBF_PARMS, &parameters, sizeof parameters);
    options.PutU32(TCA_TBF_BURST, bucket.burst_bytes);
    if (bucket.bytes_per_second > kMost) {
      options.Put(TCA_TBF_RATE64, &bucket.bytes_per_second, sizeof bucket.bytes_per_second);
    }
  });
  return message;
}

NetlinkMessage CreateIfb(const std::string& name, uint32_t mtu) {
  ifinfomsg header{};
  header.ifi_flags = header.ifi_change = IFF_UP;
  NetlinkMessage message(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, header, "create ifb " + name);
  message.PutString(IFLA_IFNAME, name);
  message.PutU32(IFLA_MTU, mtu);
  message.Nest(IFLA_LINKINFO, [](NetlinkMessage& info) { info.PutString(IFLA_INFO_KIND, "ifb"); });
  return message;
}

NetlinkMessage SetAlias(int link, const std::string& alias) {
  ifinfomsg header{};
  header.ifi_index = link;
  NetlinkMessage message(RTM_SETLINK, 0, header, OfLink("name the owner of link ", link));
  message.PutString(IFLA_IFALIAS, alias);
  return message;
}

NetlinkMessage AddIngress(int link) {
  NetlinkMessage message(RTM_NEWQDISC, NLM_F_CREATE | NLM_F_REPLACE,
                         QueueHeader(link, TC_H_INGRESS, kIngressHandle),
                         OfLink("look at what comes in at link ", link));
  message.PutString(TCA_KIND, "ingress");
  return message;
}

NetlinkMessage RedirectIncoming(int link, int through) {
  tcmsg header = QueueHeader(link, kIngressHandle, 0);
  header.tcm_info = TC_H_MAKE(kFilterPriority << 16, htons(ETH_P_ALL));
  NetlinkMessage message(RTM_NEWTFILTER, NLM_F_CREATE | NLM_F_EXCL, header,
                         OfLink("redirect what comes in at link ", link));
  message.PutString(TCA_KIND, "u32");
  message.Nest(TCA_OPTIONS, [&](NetlinkMessage& options) {
    // One key that every packet has: nothing of its first word counts.
    tc_u32_sel selector{};
    selector.flags = TC_U32_TERMINAL;
    selector.nkeys = 1;
    std::string match(sizeof selector + sizeof(tc_u32_key), '\0');
    std::memcpy(match.data(), &selector, sizeof selector);
    options.Put(TCA_U32_SEL, match.data(), match.size());
    options.Nest(TCA_U32_ACT, [&](NetlinkMessage& actions) {
      actions.Nest(1, [&](NetlinkMessage& action) {
        action.PutString(TCA_ACT_KIND, "mirred");
        action.Nest(TCA_ACT_OPTIONS, [&](NetlinkMessage& mirred) {
          tc_mirred parameters{};
          parameters.action = TC_ACT_STOLEN;
          parameters.eaction = TCA_EGRESS_REDIR;
          parameters.ifindex = static_cast<uint32_t>(through);
          mirred.Put(TCA_MIRRED_PARMS, &parameters, sizeof parameters);
        });
      });
    });
  });
  return message;
}

NetlinkMessage AddProgramPlace(int link) {
  NetlinkMessage message(RTM_NEWQDISC, NLM_F_CREATE, QueueHeader(link, TC_H_CLSACT, kIngressHandle),
                         OfLink("make a place for programs on link ", link));
  message.PutString(TCA_KIND, kProgramPlace);
  return message;
}

NetlinkMessage DeleteProgramPlace(int link) {
  NetlinkMessage message(RTM_DELQDISC, 0, QueueHeader(link, TC_H_CLSACT, kIngressHandle),
                         OfLink("delete the place for programs on link ", link));
  message.PutString(TCA_KIND, kProgramPlace);
  return message;
}

NetlinkMessage RunProgram(int link, Way way, int program, const std::string& name) {
  const uint32_t parent =
      TC_H_MAKE(TC_H_CLSACT, way == Way::kIncoming ? TC_H_MIN_INGRESS : TC_H_MIN_EGRESS);
  tcmsg header = QueueHeader(link, parent, /*handle=*/1);
  header.tcm_info = TC_H_MAKE(kFilterPriority << 16, htons(ETH_P_ALL));
  NetlinkMessage message(RTM_NEWTFILTER, NLM_F_CREATE | NLM_F_REPLACE, header,
                         OfLink("run a program on link ", link));
  message.PutString(TCA_KIND, "bpf");
  message.Nest(TCA_OPTIONS, [&](NetlinkMessage& options) {
    options.PutU32(TCA_BPF_FD, static_cast<uint32_t>(program));
    options.PutString(TCA_BPF_NAME, name);
    options.PutU32(TCA_BPF_FLAGS, TCA_BPF_FLAG_ACT_DIRECT);
  });
  return message;
}

}  // namespace rtnl

Result<std::set<int>> ListProgramPlaces(Rtnl& rtnl) {
  NetlinkMessage message(RTM_GETQDISC, NLM_F_DUMP, tcmsg{}, "list places for programs");
  std::set<int> links;
  TRY(rtnl.Query(std::move(message), [&](nlmsghdr* answer) {
    nlattr* attributes[TCA_MAX + 1];
    if (nlmsg_parse(answer, sizeof(tcmsg), attributes, TCA_MAX, nullptr) < 0) return;
    const auto* header = static_cast<const tcmsg*>(nlmsg_data(answer));
    if (header->tcm_parent != TC_H_CLSACT || attributes[TCA_KIND] == nullptr) return;
    if (nla_strcmp(attributes[TCA_KIND], rtnl::kProgramPlace) == 0) {
      links.insert(header->tcm_ifindex);
    }
  }));
  return links;
}

}  // namespace skiff::net

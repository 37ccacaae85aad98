#include "cni/plugin/rule_check.h"

#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <sys/socket.h>

#include <string_view>

#include "base/net/netlink.h"

namespace skiff::cni {

Result<bool> ChainMentions(net::IpFamily family, const std::string& table, const std::string& chain,
                           const std::string& target) {
  net::NetlinkSocket socket = TRY(net::NetlinkSocket::Open(NETLINK_NETFILTER));
  const nfgenmsg header{
      .nfgen_family = static_cast<uint8_t>(family == net::IpFamily::kV4 ? AF_INET : AF_INET6),
      .version = NFNETLINK_V0,
      .res_id = 0};
  constexpr int kGetRules = (NFNL_SUBSYS_NFTABLES << 8) | NFT_MSG_GETRULE;
  net::NetlinkMessage list(kGetRules, NLM_F_DUMP, header, "list rules of chain " + chain);
  list.PutString(NFTA_RULE_TABLE, table);
  list.PutString(NFTA_RULE_CHAIN, chain);
  bool mentioned = false;
  auto listed = socket.Query(list, [&](nlmsghdr* message) {
    // The name stands in the rule's verdict, with its 0 byte.
    std::string_view bytes(reinterpret_cast<const char*>(message), message->nlmsg_len);
    mentioned = mentioned || bytes.find(std::string_view(target.c_str(), target.size() + 1)) !=
                                 std::string_view::npos;
  });
  if (!listed.ok() && listed.error().code() == Code::kNotFound) return false;
  TRY(std::move(listed));
  return mentioned;
}

}  // namespace skiff::cni

// skiff-network-under-test: one change of the node's network, made in the namespaces it is started
// in, with failpoints that the environment arms.
//
//   skiff-network-under-test overlay PEERS     the way to so many other nodes; 0 takes it away
//   skiff-network-under-test iptables COUNT    the rules of so many Services; 0 takes all away
//   skiff-network-under-test nftables COUNT    the same in the other mode of the service proxy
//   skiff-network-under-test balancer COUNT    so many load balancers' addresses of each family
//   skiff-network-under-test show 0            prints what the nftables mode has, without what
//                                              differs from run to run
//
// Exits with 1 and says why when it failed. A service proxy that failed tries again until it is
// done.
#include <cstdio>
#include <cstdlib>
#include <future>
#include <string>
#include <string_view>
#include <vector>

#include "agent/proxy/balancer_addresses.h"
#include "agent/proxy/nft_chains.h"
#include "agent/proxy/proxy.h"
#include "agent/proxy/testing.h"
#include "base/net/conntrack.h"
#include "base/net/iptables.h"
#include "base/net/nft.h"
#include "cni/overlay.h"

namespace skiff {
namespace {

net::IpPrefix PodCidr(int node) {
  return net::IpPrefix::Parse("10.244." + std::to_string(node) + ".0/24").value();
}

cni::OverlayNode Node(int number) {
  return {.addresses = {net::IpAddress::V4(10, 200, 0, static_cast<uint8_t>(number + 1))},
          .pod_cidrs = {PodCidr(number)}};
}

Result<> ChangeOverlay(int count) {
  net::Rtnl rtnl = TRY(net::Rtnl::Open());
  const cni::OverlayConfig config{.mtu = 1450};
  if (count == 0) return cni::RemoveOverlay(rtnl, config);
  std::vector<cni::OverlayNode> peers;
  for (int number = 1; number <= count; ++number) peers.push_back(Node(number));
  TRY(cni::EnsureOverlay(rtnl, config, Node(0), peers));
  return {};
}

Result<> ChangeBalancer(int count) {
  auto iptables = TRY(net::SystemIptables::Open());
  net::Rtnl rtnl = TRY(net::Rtnl::Open());
  std::vector<net::IpAddress> addresses;
  for (int number = 1; number <= count; ++number) {
    const std::string host = std::to_string(100 + number);
    for (const char* network : {"10.200.0.", "fd00:200::"}) {
      addresses.push_back(TRY(net::IpAddress::Parse(network + host)));
    }
  }
  TRY(agent::proxy::EnsureBalancerAddresses(rtnl, iptables.get(), addresses));
  return {};
}

Result<> ChangeServices(agent::proxy::Mode mode, int count) {
  auto iptables = TRY(net::SystemIptables::Open());
  net::SystemNft nft;
  if (count == 0) {
    TRY(agent::proxy::RemoveAllRules(nft));
    return agent::proxy::RemoveAllRules(*iptables);
  }
  net::SystemConntrack conntrack;
  ThreadPool blocking("blocking", 1);
  auto proxy = TRY(agent::proxy::ServiceProxy::Start(
      {.mode = mode,
       .node_name = "node",
       .cluster_cidrs = {net::IpPrefix::Parse("10.244.0.0/16").value()}},
      {blocking, *iptables, conntrack, &nft}));
  proxy->BeginReplace();
  for (int number = 1; number <= count; ++number) {
    using agent::proxy::testing::MakeService, agent::proxy::testing::MakeSlice;
    const std::string name = "svc" + std::to_string(number);
    const std::string host = std::to_string(number);
    proxy->SetService(MakeService(name, "10.96.0." + host, "UDP", "p80", 80, 30000 + number));
    proxy->SetEndpointSlice(MakeSlice(
        name, {{"10.244.0." + host}, {"10.244." + std::to_string(count) + "." + host}}, "UDP"));
  }
  proxy->SyncDone();
  std::promise<void> synced;
  proxy->WhenSynced([&] { synced.set_value(); });
  synced.get_future().wait();
  return {};
}

// Chains, how many elements each set has, and the Services by address; identities are anybody's.
Result<> Show() {
  namespace proxy = agent::proxy;
  net::SystemNft nft;
  for (net::IpFamily family : {net::IpFamily::kV4, net::IpFamily::kV6}) {
    const net::nft::Table table = proxy::NftTableOf(family);
    auto info = nft.List(table);
    if (!info.ok() && info.error().code() == Code::kNotFound) continue;
    for (const net::nft::Chain& chain : TRY(std::move(info)).chains) {
      printf("%s chain %s\n", table.ToString().c_str(), chain.name.c_str());
    }
    for (proxy::ProxySet set : proxy::kAllProxySets) {
      const std::string name = proxy::DeclareSet(set, family).name;
      const auto elements = TRY(nft.ListElements(table, name));
      printf("%s set %s: %zu\n", table.ToString().c_str(), name.c_str(), elements.size());
    }
  }
  return {};
}

Result<> Change(std::string_view what, int count) {
  if (what == "show") return Show();
  if (what == "overlay") return ChangeOverlay(count);
  if (what == "balancer") return ChangeBalancer(count);
  if (what == "iptables") return ChangeServices(agent::proxy::Mode::kIptables, count);
  if (what == "nftables") return ChangeServices(agent::proxy::Mode::kNftables, count);
  return Error(Code::kInvalidArgument, "no such change: " + std::string(what));
}

}  // namespace
}  // namespace skiff

int main(int argc, char** argv) {
  if (argc != 3) {
    fprintf(stderr,
            "usage: skiff-network-under-test overlay|iptables|nftables|balancer|show COUNT\n");
    return 2;
  }
  const skiff::Result<> done = skiff::Change(argv[1], std::atoi(argv[2]));
  if (done.ok()) return 0;
  fprintf(stderr, "%s\n", done.error().ToString().c_str());
  return 1;
}

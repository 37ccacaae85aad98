// The nftables mode's table: its sets, and the chains that do not depend on which services there
// are, but only on what they look like. Pure. docs/design/0002-nftables-proxy.md says why.
//
// A new connection's destination is looked up in `frontends` (address . protocol . port) or, for an
// address of this node, in `nodeports` (protocol . port). What is found there is where the
// connection goes on (a Path: a kind and numbers, which lead through `paths` to a chain) and the
// identity of the service port. Chains of endpoints choose a number, and `endpoints` (identity .
// number) says which endpoint that is. So a service is elements of maps and nothing else.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <string>
#include <vector>

#include "agent/proxy/plan.h"
#include "base/net/nft.h"

namespace skiff::agent::proxy {

inline constexpr char kNftTable[] = "skiff-proxy";
inline net::nft::Table NftTableOf(net::IpFamily family) {
  return {net::nft::FamilyOf(family), kNftTable};
}

// Where a connection goes on.
struct Path {
  enum class Kind : uint8_t {
    kReject,         // the service has no endpoint
    kDrop,           // ... none on this node, and the policy is Local
    kClusterIp,      // by the internal traffic policy
    kExternal,       // from outside, policy Cluster
    kExternalLocal,  // from outside, policy Local; pods and the node itself get any endpoint
  };
  Kind kind = Kind::kReject;
  bool local = false;              // kClusterIp: policy Local
  bool guarded = false;            // only from the service's source ranges
  uint16_t cluster_endpoints = 0;  // how many there are, where they may be chosen
  uint16_t local_endpoints = 0;
  uint32_t affinity_seconds = 0;
  auto operator<=>(const Path&) const = default;

  // "external-local-3-1-60s-guarded".
  std::string ChainName() const;
  net::nft::Bytes ToBytes() const;  // two numbers, as `paths` has them for keys
  static Path FromBytes(const net::nft::Bytes& bytes);
};
inline constexpr size_t kPathBytes = 8;
// What a frontend leads to.
net::nft::Bytes FrontendData(const net::nft::Bytes& identity, const Path& path);
Path PathOfFrontend(const net::nft::Bytes& data);
// No service port has more endpoints in force; the rest wait for others to go.
inline constexpr size_t kMostEndpoints = 65535;

// Endpoints for policy Local have numbers from here on.
inline constexpr uint32_t kLocalEndpoints = 0x10000;

// The sets. A blank is there so that nft(8) can list the rules (nft_chains.cc). For services with
// session affinity, `sticky-endpoints` stands for `endpoints`, `affinity` knows which endpoint a
// client had, and `members` whether that still is one.
enum class ProxySet : uint8_t {
  kFrontends,        // address . protocol . port : blank . identity (2 numbers) . path (2)
  kNodePorts,        // protocol . port : the same
  kPaths,            // path : verdict
  kEndpoints,        // identity . number : address . port
  kStickyEndpoints,  // identity . number : blank . address . port
  kMembers,          // identity . 0 or kLocalEndpoints . address . port
  kAffinity,         // identity . client : blank . address . port; written by rules
  kHairpin,          // address . address: an endpoint that reaches itself
  kAllowed,          // identity . prefix length . network: source ranges
};
inline constexpr std::array kAllProxySets = {
    ProxySet::kFrontends, ProxySet::kNodePorts,       ProxySet::kPaths,
    ProxySet::kEndpoints, ProxySet::kStickyEndpoints, ProxySet::kMembers,
    ProxySet::kAffinity,  ProxySet::kHairpin,         ProxySet::kAllowed};
net::nft::Set DeclareSet(ProxySet set, net::IpFamily family);

struct ChainPlan {
  net::nft::Chain chain;
  std::vector<net::nft::Rule> rules;
  bool operator==(const ChainPlan&) const = default;
};

// The chains that are always there. Each comes behind those that its rules lead to.
std::vector<ChainPlan> BaseChains(const PlanContext& context);
// What a path needs besides, in the same order; chains of several paths are equal.
std::vector<ChainPlan> ChainsOfPath(const PlanContext& context, const Path& path);
// The one chain that depends on which lengths source ranges have.
ChainPlan SourceRangeChain(const PlanContext& context, const std::vector<int>& lengths);
// The verdict that leads there.
net::nft::Element PathElement(const Path& path);

}  // namespace skiff::agent::proxy

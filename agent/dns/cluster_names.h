// ClusterNames: the cluster's domain as the Kubernetes DNS specification 1.1 has it
// (https://github.com/kubernetes/dns/blob/master/docs/specification.md), answered from the Services
// and EndpointSlices that the node knows anyway.
//
//   SVC.NS.svc.ZONE                    A, AAAA: the cluster IPs; headless: the ready endpoints, and
//                                      no such name without any; CNAME: ExternalName
//   _PORT._PROTO.SVC.NS.svc.ZONE       SRV
//   HOST.SVC.NS.svc.ZONE               A, AAAA of one endpoint of a headless service; HOST is its
//                                      hostname, else its address with dashes
//   1-2-3-4.NS.pod.ZONE                A, AAAA
//   dns-version.ZONE                   TXT
//   the reverse names of the above     PTR
//
// Not thread-safe: one owner. A change of one service costs what that service is big.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "agent/dns/message.h"
#include "base/net/ip.h"
#include "proto/k8s/fwd.h"

namespace skiff::agent::dns {

// Answers come from memory next door, so clients need not keep them for long.
constexpr uint32_t kClusterTtlSeconds = 5;

// What the names of one Service are made of; values.
struct ServiceNames {
  bool headless = false;
  std::vector<net::IpAddress> cluster_ips;
  Name external_name;  // empty: not an ExternalName
  struct Port {
    std::string name, protocol;  // lower case
    uint16_t port = 0;
    auto operator<=>(const Port&) const = default;
  };
  std::vector<Port> ports;
};

// The endpoints of one slice that names are given to.
struct SliceNames {
  Name service;  // "\3svc\2ns"
  struct Host {
    std::string label;
    net::IpAddress address;
    auto operator<=>(const Host&) const = default;
  };
  std::vector<Host> hosts;
  std::vector<ServiceNames::Port> ports;
};

class ClusterNames {
 public:
  // zone: "cluster.local". addresses: of the DNS service itself.
  // ranges: the pods' and services' address ranges; a reverse name in them that has no record does
  // not exist anywhere else either.
  ClusterNames(Name zone, std::vector<net::IpAddress> addresses, std::vector<net::IpPrefix> ranges);

  void SetService(const k8s::core::v1::Service& service);
  void DeleteService(const std::string& name_space, const std::string& name);
  void SetSlice(const k8s::discovery::v1::EndpointSlice& slice);
  void DeleteSlice(const std::string& name_space, const std::string& name);
  void Clear();

  // Nothing: the name is another server's.
  std::optional<Answer> Lookup(NameView name, uint16_t type);
  // Whether names like this one are answered here.
  bool IsAuthoritativeFor(NameView name) const;
  size_t services() const { return services_.size(); }

 private:
  struct Hash {
    using is_transparent = void;
    size_t operator()(std::string_view name) const { return std::hash<std::string_view>()(name); }
  };
  template <class Value>
  using ByName = std::unordered_map<std::string, Value, Hash, std::equal_to<>>;
  using SliceId = std::string;  // "namespace/name"
  struct Entry {
    std::optional<ServiceNames> service;
    std::map<SliceId, std::shared_ptr<const SliceNames>> slices;
  };

  Answer LookupInZone(NameView name, NameView front, uint16_t type);
  void AnswerService(NameView name, NameView service, const Entry& entry, uint16_t type,
                     Answer* answer);
  static bool HasEndpoint(const Entry& entry);
  bool AnswerHost(NameView name, std::string_view host, const Entry& entry, uint16_t type,
                  Answer* answer);
  bool AnswerPort(NameView name, NameView service, std::string_view port, std::string_view protocol,
                  const Entry& entry, uint16_t type, Answer* answer);
  bool AnswerPod(NameView name, std::string_view dashed, uint16_t type, Answer* answer);
  bool AnswerBelowService(NameView name, NameView front, uint16_t type, Answer* answer);
  std::optional<Answer> LookupReverse(NameView name, uint16_t type);
  Answer Missing(Rcode rcode) const;

  Name FullName(NameView service) const;
  void Index(NameView service, const Entry& entry, bool add);
  template <class Change>
  void Update(const Name& service, const Change& change);

  const Name zone_, svc_zone_, pod_zone_;
  const std::vector<net::IpAddress> addresses_;
  const std::vector<net::IpPrefix> ranges_;
  ByName<Entry> services_;     // by "\3svc\2ns"
  ByName<size_t> namespaces_;  // by "\2ns": how many services
  std::map<SliceId, Name> slice_services_;
  std::map<net::IpAddress, std::multiset<Name>> reverse_;
  uint32_t turn_ = 0;  // rotates the addresses of headless services
};

}  // namespace skiff::agent::dns

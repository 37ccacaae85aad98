// DnsServer: the cluster DNS of this node, for its own pods, on the address that pods' resolv.conf
// names. The cluster's domain is answered from memory, the rest is forwarded.
//
//   auto dns = TRY(DnsServer::Start(config));
//   dns->BeginReplace();                        // a full listing follows
//   dns->SetService(service); dns->SetEndpointSlice(slice); ...
//   dns->SyncDone();
//
// Until the first SyncDone questions about the cluster are answered with SERVFAIL, which resolvers
// ask again, and never with names missing that may exist.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "agent/dns/forwarder.h"
#include "base/net/ip.h"
#include "base/result.h"
#include "proto/k8s/fwd.h"

namespace skiff::agent::dns {

struct ServerConfig {
  std::string zone = "cluster.local";
  // Addresses of this node to answer on; the UDP and the TCP port.
  std::vector<net::IpAddress> addresses;
  uint16_t port = 53;  // 0: one that is free, for tests
  // The pods' and the services' ranges: reverse names in them are the cluster's.
  std::vector<net::IpPrefix> ranges;
  ForwarderConfig forward;
  size_t max_connections = 128;  // TCP; the oldest idle one goes for a new one
};

struct ServerStats {
  uint64_t queries = 0;
  uint64_t cluster_answers = 0;
  uint64_t malformed = 0;
  ForwarderStats forward;
};

// Thread-safe: calls copy what they need and return at once. The work is done on one thread.
class DnsServer {
 public:
  // InvalidArgument: the zone; Unavailable, PermissionDenied: an address cannot be bound.
  static Result<std::unique_ptr<DnsServer>> Start(ServerConfig config);
  ~DnsServer();

  // A full listing follows, up to SyncDone; until then the names of before are served.
  void BeginReplace();
  void SyncDone();
  void SetService(const k8s::core::v1::Service& service);
  void DeleteService(std::string_view name_space, std::string_view name);
  void SetEndpointSlice(const k8s::discovery::v1::EndpointSlice& slice);
  void DeleteEndpointSlice(std::string_view name_space, std::string_view name);

  uint16_t port() const;
  // Waits for the thread: everything told before this call is counted and served.
  ServerStats GetStats() const;

 private:
  class Impl;
  explicit DnsServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace skiff::agent::dns

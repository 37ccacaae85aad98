// Forwarder: asks other name servers what is not the cluster's own.
//
// Each question goes over a socket of its own, from a port of the kernel's choice and with a random
// id, so that answers are hard to forge (RFC 5452). Servers are tried in turn; one that does not
// answer is asked last for a while. An answer that does not fit is asked for again over TCP. When
// no server answers, an answer past its time serves.
//
// All of it on the thread of the io_context.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "agent/dns/cache.h"
#include "agent/dns/message.h"
#include "base/net/ip.h"
#include "base/result.h"

namespace boost::asio {
class io_context;
}

namespace skiff::agent::dns {

using Upstream = net::Endpoint;

struct ForwarderConfig {
  // Read again when it changes: servers of what no stub domain holds. Empty: none.
  std::string resolv_conf = "/etc/resolv.conf";
  std::vector<Upstream> upstreams;  // instead of resolv_conf, where there are any
  std::map<Name, std::vector<Upstream>> stub_domains;
  // Never to be asked: ourselves.
  std::vector<net::IpAddress> own_addresses;
  size_t cache_bytes = 4 << 20;
  size_t max_in_flight = 1000;
};

struct ForwarderStats {
  uint64_t hits = 0, misses = 0, stale = 0, failures = 0;
};

class Forwarder {
 public:
  Forwarder(boost::asio::io_context& io, ForwarderConfig config);
  // Questions under way are dropped without an answer.
  ~Forwarder();

  // done is called once, in this call where the cache knows the answer.
  using Done = std::function<void(const Answer&)>;
  void Resolve(Question question, Done done);
  ForwarderStats stats() const;

 private:
  class Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace skiff::agent::dns

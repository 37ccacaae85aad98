// How Services behave, case by case: what services_test.cc tries on the kernel in every mode of the
// proxy, and the table of docs/services.md. Pure.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/net/ip.h"
#include "tests/support/traffic.h"

namespace skiff::agent::proxy {

// How the client addresses the Service.
enum class Way {
  kClusterIp,
  kNodePort,
  kLoadBalancer,
  kExternalIp,
};

// Who asks, and through which of the two nodes it comes.
enum class From {
  kPodHere,       // a pod of the node under test, which runs endpoints a and c
  kPodThere,      // a pod of the other node, which runs endpoint b
  kItself,        // endpoint a
  kNode,          // the node under test
  kLoopback,      // the same, by 127.0.0.1 or ::1
  kOutside,       // a host that is no node, through the node under test
  kOutsideThere,  // the same, through the other node
};

// Whose address the server sees.
enum class Seen { kClient, kNode };

struct EndpointCase {
  std::string name;   // "a"
  std::string state;  // "", "not ready", "leaving" (still serves), "gone" (does not), "published"
  std::string zone_hint;  // "here", "there", or none
  std::string node_hint;
};

struct ServiceCase {
  Way way = Way::kClusterIp;
  From from = From::kPodHere;
  // Endpoints: "a b/leaving c@here%there": name, state, hint for a zone, hint for a node.
  std::string_view endpoints = "a b";
  // "a b": each of them answers, and nobody else; "refused"; "dropped".
  std::string_view answers = "a b";
  Seen seen = Seen::kClient;
  test::Transport transport = test::Transport::kTcp;
  net::IpFamily family = net::IpFamily::kV4;
  bool internal_local = false;
  bool external_local = false;
  bool affinity = false;
  std::string_view source_ranges = {};

  std::vector<EndpointCase> Endpoints() const;
  // "ClusterIP_TCP_IPv4_pod_of_the_node_...": unique, a name for a test.
  std::string TestName(size_t index) const;
};

const std::vector<ServiceCase>& ServiceCases();

// The cases as a table in Markdown, a column for each mode.
std::string ServiceTable(const std::vector<std::string>& modes);

}  // namespace skiff::agent::proxy

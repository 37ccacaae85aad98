#include "tests/integration/proxy/service_cases.h"

#include <cctype>
#include <sstream>

namespace skiff::agent::proxy {
namespace {

constexpr auto kUdp = test::Transport::kUdp;
constexpr auto kSctp = test::Transport::kSctp;
constexpr auto kV6 = net::IpFamily::kV6;

// From inside the cluster, at the cluster IP.
std::vector<ServiceCase> ClusterIpCases() {
  return {
      {},
      {.from = From::kPodThere},
      {.from = From::kItself},
      {.from = From::kNode},
      {.from = From::kOutside, .seen = Seen::kNode},
      {.family = kV6},
      {.from = From::kPodThere, .family = kV6},
      {.from = From::kItself, .family = kV6},
      {.from = From::kNode, .family = kV6},
      {.from = From::kOutside, .seen = Seen::kNode, .family = kV6},
      {.transport = kUdp},
      {.from = From::kPodThere, .transport = kUdp},
      {.from = From::kItself, .transport = kUdp},
      {.from = From::kNode, .transport = kUdp},
      {.transport = kUdp, .family = kV6},
      {.from = From::kItself, .endpoints = "a", .answers = "a"},
      {.transport = kSctp},
      {.endpoints = "", .answers = "refused"},
      {.from = From::kPodThere, .endpoints = "", .answers = "refused"},
      {.from = From::kNode, .endpoints = "", .answers = "refused"},
      {.endpoints = "", .answers = "refused", .family = kV6},
      {.endpoints = "", .answers = "refused", .transport = kUdp},
  };
}

std::vector<ServiceCase> EndpointStateCases() {
  return {
      {.endpoints = "a/not-ready", .answers = "refused"},
      {.endpoints = "a/not-ready b", .answers = "b"},
      {.endpoints = "a/published", .answers = "a"},
      {.endpoints = "a/leaving b", .answers = "b"},
      {.endpoints = "a/leaving b/leaving", .answers = "a b"},
      {.endpoints = "a/gone", .answers = "refused"},
      {.endpoints = "a/leaving b", .answers = "b", .transport = kUdp},
      {.endpoints = "a@here b@there c@there", .answers = "a"},
      {.from = From::kPodThere, .endpoints = "a@here b@there c@there", .answers = "b c"},
      {.endpoints = "b@there c@there", .answers = "b c"},
      {.endpoints = "a@here b@there c", .answers = "a b c"},
      {.endpoints = "a@here%here c@here%there b@there%there", .answers = "a"},
      {.from = From::kPodThere, .endpoints = "a@here%here b@there%here", .answers = "b"},
      {.endpoints = "a b", .answers = "a", .internal_local = true},
      {.from = From::kPodThere, .endpoints = "a b", .answers = "b", .internal_local = true},
      {.from = From::kNode, .endpoints = "a b", .answers = "a", .internal_local = true},
      {.from = From::kPodThere, .endpoints = "a", .answers = "dropped", .internal_local = true},
      {.endpoints = "a/leaving b", .answers = "a", .internal_local = true},
      {.endpoints = "", .answers = "refused", .internal_local = true},
      {.endpoints = "a b c", .affinity = true},
      {.from = From::kNode, .endpoints = "a b c", .affinity = true},
      {.endpoints = "a b c", .transport = kUdp, .affinity = true},
      {.endpoints = "a b c", .family = kV6, .affinity = true},
  };
}

std::vector<ServiceCase> NodePortCases() {
  constexpr Way kWay = Way::kNodePort;
  return {
      {.way = kWay, .from = From::kOutside, .seen = Seen::kNode},
      {.way = kWay, .from = From::kOutsideThere, .seen = Seen::kNode},
      {.way = kWay, .from = From::kPodHere, .seen = Seen::kNode},
      {.way = kWay, .from = From::kPodThere, .seen = Seen::kNode},
      {.way = kWay, .from = From::kNode},
      {.way = kWay, .from = From::kLoopback},
      {.way = kWay, .from = From::kLoopback, .answers = "refused", .family = kV6},
      {.way = kWay, .from = From::kLoopback, .external_local = true},
      {.way = kWay, .from = From::kOutside, .seen = Seen::kNode, .family = kV6},
      {.way = kWay, .from = From::kOutside, .seen = Seen::kNode, .transport = kUdp},
      {.way = kWay, .from = From::kOutside, .seen = Seen::kNode, .transport = kSctp},
      {.way = kWay, .from = From::kOutside, .endpoints = "", .answers = "refused"},
      {.way = kWay, .from = From::kOutside, .answers = "a", .external_local = true},
      {.way = kWay, .from = From::kOutside, .answers = "a", .family = kV6, .external_local = true},
      {.way = kWay,
       .from = From::kOutside,
       .answers = "a",
       .transport = kUdp,
       .external_local = true},
      {.way = kWay,
       .from = From::kOutsideThere,
       .endpoints = "a",
       .answers = "dropped",
       .external_local = true},
      {.way = kWay,
       .from = From::kOutside,
       .endpoints = "a/leaving b",
       .answers = "a",
       .external_local = true},
      {.way = kWay, .from = From::kPodHere, .external_local = true},
      {.way = kWay, .from = From::kNode, .external_local = true},
      {.way = kWay,
       .from = From::kOutside,
       .endpoints = "a b c",
       .seen = Seen::kNode,
       .affinity = true},
  };
}

std::vector<ServiceCase> OutsideAddressCases() {
  constexpr Way kBalancer = Way::kLoadBalancer, kExternal = Way::kExternalIp;
  return {
      {.way = kBalancer, .from = From::kOutside, .seen = Seen::kNode},
      {.way = kBalancer, .from = From::kOutside, .seen = Seen::kNode, .family = kV6},
      {.way = kBalancer, .from = From::kPodHere, .seen = Seen::kNode},
      {.way = kBalancer, .from = From::kNode},
      {.way = kBalancer, .from = From::kOutside, .answers = "a", .external_local = true},
      {.way = kBalancer,
       .from = From::kOutsideThere,
       .endpoints = "a",
       .answers = "dropped",
       .external_local = true},
      {.way = kBalancer, .from = From::kPodHere, .external_local = true},
      {.way = kBalancer, .from = From::kOutside, .endpoints = "", .answers = "refused"},
      {.way = kBalancer,
       .from = From::kOutside,
       .seen = Seen::kNode,
       .source_ranges = "10.200.0.0/24"},
      {.way = kBalancer,
       .from = From::kOutside,
       .answers = "dropped",
       .source_ranges = "10.99.0.0/16"},
      {.way = kExternal, .from = From::kOutside, .seen = Seen::kNode},
      {.way = kExternal, .from = From::kPodHere, .seen = Seen::kNode},
      {.way = kExternal, .from = From::kOutside, .answers = "a", .external_local = true},
      {.way = kExternal, .from = From::kOutside, .endpoints = "", .answers = "refused"},
  };
}

std::string WayText(const ServiceCase& c) {
  std::string text;
  switch (c.way) {
    case Way::kClusterIp: text = "ClusterIP"; break;
    case Way::kNodePort: text = "NodePort"; break;
    case Way::kLoadBalancer: text = "LoadBalancer"; break;
    case Way::kExternalIp: text = "externalIPs"; break;
  }
  if (c.internal_local) text += ", internal Local";
  if (c.external_local) text += ", external Local";
  if (c.affinity) text += ", affinity ClientIP";
  if (!c.source_ranges.empty()) text += ", sources " + std::string(c.source_ranges);
  return text;
}

std::string ProtocolText(const ServiceCase& c) {
  std::string text = c.transport == test::Transport::kTcp   ? "TCP"
                     : c.transport == test::Transport::kUdp ? "UDP"
                                                            : "SCTP";
  return text + " " + std::string(net::FamilyName(c.family));
}

std::string FromText(From from) {
  switch (from) {
    case From::kPodHere: return "pod here";
    case From::kPodThere: return "pod there";
    case From::kItself: return "endpoint a";
    case From::kNode: return "node";
    case From::kLoopback: return "node, loopback";
    case From::kOutside: return "outside";
    case From::kOutsideThere: return "outside, other node";
  }
  return "";
}

std::string EndpointsText(const ServiceCase& c) {
  std::string text;
  for (const EndpointCase& endpoint : c.Endpoints()) {
    std::vector<std::string> notes;
    if (!endpoint.state.empty()) notes.push_back(endpoint.state);
    if (!endpoint.zone_hint.empty()) notes.push_back("zone " + endpoint.zone_hint);
    if (!endpoint.node_hint.empty()) notes.push_back("node " + endpoint.node_hint);
    text += (text.empty() ? "" : ", ") + endpoint.name;
    for (size_t i = 0; i < notes.size(); ++i) text += (i == 0 ? " (" : ", ") + notes[i];
    if (!notes.empty()) text += ")";
  }
  return text.empty() ? "none" : text;
}

std::string AnswersText(const ServiceCase& c) {
  if (c.affinity) return "always the same";
  std::string text;
  for (char letter : c.answers) text += letter == ' ' ? std::string(", ") : std::string(1, letter);
  return text;
}

std::string SeenText(const ServiceCase& c) {
  if (c.answers == "refused" || c.answers == "dropped") return "";
  if (c.from == From::kItself) return "client; node where a is asked";
  return c.seen == Seen::kClient ? "client" : "node";
}

}  // namespace

std::vector<EndpointCase> ServiceCase::Endpoints() const {
  std::vector<EndpointCase> found;
  std::istringstream words{std::string(endpoints)};
  for (std::string word; words >> word;) {
    auto part_behind = [&word](char mark) {
      size_t at = word.find(mark);
      if (at == std::string::npos) return std::string();
      return word.substr(at + 1, word.find_first_of("/@%", at + 1) - at - 1);
    };
    EndpointCase endpoint{word.substr(0, word.find_first_of("/@%")), part_behind('/'),
                          part_behind('@'), part_behind('%')};
    if (endpoint.state == "not-ready") endpoint.state = "not ready";
    found.push_back(std::move(endpoint));
  }
  return found;
}

std::string ServiceCase::TestName(size_t index) const {
  std::string text = std::to_string(index) + " " + WayText(*this) + " " + ProtocolText(*this) +
                     " from " + FromText(from) + " to " + EndpointsText(*this);
  std::string name;
  for (char c : text) {
    if (std::isalnum(static_cast<unsigned char>(c))) {
      name += c;
    } else if (!name.empty() && name.back() != '_') {
      name += '_';
    }
  }
  while (name.ends_with('_')) name.pop_back();
  return name;
}

const std::vector<ServiceCase>& ServiceCases() {
  static const auto& cases = *[] {
    auto* all = new std::vector<ServiceCase>();
    for (const auto& some :
         {ClusterIpCases(), EndpointStateCases(), NodePortCases(), OutsideAddressCases()}) {
      all->insert(all->end(), some.begin(), some.end());
    }
    return all;
  }();
  return cases;
}

std::string ServiceTable(const std::vector<std::string>& modes) {
  std::string table = "| # | Service | protocol | client | endpoints | answers | server sees |";
  std::string line = "|---|---|---|---|---|---|---|";
  for (const std::string& mode : modes) {
    table += " " + mode + " |";
    line += "---|";
  }
  table += "\n" + line + "\n";
  size_t number = 0;
  for (const ServiceCase& c : ServiceCases()) {
    table += "| " + std::to_string(number++);
    for (const std::string& cell : {WayText(c), ProtocolText(c), FromText(c.from), EndpointsText(c),
                                    AnswersText(c), SeenText(c)}) {
      table += " | " + cell;
    }
    for (size_t i = 0; i < modes.size(); ++i) table += " | yes";
    table += " |\n";
  }
  return table;
}

}  // namespace skiff::agent::proxy

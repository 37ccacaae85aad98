#include "agent/policy/plan.h"

#include <algorithm>

#include "base/net/conntrack.h"
#include "base/net/short_hash.h"
#include "proto/k8s/core/v1/pod.pb.h"

namespace skiff::agent::policy {
namespace {

namespace core = k8s::core::v1;
namespace nft = net::nft;
using nft::Body;
using nft::End;
using nft::Rule;
using nft::Source;
using nft::Type;
using nft::Verdict;

constexpr char kTable[] = "skiff-policy";
constexpr char kEgressForward[] = "egress-forward";
constexpr char kEgressInput[] = "egress-input";
constexpr char kOwn[] = "own";  // source and destination, of a pod that speaks to itself
constexpr char kUnknown[] = "unknown";
constexpr size_t kHashCharacters = 16;

// Behind the service proxy's, which refuse traffic to services without endpoints.
constexpr int kEgressPriority = nft::kPriorityFilter + 10;
constexpr int kIngressPriority = nft::kPriorityFilter + 11;

enum class Direction { kIngress, kEgress };

std::string HashName(std::string_view prefix, const std::string& text) {
  return std::string(prefix) + "-" + net::ShortHashBase32(text, kHashCharacters);
}

nft::Bytes PortBytes(uint16_t port) {
  return {static_cast<char>(port >> 8), static_cast<char>(port)};
}

// The pod's port of that name; upstream takes the first.
uint16_t FindPort(const core::Pod& pod, const PortName& wanted) {
  for (const auto* containers : {&pod.spec().containers(), &pod.spec().init_containers()}) {
    for (const core::Container& container : *containers) {
      for (const core::ContainerPort& port : container.ports()) {
        uint8_t protocol = ProtocolNumber(port.protocol().empty() ? "TCP" : port.protocol());
        if (port.name() == wanted.name && protocol == wanted.protocol) {
          return static_cast<uint16_t>(port.container_port());
        }
      }
    }
  }
  return 0;
}

// Plans one family's table.
class Planner {
 public:
  Planner(net::IpFamily family, const PlanInput& input) : family_(family), input_(input) {}

  TablePlan Plan() {
    for (const LocalPod* pod : input_.pods) {
      for (const net::IpAddress& address : pod->addresses) {
        if (address.family() == family_) owners_[address] = pod;
      }
    }
    Isolate(Direction::kIngress);
    Isolate(Direction::kEgress);
    if (isolated_.empty()) return {};
    // Maps and sets of the base chains' rules are there in any case.
    for (const char* map : {kIngressPods, kEgressPods}) {
      SetNamed(map, {AddressType()}).set.data = {Type::kVerdict};
    }
    PlannedSet& own = SetNamed(kOwn, {AddressType(), AddressType()});
    for (const net::IpAddress& address : isolated_) {
      nft::Bytes key = nft::Key().Add(address).Add(address);
      own.elements[key] = {.key = key};
    }
    return std::move(plan_);
  }

 private:
  Type AddressType() const { return nft::AddressType(family_); }

  PlannedSet& SetNamed(const std::string& name, std::vector<Type> key) {
    PlannedSet& planned = plan_.sets[name];
    planned.set.name = name;
    planned.set.key = std::move(key);
    return planned;
  }

  void Isolate(Direction direction) {
    bool ingress = direction == Direction::kIngress;
    const char* map = ingress ? kIngressPods : kEgressPods;
    auto lead = [&](const net::IpAddress& address, std::string chain, std::string comment) {
      nft::Bytes key = nft::Key().Add(address);
      plan_.sets[map].elements[key] = {
          .key = key, .verdict = Verdict::Jump(std::move(chain)), .comment = std::move(comment)};
      isolated_.insert(address);
    };
    for (const auto& [address, pod] : owners_) {
      std::vector<std::string> policies = PoliciesOf(*pod, direction);
      if (policies.empty()) continue;
      const auto& metadata = pod->pod->metadata();
      lead(address, PodChain(policies, direction), metadata.namespace_() + "/" + metadata.name());
    }
    for (const net::IpAddress& address : ingress ? input_.unknown_ingress : input_.unknown_egress) {
      if (address.family() != family_ || owners_.contains(address)) continue;
      plan_.chains[kUnknown] = {DropRule(kUnknown)};
      lead(address, kUnknown, "");
    }
  }

  std::vector<std::string> PoliciesOf(const LocalPod& pod, Direction direction) const {
    std::vector<std::string> keys;
    const std::string prefix = pod.pod->metadata().namespace_() + "/";
    for (auto it = input_.policies->lower_bound(prefix);
         it != input_.policies->end() && it->first.starts_with(prefix); ++it) {
      const Policy& policy = it->second;
      bool isolates =
          direction == Direction::kIngress ? policy.isolates_ingress : policy.isolates_egress;
      if (isolates && policy.pods.Matches(pod.pod->metadata().labels())) keys.push_back(it->first);
    }
    return keys;
  }

  static Rule DropRule(const std::string& chain) {
    return {chain, Body().Then(nft::Counter()).Decide(Verdict::Drop()), "allowed by no policy"};
  }

  // The chain of the pods with these policies.
  std::string PodChain(const std::vector<std::string>& policies, Direction direction) {
    std::string all;
    for (const std::string& key : policies) all += key + "\n";
    std::string name = HashName(direction == Direction::kIngress ? "ingress" : "egress", all);
    if (plan_.chains.contains(name)) return name;
    std::vector<Rule> rules;
    for (const std::string& key : policies) {
      rules.push_back({name, Body().Decide(Verdict::Jump(PolicyChain(key, direction))), key});
    }
    rules.push_back(DropRule(name));
    plan_.chains[name] = std::move(rules);
    return name;
  }

  // The chain of one policy: accepts what it allows.
  std::string PolicyChain(const std::string& key, Direction direction) {
    bool ingress = direction == Direction::kIngress;
    std::string name = HashName(ingress ? "policy-ingress" : "policy-egress", key);
    if (plan_.chains.contains(name)) return name;
    plan_.chains[name];
    const Policy& policy = input_.policies->at(key);
    std::vector<Rule> rules;
    for (const AllowRule& rule : ingress ? policy.ingress : policy.egress) {
      AddRules(name, policy, rule, direction, &rules);
    }
    plan_.chains[name] = std::move(rules);
    return name;
  }

  void AddRules(const std::string& chain, const Policy& policy, const AllowRule& rule,
                Direction direction, std::vector<Rule>* rules) {
    std::vector<Body> peers = MatchPeers(rule, direction);
    std::vector<Body> ports = MatchPorts(rule, policy);
    auto accept = [](Body body) { return std::move(body.Decide(Verdict::Accept())); };
    if (peers.size() > 1 && ports.size() > 1) {
      // Peers + ports rules instead of peers * ports.
      std::string shared = PortsChain(ports);
      for (Body& peer : peers) {
        rules->push_back({chain, std::move(peer.Decide(Verdict::Jump(shared))), ""});
      }
    } else {
      for (const Body& peer : peers) {
        for (const Body& port : ports) {
          Body both = peer;
          for (const nft::Step& step : port.steps()) both.Then(step);
          rules->push_back({chain, accept(std::move(both)), ""});
        }
      }
    }
    for (const std::string& set : rule.port_sets) {
      plan_.address_sets[set] = {.name = set, .key = PortKey()};
      rules->push_back({chain, accept(MatchPortKey(set)), ""});
    }
  }

  std::vector<Body> MatchPeers(const AllowRule& rule, Direction direction) {
    if (rule.any_peer) return {Body()};
    Source peer = Source::Address(
        family_, direction == Direction::kIngress ? End::kSource : End::kDestination);
    std::vector<Body> bodies;
    for (const std::string& set : rule.sets) {
      plan_.address_sets[set] = {.name = set, .key = {AddressType()}};
      bodies.push_back(Body().InSet({peer}, set));
    }
    std::string text;
    std::map<nft::Bytes, nft::Element> elements;
    for (const AddressRange& range : rule.ranges) {
      if (range.first.family() != family_) continue;
      nft::Bytes first = nft::Key().Add(range.first), last = nft::Key().Add(range.last);
      text += first + last;
      elements[first] = {.key = first, .key_end = last};
    }
    if (elements.empty()) return bodies;
    std::string name = HashName("blocks", text);
    PlannedSet& blocks = SetNamed(name, {AddressType()});
    blocks.set.interval = true;
    blocks.elements = std::move(elements);
    bodies.push_back(Body().InSet({peer}, name));
    return bodies;
  }

  std::vector<Body> MatchPorts(const AllowRule& rule, const Policy& policy) {
    if (rule.any_port) return {Body()};
    std::vector<Body> bodies;
    for (const PortRange& range : rule.ports) {
      Body body = Body().Is(Source::L4Protocol(), {static_cast<char>(range.protocol)});
      if (range.first == range.last) {
        body.Is(Source::Port(), PortBytes(range.first));
      } else if (range.first != 0) {
        body.InRange(Source::Port(), PortBytes(range.first), PortBytes(range.last));
      }
      bodies.push_back(std::move(body));
    }
    for (const PortName& name : rule.names) {
      std::string set = NamesSet(name, policy);
      if (!set.empty()) bodies.push_back(MatchPortKey(set));
    }
    return bodies;
  }

  std::vector<Type> PortKey() const { return {AddressType(), Type::kProtocol, Type::kPort}; }
  Body MatchPortKey(const std::string& set) const {
    return Body().InSet(
        {Source::Address(family_, End::kDestination), Source::L4Protocol(), Source::Port()}, set);
  }

  // The ports of that name of the pods that the policy selects; empty if none has one.
  std::string NamesSet(const PortName& name, const Policy& policy) {
    std::map<nft::Bytes, nft::Element> elements;
    std::string text;
    for (const auto& [address, pod] : owners_) {
      const auto& metadata = pod->pod->metadata();
      if (metadata.namespace_() != policy.name_space || !policy.pods.Matches(metadata.labels())) {
        continue;
      }
      uint16_t port = FindPort(*pod->pod, name);
      if (port == 0) continue;
      nft::Element element = ElementOf({address, name.protocol, port});
      text += element.key;
      elements[element.key] = std::move(element);
    }
    if (elements.empty()) return "";
    std::string set = HashName("names", text);
    SetNamed(set, PortKey()).elements = std::move(elements);
    return set;
  }

  std::string PortsChain(const std::vector<Body>& ports) {
    std::string text;
    for (const Body& body : ports) text += Describe(body);
    std::string name = HashName("ports", text);
    std::vector<Rule>& rules = plan_.chains[name];
    if (!rules.empty()) return name;
    for (Body body : ports) {
      rules.push_back({name, std::move(body.Decide(Verdict::Accept())), ""});
    }
    return name;
  }

  // What the matches of MatchPorts differ in.
  static std::string Describe(const Body& body) {
    std::string text;
    for (const nft::Step& step : body.steps()) {
      if (const auto* compare = std::get_if<nft::Compare>(&step)) text += "=" + compare->value;
      if (const auto* range = std::get_if<nft::Between>(&step)) {
        text += "-" + range->from + range->to;
      }
      if (const auto* lookup = std::get_if<nft::Lookup>(&step)) text += "@" + lookup->set;
    }
    return text + "\n";
  }

  const net::IpFamily family_;
  const PlanInput& input_;
  std::map<net::IpAddress, const LocalPod*> owners_;
  std::set<net::IpAddress> isolated_;
  TablePlan plan_;
};

}  // namespace

nft::Table TableOf(net::IpFamily family) { return {nft::FamilyOf(family), kTable}; }

nft::Element ElementOf(const Member& member) {
  nft::Key key = nft::Key().Add(member.address);
  if (member.port != 0) key.Protocol(member.protocol).Port(member.port);
  return {.key = key};
}

TablePlan PlanTable(net::IpFamily family, const PlanInput& input) {
  return Planner(family, input).Plan();
}

std::vector<nft::Chain> BaseChains() {
  auto base = [](const char* name, nft::Hook hook, int priority) {
    return nft::Chain{name, nft::BaseChain{.hook = hook, .priority = priority}};
  };
  return {base(kEgressForward, nft::Hook::kForward, kEgressPriority),
          base(kEgressInput, nft::Hook::kInput, kEgressPriority),
          base(kWitnessChain, nft::Hook::kForward, kIngressPriority)};
}

std::vector<Rule> BaseRules(net::IpFamily family) {
  Source source = Source::Address(family, End::kSource);
  Source destination = Source::Address(family, End::kDestination);
  auto followed = [](const char* chain) {
    return Rule{chain,
                Body()
                    .HasAny({Source::CtState()}, nft::kStateEstablished | nft::kStateRelated)
                    .Decide(Verdict::Accept()),
                "of connections that were allowed"};
  };
  auto own = [&](const char* chain) {
    return Rule{chain, Body().InSet({source, destination}, kOwn).Decide(Verdict::Accept()),
                "a pod to itself"};
  };
  auto lead = [](const char* chain, const Source& pod, const char* map) {
    return Rule{chain, Body().Load(0, {pod}).Dispatch(0, map), ""};
  };
  std::vector<Rule> rules = {
      followed(kEgressForward),
      own(kEgressForward),
      lead(kEgressForward, source, kEgressPods),
      followed(kEgressInput),
  };
  if (family == net::IpFamily::kV6) {
    // Router and neighbour discovery (RFC 4861), without which the pod finds no way at all.
    constexpr char kIcmpv6 = 58, kFirst = static_cast<char>(133), kLast = static_cast<char>(137);
    rules.push_back({kEgressInput,
                     Body()
                         .Is(Source::L4Protocol(), {kIcmpv6})
                         .InRange({Source::Payload{true, 0, 1}}, {kFirst}, {kLast})
                         .Decide(Verdict::Accept()),
                     "neighbour discovery"});
  }
  rules.push_back(lead(kEgressInput, source, kEgressPods));
  rules.push_back(followed(kWitnessChain));
  rules.push_back(own(kWitnessChain));
  rules.push_back(lead(kWitnessChain, destination, kIngressPods));
  return rules;
}

}  // namespace skiff::agent::policy

#include "agent/proxy/nft_chains.h"

#include <algorithm>
#include <cstring>

namespace skiff::agent::proxy {
namespace {

using net::nft::Body;
using net::nft::Bytes;
using net::nft::End;
using net::nft::Key;
using net::nft::Rule;
using net::nft::Slot;
using net::nft::Source;
using net::nft::Type;
using net::nft::UpdateSet;
using net::nft::Verdict;

// Services come before what else translates destinations (host ports), and their masquerading
// before that of pods; both are told apart by the order within nat.
constexpr int kTranslatePriority = net::nft::kPriorityDstNat - 5;
constexpr int kMasqueradePriority = net::nft::kPrioritySrcNat - 5;
// A chain that is new and looks into a map makes the kernel walk the whole map once. So the chains
// that choose among few endpoints stand from the start, when maps are empty.
constexpr uint32_t kStandingEndpoints = 32;
constexpr uint32_t kAffinityEntries = 1 << 18;  // clients, of all services together

// The first number of a path.
constexpr uint32_t kKindMask = 7, kLocalFlag = 1 << 3, kGuardedFlag = 1 << 4;
constexpr int kAffinityShift = 8;

// Where things lie in the slots of a rule.
//
// nft(8) tells what a slot holds by the step that last named it as its target, and ends with a
// failed assertion where it does not know how long that is: of a map's data. It takes no notice of
// what data writes into the slots behind the first one. So the first slot of data that has keys in
// it is a blank, and the others have had the destination in them, which is what nft prints then:
// "meta l4proto . th dport vmap @paths", and means the destination's path.
constexpr Slot kProtocolSlot = 4;          // the port behind it, the address in front
constexpr Slot kPathSlot = kProtocolSlot;  // in the rules that look for a path
constexpr Slot kIdentity = kProtocolSlot;  // in those that look for an identity
constexpr Slot kBehindIdentity = kIdentity + 2;
constexpr Slot kChosen = kBehindIdentity + 4;  // behind an address there
constexpr Slot kBlankSlots = 1;
// What a frontend's data begins with: a blank, the identity, the path.
constexpr Slot kPathOffset = 3;

std::string SetName(ProxySet set) {
  switch (set) {
    case ProxySet::kFrontends: return "frontends";
    case ProxySet::kNodePorts: return "nodeports";
    case ProxySet::kPaths: return "paths";
    case ProxySet::kEndpoints: return "endpoints";
    case ProxySet::kStickyEndpoints: return "sticky-endpoints";
    case ProxySet::kMembers: return "members";
    case ProxySet::kAffinity: return "affinity";
    case ProxySet::kHairpin: return "hairpin";
    case ProxySet::kAllowed: return "allowed";
  }
  return "";
}

uint32_t MarkBit(const PlanContext& context) {
  return static_cast<uint32_t>(strtoul(context.mark.c_str(), nullptr, 16));
}

Slot AddressSlots(const PlanContext& context) {
  return context.family == net::IpFamily::kV4 ? 1 : 4;
}

net::IpPrefix Loopback(net::IpFamily family) {
  return net::IpPrefix::Parse(family == net::IpFamily::kV4 ? "127.0.0.0/8" : "::1/128").value();
}

// route_localnet is for IPv4 alone.
bool AnswersOnLoopback(const PlanContext& context) {
  return context.family == net::IpFamily::kV4 && context.localhost_nodeports;
}

// Both ways to find the data of the packet's destination.
enum class From : uint8_t { kFrontend, kNodePort };

Body FindFrontend(const PlanContext& context, From from, Slot into, Body body = Body()) {
  if (from == From::kFrontend) {
    auto key = static_cast<Slot>(kProtocolSlot - AddressSlots(context));
    return body
        .Load(key, {Source::Address(context.family, End::kDestination), Source::L4Protocol(),
                    Source::Port()})
        .Map(key, SetName(ProxySet::kFrontends), into);
  }
  return body.Load(kProtocolSlot, {Source::L4Protocol(), Source::Port()})
      .Map(kProtocolSlot, SetName(ProxySet::kNodePorts), into);
}
Body FindPath(const PlanContext& context, From from, Body body = Body()) {
  return FindFrontend(context, from, kPathSlot - kPathOffset, std::move(body));
}
Body FindIdentity(const PlanContext& context, From from) {
  return FindFrontend(context, from, kIdentity - kBlankSlots);
}

Body& TranslateTo(const PlanContext& context, Body& body, Slot address) {
  auto port = static_cast<Slot>(address + AddressSlots(context));
  return body.Then(net::nft::Dnat{context.family, address, port});
}

// Chooses an endpoint of a service port, and remembers it for the client where that is asked for.
class ChoosingChain {
 public:
  ChoosingChain(const PlanContext& context, bool local, uint32_t count, uint32_t affinity_seconds)
      : context_(context),
        offset_(local ? kLocalEndpoints : 0),
        count_(count),
        timeout_(affinity_seconds),
        plan_{.chain = {.name = Name(local, count, affinity_seconds)}, .rules = {}} {}

  static std::string Name(bool local, uint32_t count, uint32_t affinity_seconds) {
    std::string name = (local ? "local-endpoints-" : "endpoints-") + std::to_string(count);
    return affinity_seconds == 0 ? name : name + "-" + std::to_string(affinity_seconds) + "s";
  }

  ChainPlan Plan() {
    if (timeout_.count() == 0) {
      for (From from : kBoth) Choose(from);
      return std::move(plan_);
    }
    for (From from : kBoth) Renew(from);
    for (From from : kBoth) GoBack(from);
    for (From from : kBoth) Forget(from);
    for (From from : kBoth) ChooseSticky(from, /*remember=*/true);
    // The set of clients may be full.
    for (From from : kBoth) ChooseSticky(from, /*remember=*/false);
    return std::move(plan_);
  }

 private:
  static constexpr From kBoth[] = {From::kFrontend, From::kNodePort};
  void Add(Body body, const char* comment = "") {
    plan_.rules.push_back({plan_.chain.name, std::move(body), comment});
  }
  Source Client() const { return Source::Address(context_.family, End::kSource); }
  Source Blank() const { return Source::Of(Key().Mark(0)); }
  Source Number() const { return {Source::Random{count_, offset_}}; }

  // Finds a blank and an endpoint, of which nft(8) says that it is the destination.
  Body FindEndpoint(From from, const Source& key, ProxySet map, Slot into) const {
    auto address = static_cast<Slot>(into + kBlankSlots);
    return FindIdentity(context_, from)
        .Load(address, {Source::Address(context_.family, End::kDestination), Source::Port()})
        .Load(kBehindIdentity, {key})
        .Map(kIdentity, SetName(map), into);
  }
  Body FindKnown(From from) const {
    return FindEndpoint(from, Client(), ProxySet::kAffinity, kChosen).Load(kChosen, {Blank()});
  }
  UpdateSet Update(UpdateSet::Operation operation) const {
    return {operation, SetName(ProxySet::kAffinity), kIdentity, kChosen, timeout_};
  }

  void Choose(From from) {
    Body body = FindIdentity(context_, from);
    body.Load(kBehindIdentity, {Number()}).Map(kIdentity, SetName(ProxySet::kEndpoints), kChosen);
    Add(TranslateTo(context_, body, kChosen),
        from == From::kFrontend ? "of the address" : "of the node port");
  }
  // A client that comes back in time stays known.
  void Renew(From from) {
    Add(FindKnown(from).Update(Update(UpdateSet::Operation::kUpdate)), "the client's endpoint");
  }
  void GoBack(From from) {
    Body body = FindEndpoint(from, Client(), ProxySet::kAffinity, kBehindIdentity);
    body.Load(kBehindIdentity, {Source::Of(Key().Mark(offset_))})
        .Find(kIdentity, SetName(ProxySet::kMembers));
    Add(TranslateTo(context_, body, kBehindIdentity + kBlankSlots), "... if it still is one");
  }
  // The client's endpoint is gone: an entry's data cannot be changed, only made anew.
  void Forget(From from) {
    UpdateSet forget = Update(UpdateSet::Operation::kDelete);
    forget.timeout = {};
    Add(FindKnown(from).Update(std::move(forget)), "... and if not");
  }
  void ChooseSticky(From from, bool remember) {
    Body body = FindEndpoint(from, Number(), ProxySet::kStickyEndpoints, kChosen);
    if (remember) {
      body.Load(kBehindIdentity, {Client()})
          .Load(kChosen, {Blank()})
          .Update(Update(UpdateSet::Operation::kUpdate));
    }
    Add(TranslateTo(context_, body, kChosen + kBlankSlots), "a random endpoint");
  }

  const PlanContext& context_;
  const uint32_t offset_, count_;
  const std::chrono::seconds timeout_;
  ChainPlan plan_;
};

// The chain that a path leads to.
class PathChain {
 public:
  PathChain(const PlanContext& context, const Path& path)
      : context_(context), path_(path), plan_{.chain = {.name = path.ChainName()}, .rules = {}} {}

  ChainPlan Plan() {
    if (path_.guarded) {
      Path inside = path_;
      inside.guarded = false;
      Add(Body().Decide(Verdict::Jump("source-ranges")));
      Add(Body().Decide(Verdict::Goto(inside.ChainName())));
      return std::move(plan_);
    }
    switch (path_.kind) {
      case Path::Kind::kReject: Add(Body().Then(net::nft::Reject())); break;
      case Path::Kind::kDrop: Add(Body().Decide(Verdict::Drop())); break;
      case Path::Kind::kClusterIp: PlanClusterIp(); break;
      case Path::Kind::kExternal:
        Add(Mark(), "masquerade traffic for external destinations");
        Add(Body().Decide(ToEndpoints(/*local=*/false)));
        break;
      case Path::Kind::kExternalLocal: PlanExternalLocal(); break;
    }
    return std::move(plan_);
  }

 private:
  void Add(Body body, std::string comment = "") {
    plan_.rules.push_back({plan_.chain.name, std::move(body), std::move(comment)});
  }
  Body Mark(Body body = Body()) const { return body.SetMarkBits(MarkBit(context_)); }
  Verdict ToEndpoints(bool local) const {
    return Verdict::Goto(ChoosingChain::Name(
        local, local ? path_.local_endpoints : path_.cluster_endpoints, path_.affinity_seconds));
  }

  void PlanClusterIp() {
    // Traffic from outside must come back through this node: its client knows only the service.
    if (context_.masquerade_all) {
      Add(Mark());
    } else if (context_.cluster_cidr) {
      Add(Mark(Body().In(End::kSource, *context_.cluster_cidr, /*inside=*/false)),
          "masquerade off-cluster traffic");
    }
    Add(Body().Decide(ToEndpoints(path_.local)));
  }

  void PlanExternalLocal() {
    if (context_.cluster_cidr) {
      Add(Body().In(End::kSource, *context_.cluster_cidr).Decide(ToEndpoints(false)),
          "pods are no outsiders");
    }
    Body from_here =
        Body().Is({Source::RouteType{End::kSource}}, Key().Mark(net::nft::kAddressLocal));
    Add(Mark(std::move(from_here)).Decide(ToEndpoints(false)), "nor is the node");
    Add(Body().Decide(path_.local_endpoints == 0 ? Verdict::Drop() : ToEndpoints(true)));
  }

  const PlanContext& context_;
  const Path& path_;
  ChainPlan plan_;
};

ChainPlan ServicesChain(const PlanContext& context) {
  ChainPlan plan{.chain = {.name = "services"}, .rules = {}};
  const std::string paths = SetName(ProxySet::kPaths);
  plan.rules.push_back({"services", FindPath(context, From::kFrontend).Dispatch(kPathSlot, paths),
                        "by the destination's path"});
  auto add_nodeports = [&](Body body) {
    if (!AnswersOnLoopback(context)) {
      body.In(End::kDestination, Loopback(context.family), /*inside=*/false);
    }
    body.Is({Source::RouteType{End::kDestination}}, Key().Mark(net::nft::kAddressLocal));
    plan.rules.push_back(
        {"services", FindPath(context, From::kNodePort, std::move(body)).Dispatch(kPathSlot, paths),
         "by the node port's path"});
  };
  for (const net::IpPrefix& prefix : context.nodeport_addresses) {
    if (prefix.family() == context.family) add_nodeports(Body().In(End::kDestination, prefix));
  }
  if (context.nodeport_addresses.empty()) add_nodeports(Body());
  return plan;
}

net::nft::Chain NatChain(const char* name, net::nft::Hook hook, int priority) {
  return {.name = name, .base = net::nft::BaseChain{net::nft::ChainType::kNat, hook, priority}};
}

ChainPlan PostroutingChain(const PlanContext& context) {
  ChainPlan plan{
      .chain = NatChain("postrouting", net::nft::Hook::kPostrouting, kMasqueradePriority),
      .rules = {}};
  auto add = [&](Body body, const char* comment) {
    plan.rules.push_back({"postrouting", std::move(body), comment});
  };
  add(Body()
          .HasAny(Source::Mark(), MarkBit(context))
          .ClearMarkBits(MarkBit(context))
          .Then(net::nft::Masquerade()),
      "service traffic that must come back");
  add(Body()
          .HasAny({Source::CtStatus()}, net::nft::kStatusDnat)
          .InSet({Source::Address(context.family, End::kSource),
                  Source::Address(context.family, End::kDestination)},
                 SetName(ProxySet::kHairpin))
          .Then(net::nft::Masquerade()),
      "endpoints that reach themselves");
  return plan;
}

// route_localnet lets neighbours address 127.0.0.0/8 of this node.
ChainPlan LoopbackChain(const PlanContext& context) {
  const net::IpPrefix loopback = Loopback(context.family);
  return {.chain = {.name = "input", .base = net::nft::BaseChain{.hook = net::nft::Hook::kInput}},
          .rules = {{"input",
                     Body()
                         .In(End::kSource, loopback, /*inside=*/false)
                         .In(End::kDestination, loopback)
                         .HasNone({Source::CtState()},
                                  net::nft::kStateEstablished | net::nft::kStateRelated)
                         .HasNone({Source::CtStatus()}, net::nft::kStatusDnat)
                         .Decide(Verdict::Drop()),
                     "block incoming localnet connections"}}};
}

}  // namespace

std::string Path::ChainName() const {
  std::string name;
  switch (kind) {
    case Kind::kReject: name = "reject"; break;
    case Kind::kDrop: name = "drop"; break;
    case Kind::kClusterIp:
      name = local ? "cluster-ip-local-" + std::to_string(local_endpoints)
                   : "cluster-ip-" + std::to_string(cluster_endpoints);
      break;
    case Kind::kExternal: name = "external-" + std::to_string(cluster_endpoints); break;
    case Kind::kExternalLocal:
      name = "external-local-" + std::to_string(cluster_endpoints) + "-" +
             std::to_string(local_endpoints);
      break;
  }
  if (affinity_seconds != 0) name += "-" + std::to_string(affinity_seconds) + "s";
  return guarded ? name + "-guarded" : name;
}

Bytes Path::ToBytes() const {
  uint32_t flags = (local ? kLocalFlag : 0) | (guarded ? kGuardedFlag : 0);
  return Key()
      .Mark(static_cast<uint32_t>(kind) | flags | affinity_seconds << kAffinityShift)
      .Mark(uint32_t{local_endpoints} << 16 | cluster_endpoints)
      .bytes();
}

Path Path::FromBytes(const Bytes& bytes) {
  uint32_t numbers[kPathBytes / sizeof(uint32_t)];
  CHECK(bytes.size() >= sizeof numbers);
  memcpy(numbers, bytes.data(), sizeof numbers);
  return {.kind = static_cast<Kind>(numbers[0] & kKindMask),
          .local = (numbers[0] & kLocalFlag) != 0,
          .guarded = (numbers[0] & kGuardedFlag) != 0,
          .cluster_endpoints = static_cast<uint16_t>(numbers[1]),
          .local_endpoints = static_cast<uint16_t>(numbers[1] >> 16),
          .affinity_seconds = numbers[0] >> kAffinityShift};
}

Bytes FrontendData(const Bytes& identity, const Path& path) {
  return Key().Mark(0).bytes() + identity + path.ToBytes();
}

Path PathOfFrontend(const Bytes& data) {
  return Path::FromBytes(data.substr(size_t{kPathOffset} * sizeof(uint32_t)));
}

net::nft::Set DeclareSet(ProxySet set, net::IpFamily family) {
  const Type ip = net::nft::AddressType(family);
  constexpr Type kMark = Type::kMark;
  net::nft::Set declared{.name = SetName(set)};
  switch (set) {
    case ProxySet::kFrontends:
      declared.key = {ip, Type::kProtocol, Type::kPort};
      declared.data = {kMark, kMark, kMark, kMark, kMark};
      break;
    case ProxySet::kNodePorts:
      declared.key = {Type::kProtocol, Type::kPort};
      declared.data = {kMark, kMark, kMark, kMark, kMark};
      break;
    case ProxySet::kPaths:
      declared.key = {kMark, kMark};
      declared.data = {Type::kVerdict};
      break;
    case ProxySet::kEndpoints:
      declared.key = {kMark, kMark, kMark};
      declared.data = {ip, Type::kPort};
      break;
    case ProxySet::kStickyEndpoints:
      declared.key = {kMark, kMark, kMark};
      declared.data = {kMark, ip, Type::kPort};
      break;
    case ProxySet::kMembers: declared.key = {kMark, kMark, kMark, ip, Type::kPort}; break;
    case ProxySet::kAffinity:
      declared.key = {kMark, kMark, ip};
      declared.data = {kMark, ip, Type::kPort};
      declared.dynamic = declared.timeouts = true;
      declared.size = kAffinityEntries;
      break;
    case ProxySet::kHairpin: declared.key = {ip, ip}; break;
    case ProxySet::kAllowed: declared.key = {kMark, kMark, kMark, ip}; break;
  }
  return declared;
}

std::vector<ChainPlan> BaseChains(const PlanContext& context) {
  std::vector<ChainPlan> chains{ServicesChain(context)};
  for (uint32_t count = 1; count <= kStandingEndpoints; ++count) {
    for (bool local : {false, true}) {
      chains.push_back(ChoosingChain(context, local, count, /*affinity_seconds=*/0).Plan());
    }
  }
  for (auto [name, hook] : {std::pair("prerouting", net::nft::Hook::kPrerouting),
                            std::pair("output", net::nft::Hook::kOutput)}) {
    chains.push_back({.chain = NatChain(name, hook, kTranslatePriority),
                      .rules = {{name, Body().Decide(Verdict::Jump("services")), ""}}});
  }
  chains.push_back(PostroutingChain(context));
  // A packet of a translated connection that is none (any more) must not be forwarded back: a reset
  // would reach the client from an address it does not know.
  chains.push_back(
      {.chain = {.name = "forward", .base = net::nft::BaseChain{.hook = net::nft::Hook::kForward}},
       .rules = {
           {"forward",
            Body().HasAny({Source::CtState()}, net::nft::kStateInvalid).Decide(Verdict::Drop()),
            "what belongs to no connection"}}});
  if (AnswersOnLoopback(context)) chains.push_back(LoopbackChain(context));
  return chains;
}

std::vector<ChainPlan> ChainsOfPath(const PlanContext& context, const Path& path) {
  std::vector<ChainPlan> chains;
  auto endpoints = [&](bool local, uint32_t count) {
    bool standing = count <= kStandingEndpoints && path.affinity_seconds == 0;
    if (count == 0 || standing) return;
    chains.push_back(ChoosingChain(context, local, count, path.affinity_seconds).Plan());
  };
  if (path.kind == Path::Kind::kClusterIp && path.local) {
    endpoints(true, path.local_endpoints);
  } else if (path.kind != Path::Kind::kReject && path.kind != Path::Kind::kDrop) {
    endpoints(false, path.cluster_endpoints);
    if (path.kind == Path::Kind::kExternalLocal) endpoints(true, path.local_endpoints);
  }
  Path inside = path;
  inside.guarded = false;
  chains.push_back(PathChain(context, inside).Plan());
  if (path.guarded) chains.push_back(PathChain(context, path).Plan());
  return chains;
}

ChainPlan SourceRangeChain(const PlanContext& context, const std::vector<int>& lengths) {
  ChainPlan plan{.chain = {.name = "source-ranges"}, .rules = {}};
  const Source client = Source::Address(context.family, End::kSource);
  const net::IpAddress any = Loopback(context.family).first();
  for (int length : lengths) {
    // Only load balancers' addresses have source ranges, node ports have none.
    Body body = FindIdentity(context, From::kFrontend);
    body.Load(kBehindIdentity, {Source::Of(Key().Mark(static_cast<uint32_t>(length))), client})
        .Mask(kBehindIdentity + 1, net::nft::PrefixMask(net::IpPrefix::Of(any, length)))
        .Find(kIdentity, SetName(ProxySet::kAllowed))
        .Decide(Verdict::Return());
    plan.rules.push_back({plan.chain.name, std::move(body), ""});
  }
  plan.rules.push_back({plan.chain.name, Body().Decide(Verdict::Drop()), ""});
  return plan;
}

net::nft::Element PathElement(const Path& path) {
  return {.key = path.ToBytes(), .verdict = Verdict::Goto(path.ChainName())};
}

}  // namespace skiff::agent::proxy

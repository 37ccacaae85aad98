#include "control-plane/controllers/load_balancer_controller.h"

#include <algorithm>
#include <map>

#include "control-plane/controllers/endpoint_plan.h"
#include "control-plane/controllers/framework/event_recorder.h"
#include "control-plane/controllers/framework/objects.h"
#include "control-plane/controllers/load_balancer_plan.h"
#include "proto/k8s/core/v1/node.pb.h"
#include "proto/k8s/core/v1/service.pb.h"
#include "proto/k8s/discovery/v1/discovery.pb.h"

namespace skiff::cp {
namespace {

using k8s::core::v1::Node;
using k8s::core::v1::Service;
using k8s::discovery::v1::EndpointSlice;

// What one Service has and no other may have: addresses of the pool, or ports of the nodes'
// addresses, as texts. What is held is what the Services' status says; nothing else records it.
class Holdings {
 public:
  // Who has it, or "".
  std::string HolderOf(const std::string& thing) const {
    auto found = holders_.find(thing);
    return found == holders_.end() ? "" : found->second;
  }
  bool MayHave(const std::string& service, const std::string& thing) const {
    std::string holder = HolderOf(thing);
    return holder.empty() || holder == service;
  }
  // Whether some of what it had is free now.
  bool Set(const std::string& service, const std::set<std::string>& things) {
    bool freed = std::erase_if(holders_, [&](const auto& entry) {
                   return entry.second == service && !things.contains(entry.first);
                 }) > 0;
    for (const std::string& thing : things) holders_.emplace(thing, service);
    return freed;
  }

 private:
  std::map<std::string, std::string> holders_;
};

class LoadBalancerController : public Controller {
 public:
  LoadBalancerController(Client& client, Executor& executor, LoadBalancerPool pool)
      : Controller("load-balancer", client, executor),
        pool_(std::move(pool)),
        events_(client, executor, "load-balancer-controller"),
        services_(client, strand_),
        nodes_(client, strand_),
        slices_(client, strand_) {
    slices_by_service_ = slices_.AddIndex(
        [](const EndpointSlice& slice) { return std::vector{BalancedService(slice)}; });
    Observe<Service>(services_, [this](const ServicePtr& before, const ServicePtr& now) {
      bool concerned = (before && WantsLoadBalancer(*before)) || (now && WantsLoadBalancer(*now));
      if (concerned) queue_.Add(KeyOf((now ? now : before)->metadata()));
    });
    Observe<Node>(nodes_, [this](const auto& before, const auto& now) {
      if (!before || !now || NodeFacts(*before) != NodeFacts(*now)) AddAll();
    });
    Observe<EndpointSlice>(slices_, [this](const SlicePtr& before, const SlicePtr& now) {
      const std::string key = BalancedService(now ? *now : *before);
      ServicePtr service = services_.Find(key);
      if (service && WantsLoadBalancer(*service) && OnlyNodesWithEndpoints(*service)) {
        queue_.Add(key);
      }
    });
  }

 protected:
  // What Services have they keep, the older one where two have the same.
  void OnReady() override {
    std::vector<ServicePtr> services = services_.All();
    std::ranges::sort(services, [](const ServicePtr& a, const ServicePtr& b) {
      auto age = [](const ServicePtr& service) {
        return std::pair(service->metadata().creation_timestamp().seconds(),
                         KeyOf(service->metadata()));
      };
      return age(a) < age(b);
    });
    for (const ServicePtr& service : services) {
      if (!WantsLoadBalancer(*service)) continue;
      const std::string key = KeyOf(service->metadata());
      std::set<std::string> held;
      for (const net::IpAddress& address : BalancerAddressesOf(*service)) {
        if (pool_.Contains(address)) held.insert(address.ToString());
        if (pool_.empty()) held = PortClaims(*service);
      }
      std::erase_if(held, [&](const auto& thing) { return !holdings_.MayHave(key, thing); });
      holdings_.Set(key, held);
      queue_.Add(key);
    }
  }

  Result<> Sync(const std::string& key) override {
    ServicePtr service = services_.Find(key);
    if (!service || !WantsLoadBalancer(*service)) {
      Hold(key, {});
      return {};
    }
    if (pool_.empty()) return GiveNodes(key, *service);
    service = TRY(SetAddresses(service, FromPool(key, *service)));
    return Announce(key, service);
  }

 private:
  // "" for slices of no Service.
  static std::string BalancedService(const EndpointSlice& slice) {
    auto name = slice.metadata().labels().find(kServiceNameLabel);
    return name == slice.metadata().labels().end()
               ? std::string()
               : JoinKey(slice.metadata().namespace_(), name->second);
  }

  void AddAll() {
    for (const ServicePtr& service : services_.All()) {
      if (WantsLoadBalancer(*service)) queue_.Add(KeyOf(service->metadata()));
    }
  }

  // Others may wait for what is free now.
  void Hold(const std::string& key, const std::set<std::string>& things) {
    if (holdings_.Set(key, things)) AddAll();
  }

  void TellTrouble(const Service& service, const std::string& message) {
    events_.Warning(service, "AllocationFailed", message);
  }

  // ---- addresses of the pool ----

  std::vector<net::IpAddress> FromPool(const std::string& key, const Service& service) {
    std::vector<net::IpAddress> addresses;
    std::set<std::string> held;
    const std::vector<net::IpAddress> present = BalancerAddressesOf(service);
    for (net::IpFamily family : FamiliesOf(service)) {
      auto address = AddressFor(key, service, present, family);
      if (!address) continue;
      addresses.push_back(*address);
      held.insert(address->ToString());
    }
    Hold(key, held);
    return addresses;
  }

  // What is asked for; else what it has; else any that is free.
  std::optional<net::IpAddress> AddressFor(const std::string& key, const Service& service,
                                           const std::vector<net::IpAddress>& present,
                                           net::IpFamily family) {
    auto may_have = [&](const net::IpAddress& address) {
      return holdings_.MayHave(key, address.ToString());
    };
    const std::string& asked = service.spec().load_balancer_ip();
    auto wanted = net::IpAddress::Parse(asked);
    if (!asked.empty() && !wanted.ok()) {
      TellTrouble(service, "loadBalancerIP \"" + asked + "\" is no IP address");
      return std::nullopt;
    }
    if (wanted.ok() && wanted->family() == family) {
      if (pool_.Contains(*wanted) && may_have(*wanted)) return *wanted;
      TellTrouble(service, "loadBalancerIP " + asked +
                               (pool_.Contains(*wanted)
                                    ? " is taken by " + holdings_.HolderOf(wanted->ToString())
                                    : " is not in the pool"));
      return std::nullopt;
    }
    for (const net::IpAddress& address : present) {
      if (address.family() == family && pool_.Contains(address) && may_have(address)) {
        return address;
      }
    }
    auto free =
        pool_.FindFree(family, [&](const net::IpAddress& address) { return !may_have(address); });
    if (!free) {
      TellTrouble(service, "the load balancers' pool has no free " +
                               std::string(net::FamilyName(family)) + " address");
    }
    return free;
  }

  // One node answers for all addresses of a Service. One that keeps clients' addresses needs a node
  // with endpoints.
  Result<> Announce(const std::string& key, const ServicePtr& service) {
    std::set<std::string> nodes;
    for (const auto& node : Eligible(key, *service)) nodes.insert(node->metadata().name());
    if (BalancerAddressesOf(*service).empty()) nodes.clear();
    const auto& annotations = service->metadata().annotations();
    auto found = annotations.find(kAnnouncingNodeAnnotation);
    const std::string present = found == annotations.end() ? "" : found->second;
    const std::string elected = ElectNode(key, present, nodes);
    if (elected == present) return {};
    Service changed = *service;
    auto& marks = *changed.mutable_metadata()->mutable_annotations();
    if (elected.empty()) {
      marks.erase(kAnnouncingNodeAnnotation);
    } else {
      marks[kAnnouncingNodeAnnotation] = elected;
    }
    services_.Assume(TRY(client_.Update(changed)));
    if (!elected.empty()) {
      events_.Normal(*service, "NodeAssigned", "Node " + elected + " answers for the addresses");
    }
    return {};
  }

  // ---- the nodes' own addresses ----

  Result<> GiveNodes(const std::string& key, const Service& service) {
    std::set<std::string> claims = PortClaims(service);
    for (const std::string& claim : claims) {
      if (holdings_.MayHave(key, claim)) continue;
      TellTrouble(service, "port " + claim + " of the nodes' addresses is taken by " +
                               holdings_.HolderOf(claim) +
                               "; use another port, or give the control plane a pool of addresses");
      claims.clear();
      break;
    }
    Hold(key, claims);
    std::vector<net::IpAddress> addresses;
    if (!claims.empty()) addresses = NodeAddresses(Eligible(key, service), FamiliesOf(service));
    TRY(SetAddresses(services_.Find(key), addresses));
    return {};
  }

  // The nodes that may take the Service's traffic.
  NodeList Eligible(const std::string& key, const Service& service) const {
    NodeList nodes = nodes_.All();
    std::erase_if(nodes, [](const auto& node) { return !TakesExternalTraffic(*node); });
    if (!OnlyNodesWithEndpoints(service)) return nodes;
    std::set<std::string> serving;
    for (const SlicePtr& slice : slices_.ByIndex(slices_by_service_, key)) {
      for (const auto& endpoint : slice->endpoints()) {
        if (!endpoint.conditions().has_ready() || endpoint.conditions().ready()) {
          serving.insert(endpoint.node_name());
        }
      }
    }
    std::erase_if(nodes,
                  [&](const auto& node) { return !serving.contains(node->metadata().name()); });
    return nodes;
  }

  // The Service as it is then.
  Result<ServicePtr> SetAddresses(const ServicePtr& service,
                                  const std::vector<net::IpAddress>& addresses) {
    if (BalancerAddressesOf(*service) == addresses) return service;
    Service changed = *service;
    auto& balancer = *changed.mutable_status()->mutable_load_balancer();
    balancer.clear_ingress();
    std::string shown;
    for (const net::IpAddress& address : addresses) {
      auto& ingress = *balancer.add_ingress();
      ingress.set_ip(address.ToString());
      ingress.set_ip_mode("VIP");
      shown += (shown.empty() ? "" : ", ") + address.ToString();
    }
    ServicePtr stored = TRY(client_.UpdateStatus(changed));
    services_.Assume(stored);
    if (!addresses.empty()) events_.Normal(*stored, "IPAllocated", "Assigned " + shown);
    return stored;
  }

  const LoadBalancerPool pool_;
  EventRecorder events_;
  Informer<Service> services_;
  Informer<Node> nodes_;
  Informer<EndpointSlice> slices_;
  int slices_by_service_ = 0;
  Holdings holdings_;
};

}  // namespace

std::shared_ptr<Controller> MakeLoadBalancerController(Client& client, Executor& executor,
                                                       LoadBalancerPool pool) {
  return std::make_shared<LoadBalancerController>(client, executor, std::move(pool));
}

}  // namespace skiff::cp

#include "control-plane/controllers/endpoints_controllers.h"

#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "control-plane/controllers/endpoint_plan.h"
#include "control-plane/controllers/framework/event_recorder.h"
#include "control-plane/controllers/framework/namespaces.h"
#include "control-plane/controllers/framework/objects.h"
#include "proto/codec/selector.h"
#include "proto/k8s/core/v1/node.pb.h"
#include "proto/k8s/core/v1/pod.pb.h"
#include "proto/k8s/core/v1/service.pb.h"
#include "proto/k8s/discovery/v1/discovery.pb.h"

namespace skiff::cp {
namespace {

using k8s::core::v1::Endpoints;
using k8s::core::v1::Node;
using k8s::core::v1::Pod;
using k8s::core::v1::Service;
using k8s::discovery::v1::EndpointSlice;

constexpr char kZoneLabel[] = "topology.kubernetes.io/zone";

// What both have in common: a Service is looked at again when it or one of its pods changes.
class ServiceController : public Controller {
 protected:
  ServiceController(std::string name, Client& client, Executor& executor)
      : Controller(std::move(name), client, executor),
        services_(client, strand_),
        pods_(client, strand_) {
    services_by_namespace_ = services_.AddIndex(
        [](const Service& service) { return std::vector{service.metadata().namespace_()}; });
    pods_by_namespace_ =
        pods_.AddIndex([](const Pod& pod) { return std::vector{pod.metadata().namespace_()}; });
    Observe<Service>(services_, [this](const ServicePtr& before, const ServicePtr& now) {
      queue_.Add(KeyOf((now ? now : before)->metadata()));
    });
    Observe<Pod>(pods_, [this](const PodPtr& before, const PodPtr& now) {
      if (before) AddServices(*before);
      if (now) AddServices(*now);
    });
  }

  std::vector<PodPtr> PodsOf(const Service& service) const {
    codec::LabelSelector selector = codec::LabelSelector::FromSet(service.spec().selector());
    std::vector<PodPtr> pods = pods_.ByIndex(pods_by_namespace_, service.metadata().namespace_());
    std::erase_if(pods,
                  [&](const PodPtr& pod) { return !selector.Matches(pod->metadata().labels()); });
    return pods;
  }

  // The Services that select the pod are looked at again.
  void AddServices(const Pod& pod) {
    for (const ServicePtr& service :
         services_.ByIndex(services_by_namespace_, pod.metadata().namespace_())) {
      if (HasManagedEndpoints(*service) && codec::LabelSelector::FromSet(service->spec().selector())
                                               .Matches(pod.metadata().labels())) {
        queue_.Add(KeyOf(service->metadata()));
      }
    }
  }

  Informer<Service> services_;
  Informer<Pod> pods_;

 private:
  int services_by_namespace_ = 0;
  int pods_by_namespace_ = 0;
};

class EndpointSliceController : public ServiceController {
 public:
  EndpointSliceController(Client& client, Executor& executor)
      : ServiceController("endpointslice", client, executor),
        events_(client, executor, "endpoint-slice-controller"),
        slices_(client, strand_),
        nodes_(client, strand_) {
    slices_by_service_ =
        slices_.AddIndex([](const EndpointSlice& slice) { return std::vector{ServiceKey(slice)}; });
    Observe<EndpointSlice>(slices_, [this](const SlicePtr& before, const SlicePtr& now) {
      if (before) AddService(*before);
      if (now) AddService(*now);
      if (!now) deleted_.erase(before->metadata().uid());
    });
    pods_by_node_ = pods_.AddIndex([](const Pod& pod) {
      return pod.spec().node_name().empty() ? std::vector<std::string>()
                                            : std::vector{pod.spec().node_name()};
    });
    Observe<Node>(nodes_, [this](const auto& before, const auto& now) {
      if (TopologyOfNode(before.get()) != TopologyOfNode(now.get())) MeasureZones();
      if (ZoneOfNode(before.get()) == ZoneOfNode(now.get())) return;
      const std::string& name = (now ? now : before)->metadata().name();
      for (const PodPtr& pod : pods_.ByIndex(pods_by_node_, name)) AddServices(*pod);
    });
  }

 protected:
  Result<> Sync(const std::string& key) override {
    ServicePtr service = services_.Find(key);
    // Without the Service its slices go by their owner reference.
    if (!service || !HasManagedEndpoints(*service) || IsBeingDeleted(service->metadata())) {
      told_hints_.erase(key);
      return {};
    }
    std::vector<SlicePtr> existing = slices_.ByIndex(slices_by_service_, key);
    std::erase_if(existing, [this](const SlicePtr& slice) {
      return deleted_.contains(slice->metadata().uid());
    });
    SliceChanges changes = PlanSlices(
        *service, PodsOf(*service),
        [this](const std::string& node) { return ZoneOfNode(nodes_.Find(node).get()); }, zone_cpu_,
        existing);
    Result<> result = Apply(changes);
    if (result.ok()) TellHints(*service, key, changes.no_hints);
    if (!result.ok() && result.error().code() != Code::kConflict) {
      events_.Warning(
          *service, "FailedToUpdateEndpointSlices",
          "Error updating Endpoint Slices for Service " + key + ": " + result.error().message());
    }
    return result;
  }

 private:
  // "" for slices that are not ours.
  static std::string ServiceKey(const EndpointSlice& slice) {
    const auto& labels = slice.metadata().labels();
    auto manager = labels.find(kManagedByLabel);
    auto service = labels.find(kServiceNameLabel);
    if (manager == labels.end() || manager->second != kSliceManager || service == labels.end()) {
      return {};
    }
    return JoinKey(slice.metadata().namespace_(), service->second);
  }

  void AddService(const EndpointSlice& slice) {
    std::string key = ServiceKey(slice);
    if (!key.empty()) queue_.Add(key);
  }

  // "" for none.
  static std::string ZoneOfNode(const Node* node) {
    if (node == nullptr) return {};
    auto zone = node->metadata().labels().find(kZoneLabel);
    return zone == node->metadata().labels().end() ? std::string() : zone->second;
  }

  static NodeTopology TopologyOfNode(const Node* node) {
    return node == nullptr ? NodeTopology() : TopologyOf(*node);
  }

  // Services that are shared out by the zones' CPU are looked at again when that changes.
  void MeasureZones() {
    std::vector<NodeTopology> nodes;
    for (const auto& node : nodes_.All()) nodes.push_back(TopologyOf(*node));
    if (std::exchange(zone_cpu_, CpuByZone(nodes)) == CpuByZone(nodes)) return;
    for (const ServicePtr& service : services_.All()) {
      if (WantsTopologyHints(*service)) queue_.Add(KeyOf(service->metadata()));
    }
  }

  // Once when it is so, and when it changes.
  void TellHints(const Service& service, const std::string& key, const std::string& no_hints) {
    if (!WantsTopologyHints(service)) {
      told_hints_.erase(key);
      return;
    }
    auto [told, fresh] = told_hints_.try_emplace(key);
    if (!fresh && told->second == no_hints) return;
    told->second = no_hints;
    if (no_hints.empty()) {
      events_.Normal(service, "TopologyAwareHintsEnabled", "Topology Aware Hints has been enabled");
    } else {
      events_.Warning(service, "TopologyAwareHintsDisabled", no_hints);
    }
  }

  Result<> Apply(const SliceChanges& changes) {
    for (const EndpointSlice& slice : changes.create) slices_.Assume(TRY(client_.Create(slice)));
    for (const EndpointSlice& slice : changes.update) slices_.Assume(TRY(client_.Update(slice)));
    for (const SlicePtr& slice : changes.remove) {
      const auto& meta = slice->metadata();
      auto removed =
          client_.Delete<EndpointSlice>(meta.namespace_(), meta.name(), {.uid = meta.uid()});
      if (!removed.ok() && removed.error().code() != Code::kNotFound) return removed.error();
      deleted_.insert(meta.uid());
    }
    return {};
  }

  EventRecorder events_;
  Informer<EndpointSlice> slices_;
  Informer<Node> nodes_;
  int slices_by_service_ = 0;
  int pods_by_node_ = 0;
  std::unordered_set<std::string> deleted_;  // by uid, until the cache shows it
  ZoneCpu zone_cpu_;
  std::unordered_map<std::string, std::string> told_hints_;  // by Service: why it has none
};

class EndpointsController : public ServiceController {
 public:
  EndpointsController(Client& client, Executor& executor)
      : ServiceController("endpoints", client, executor),
        events_(client, executor, "endpoint-controller"),
        endpoints_(client, strand_) {
    // Not if there is no Service: somebody may be about to make one without a selector.
    Observe<Endpoints>(endpoints_, [this](const auto& before, const auto& now) {
      std::string key = KeyOf((now ? now : before)->metadata());
      if (services_.Find(key)) queue_.Add(key);
    });
  }

 protected:
  // Some may be left over from Services that went while nobody watched.
  void OnReady() override {
    for (const auto& endpoints : endpoints_.All()) queue_.Add(KeyOf(endpoints->metadata()));
  }

  Result<> Sync(const std::string& key) override {
    std::shared_ptr<const Endpoints> existing = endpoints_.Find(key);
    ServicePtr service = services_.Find(key);
    if (!service) return existing ? Remove(*existing) : Result<>();
    if (!HasManagedEndpoints(*service) || IsBeingDeleted(service->metadata())) return {};
    Endpoints wanted = PlanEndpoints(*service, PodsOf(*service), existing.get());
    if (existing && Equal(wanted, *existing)) return {};
    auto stored = existing ? client_.Update(wanted) : client_.Create(wanted);
    if (!stored.ok()) {
      if (RefusedByEndingNamespace(client_, SplitKey(key).ns, stored.error())) return {};
      if (stored.error().code() != Code::kConflict) {
        events_.Warning(*service, existing ? "FailedToUpdateEndpoint" : "FailedToCreateEndpoint",
                        std::string("Failed to ") + (existing ? "update" : "create") +
                            " endpoint " + key + ": " + stored.error().message());
      }
      return stored.error();
    }
    endpoints_.Assume(*stored);
    return {};
  }

 private:
  // They have no owner reference: their name is what ties them to the Service.
  Result<> Remove(const Endpoints& endpoints) {
    const auto& meta = endpoints.metadata();
    if (meta.annotations().contains("control-plane.alpha.kubernetes.io/leader")) return {};
    auto removed = client_.Delete<Endpoints>(meta.namespace_(), meta.name(), {.uid = meta.uid()});
    if (!removed.ok() && removed.error().code() != Code::kNotFound) return removed.error();
    return {};
  }

  EventRecorder events_;
  Informer<Endpoints> endpoints_;
};

}  // namespace

std::shared_ptr<Controller> MakeEndpointSliceController(Client& client, Executor& executor) {
  return std::make_shared<EndpointSliceController>(client, executor);
}

std::shared_ptr<Controller> MakeEndpointsController(Client& client, Executor& executor) {
  return std::make_shared<EndpointsController>(client, executor);
}

}  // namespace skiff::cp

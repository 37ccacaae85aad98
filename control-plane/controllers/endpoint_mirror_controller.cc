#include "control-plane/controllers/endpoint_mirror_controller.h"

#include <algorithm>
#include <unordered_set>

#include "control-plane/controllers/endpoint_plan.h"
#include "control-plane/controllers/framework/namespaces.h"
#include "control-plane/controllers/framework/objects.h"
#include "proto/k8s/core/v1/service.pb.h"
#include "proto/k8s/discovery/v1/discovery.pb.h"

namespace skiff::cp {
namespace {

using k8s::core::v1::EndpointAddress;
using k8s::core::v1::Endpoints;
using k8s::core::v1::EndpointSubset;
using k8s::core::v1::Service;
using k8s::discovery::v1::EndpointSlice;

constexpr char kMirrorManager[] = "endpointslicemirroring-controller.k8s.io";
constexpr char kSkipMirror[] = "endpointslice.kubernetes.io/skip-mirror";
constexpr char kLeader[] = "control-plane.alpha.kubernetes.io/leader";
constexpr int kMaxAddresses = 1000;  // of one subset, as upstream

bool IsMirrored(const Endpoints& endpoints) {
  auto skip = endpoints.metadata().labels().find(kSkipMirror);
  return (skip == endpoints.metadata().labels().end() || skip->second != "true") &&
         !endpoints.metadata().annotations().contains(kLeader) &&
         !IsBeingDeleted(endpoints.metadata());
}

void AddAddress(const EndpointAddress& address, bool ready, const char* type,
                EndpointSlice* slice) {
  const bool v6 = address.ip().find(':') != std::string::npos;
  if (v6 != (type == std::string_view("IPv6")) || slice->endpoints_size() >= kMaxAddresses) return;
  auto* endpoint = slice->add_endpoints();
  endpoint->add_addresses(address.ip());
  endpoint->mutable_conditions()->set_ready(ready);
  if (!address.hostname().empty()) endpoint->set_hostname(address.hostname());
  if (!address.node_name().empty()) endpoint->set_node_name(address.node_name());
  if (address.has_target_ref()) *endpoint->mutable_target_ref() = address.target_ref();
}

// A slice without a name for each subset and address family that has addresses.
std::vector<EndpointSlice> Mirrors(const Endpoints& endpoints) {
  std::vector<EndpointSlice> slices;
  for (const EndpointSubset& subset : endpoints.subsets()) {
    for (const char* type : {"IPv4", "IPv6"}) {
      EndpointSlice slice;
      slice.set_address_type(type);
      for (const auto& address : subset.addresses()) AddAddress(address, true, type, &slice);
      for (const auto& address : subset.not_ready_addresses()) {
        AddAddress(address, false, type, &slice);
      }
      for (const auto& port : subset.ports()) {
        auto* added = slice.add_ports();
        added->set_name(port.name());
        added->set_protocol(port.protocol().empty() ? "TCP" : port.protocol());
        added->set_port(port.port());
        if (!port.app_protocol().empty()) added->set_app_protocol(port.app_protocol());
      }
      if (!slice.endpoints().empty()) slices.push_back(std::move(slice));
    }
  }
  return slices;
}

class EndpointMirrorController : public Controller {
 public:
  EndpointMirrorController(Client& client, Executor& executor)
      : Controller("endpoint-mirror", client, executor),
        endpoints_(client, strand_),
        services_(client, strand_),
        slices_(client, strand_) {
    slices_by_service_ =
        slices_.AddIndex([](const EndpointSlice& slice) { return std::vector{KeyOfSlice(slice)}; });
    Observe<Endpoints>(endpoints_, [this](const auto& before, const auto& now) {
      queue_.Add(KeyOf((now ? now : before)->metadata()));
    });
    Observe<Service>(services_, [this](const auto& before, const auto& now) {
      queue_.Add(KeyOf((now ? now : before)->metadata()));
    });
    Observe<EndpointSlice>(slices_, [this](const SlicePtr& before, const SlicePtr& now) {
      if (!now) deleted_.erase(before->metadata().uid());
      std::string key = KeyOfSlice(now ? *now : *before);
      if (!key.empty()) queue_.Add(key);
    });
  }

 protected:
  Result<> Sync(const std::string& key) override {
    std::vector<SlicePtr> existing = slices_.ByIndex(slices_by_service_, key);
    std::erase_if(existing, [this](const SlicePtr& slice) {
      return deleted_.contains(slice->metadata().uid());
    });
    auto endpoints = endpoints_.Find(key);
    auto service = services_.Find(key);
    // With a selector the slices come from the pods.
    const bool mirrored = endpoints && service && service->spec().selector().empty() &&
                          !IsBeingDeleted(service->metadata()) && IsMirrored(*endpoints);
    if (mirrored) {
      for (EndpointSlice& wanted : Mirrors(*endpoints)) {
        Result<> stored = Store(*endpoints, std::move(wanted), &existing);
        if (stored.ok()) continue;
        if (RefusedByEndingNamespace(client_, SplitKey(key).ns, stored.error())) return {};
        return stored;
      }
    }
    for (const SlicePtr& slice : existing) TRY(Remove(*slice));
    return {};
  }

 private:
  // "" for slices that are not mirrors.
  static std::string KeyOfSlice(const EndpointSlice& slice) {
    const auto& labels = slice.metadata().labels();
    auto manager = labels.find(kManagedByLabel);
    auto service = labels.find(kServiceNameLabel);
    if (manager == labels.end() || manager->second != kMirrorManager || service == labels.end()) {
      return {};
    }
    return JoinKey(slice.metadata().namespace_(), service->second);
  }

  // Into one of the existing slices of the same family, which is then taken out of them.
  Result<> Store(const Endpoints& endpoints, EndpointSlice wanted,
                 std::vector<SlicePtr>* existing) {
    auto same = std::ranges::find_if(*existing, [&wanted](const SlicePtr& slice) {
      return slice->address_type() == wanted.address_type();
    });
    SlicePtr before;
    if (same != existing->end()) {
      before = *same;
      existing->erase(same);
      *wanted.mutable_metadata() = before->metadata();
    } else {
      wanted.mutable_metadata()->set_generate_name(endpoints.metadata().name() + "-");
      wanted.mutable_metadata()->set_namespace_(endpoints.metadata().namespace_());
      *wanted.mutable_metadata()->add_owner_references() = ControllerReference(endpoints);
    }
    auto& labels = *wanted.mutable_metadata()->mutable_labels();
    labels = endpoints.metadata().labels();
    labels[kServiceNameLabel] = endpoints.metadata().name();
    labels[kManagedByLabel] = kMirrorManager;
    if (before && Equal(wanted, *before)) return {};
    slices_.Assume(TRY(before ? client_.Update(wanted) : client_.Create(wanted)));
    return {};
  }

  Result<> Remove(const EndpointSlice& slice) {
    const auto& meta = slice.metadata();
    auto removed =
        client_.Delete<EndpointSlice>(meta.namespace_(), meta.name(), {.uid = meta.uid()});
    if (!removed.ok() && removed.error().code() != Code::kNotFound) return removed.error();
    deleted_.insert(meta.uid());
    return {};
  }

  Informer<Endpoints> endpoints_;
  Informer<Service> services_;
  Informer<EndpointSlice> slices_;
  int slices_by_service_ = 0;
  std::unordered_set<std::string> deleted_;  // by uid, until the cache shows it
};

}  // namespace

std::shared_ptr<Controller> MakeEndpointMirrorController(Client& client, Executor& executor) {
  return std::make_shared<EndpointMirrorController>(client, executor);
}

}  // namespace skiff::cp

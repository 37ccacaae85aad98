#include "control-plane/controllers/service_conflicts_controller.h"

#include <algorithm>
#include <string>
#include <utility>

#include "control-plane/controllers/framework/event_recorder.h"
#include "control-plane/controllers/framework/objects.h"
#include "proto/k8s/core/v1/service.pb.h"

namespace skiff::cp {
namespace {

using k8s::core::v1::Service;

std::vector<std::string> ClusterAddressesOf(const Service& service) {
  const auto& spec = service.spec();
  std::vector<std::string> addresses(spec.cluster_ips().begin(), spec.cluster_ips().end());
  if (addresses.empty()) addresses.push_back(spec.cluster_ip());
  std::erase_if(addresses, [](const std::string& text) { return text.empty() || text == "None"; });
  return addresses;
}

// Of every port that the node listens on for the Service, whatever the protocol.
std::vector<std::string> NodePortsOf(const Service& service) {
  std::vector<std::string> ports;
  for (const auto& port : service.spec().ports()) {
    if (port.node_port() == 0) continue;
    std::string text = std::to_string(port.node_port());
    if (std::ranges::find(ports, text) == ports.end()) ports.push_back(std::move(text));
  }
  if (service.spec().health_check_node_port() != 0) {
    ports.push_back(std::to_string(service.spec().health_check_node_port()));
  }
  return ports;
}

// The older of two keeps what both have.
bool IsOlder(const Service& a, const Service& b) {
  auto age = [](const Service& service) {
    return std::pair(service.metadata().creation_timestamp().seconds(), KeyOf(service.metadata()));
  };
  return age(a) < age(b);
}

class ServiceConflictsController : public Controller {
 public:
  ServiceConflictsController(Client& client, Executor& executor, std::vector<net::IpPrefix> ranges)
      : Controller("service-conflicts", client, executor),
        ranges_(std::move(ranges)),
        events_(client, executor, "service-conflicts-controller"),
        services_(client, strand_) {
    // Addresses and ports cannot be taken for each other.
    by_holding_ = services_.AddIndex([](const Service& service) {
      std::vector<std::string> holdings = ClusterAddressesOf(service);
      std::ranges::copy(NodePortsOf(service), std::back_inserter(holdings));
      return holdings;
    });
    Observe<Service>(services_, [this](const std::shared_ptr<const Service>& before,
                                       const std::shared_ptr<const Service>& now) {
      if (now && (!before || !Equal(before->spec(), now->spec()))) {
        queue_.Add(KeyOf(now->metadata()));
      }
    });
  }

 protected:
  Result<> Sync(const std::string& key) override {
    std::shared_ptr<const Service> service = services_.Find(key);
    if (!service) return {};
    for (const std::string& text : ClusterAddressesOf(*service)) {
      auto address = net::IpAddress::Parse(text);
      if (!address.ok()) continue;  // no API server lets it through
      const std::string shown =
          "Cluster IP [" + std::string(net::FamilyName(address->family())) + "]: " + text;
      if (HasOlderHolder(*service, text)) {
        events_.Warning(*service, "ClusterIPAlreadyAllocated",
                        shown + " was assigned to multiple services; please recreate service");
      }
      if (!IsInRange(*address)) {
        events_.Warning(*service, "ClusterIPOutOfRange",
                        shown +
                            " is not within any configured Service CIDR; please recreate "
                            "service");
      }
    }
    for (const std::string& port : NodePortsOf(*service)) {
      if (!HasOlderHolder(*service, port)) continue;
      events_.Warning(
          *service, "PortAlreadyAllocated",
          "Port " + port + " was assigned to multiple services; please recreate service");
    }
    return {};
  }

 private:
  bool HasOlderHolder(const Service& service, const std::string& holding) const {
    return std::ranges::any_of(services_.ByIndex(by_holding_, holding), [&](const auto& other) {
      return other->metadata().uid() != service.metadata().uid() && IsOlder(*other, service);
    });
  }
  bool IsInRange(const net::IpAddress& address) const {
    return ranges_.empty() || std::ranges::any_of(ranges_, [&](const net::IpPrefix& range) {
             return range.Contains(address);
           });
  }

  const std::vector<net::IpPrefix> ranges_;
  EventRecorder events_;
  Informer<Service> services_;
  int by_holding_ = 0;
};

}  // namespace

std::shared_ptr<Controller> MakeServiceConflictsController(Client& client, Executor& executor,
                                                           std::vector<net::IpPrefix> ranges) {
  return std::make_shared<ServiceConflictsController>(client, executor, std::move(ranges));
}

}  // namespace skiff::cp

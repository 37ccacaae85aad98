// ServiceAllocator: gives Services their cluster addresses, node ports and health check ports.
//
// Each address and port taken is a key of its own in the store, written and removed in the same
// transaction as its Service; so two Services never hold the same one, whoever crashes when. At
// start the records are compared with the Services and repaired.
#pragma once

#include <cstdint>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "base/net/ip.h"
#include "base/result.h"
#include "control-plane/api/field_errors.h"
#include "control-plane/store/store.h"

namespace k8s::core::v1 {
class Service;
class ServiceSpec;
}  // namespace k8s::core::v1

namespace skiff::cp {

struct ServiceRanges {
  // One network, or one of each family; the first one's family is Services' default.
  std::vector<std::string> cluster_ips = {"10.96.0.0/16"};
  int first_node_port = 30000;
  int last_node_port = 32767;
};

// Thread-safe.
class ServiceAllocator {
 public:
  // InvalidArgument: a range that is none.
  static Result<std::unique_ptr<ServiceAllocator>> Open(Store& store, ServiceRanges ranges);

  // What a change of a Service takes and gives back. The ops and compares belong into the
  // Service's own transaction; then Commit, or the destructor undoes the reservations.
  class Plan {
   public:
    Plan() = default;
    Plan(Plan&& other) noexcept;
    Plan& operator=(Plan&& other) noexcept;
    ~Plan();
    void AddTo(TxnRequest& txn) const;
    // The transaction has succeeded.
    void Commit();

   private:
    friend class ServiceAllocator;
    void Abort();
    ServiceAllocator* allocator_ = nullptr;
    std::string owner_;  // "ns/name"
    std::vector<std::string> taken_keys_;
    std::vector<std::string> freed_keys_;
  };

  // Fill in what the Service leaves open; what it asks for and cannot have goes to errors. old:
  // the Service before, null on create.
  Plan Allocate(k8s::core::v1::Service* service, const k8s::core::v1::Service* old,
                FieldErrors& errors);
  // The Service goes.
  Plan Release(const k8s::core::v1::Service& service);

  // Makes the records agree with the Services that exist: adds missing ones, drops strays.
  Result<void> Repair(const std::vector<const k8s::core::v1::Service*>& services);

  // The first address of the first range: the kubernetes Service.
  std::string FirstAddress() const;

 private:
  ServiceAllocator(Store& store, ServiceRanges ranges, std::vector<net::IpPrefix> networks)
      : store_(store), ranges_(std::move(ranges)), networks_(std::move(networks)) {}
  void AllocateAddresses(k8s::core::v1::Service* service, const std::set<std::string>& own,
                         Plan& plan, FieldErrors& errors);
  void TakeAddress(const k8s::core::v1::ServiceSpec& spec, int index, const net::IpPrefix* network,
                   const std::set<std::string>& own, Plan& plan, FieldErrors& errors);
  void AllocatePorts(k8s::core::v1::Service* service, const std::set<std::string>& own, Plan& plan,
                     FieldErrors& errors);
  void AllocateHealthCheckPort(k8s::core::v1::Service* service, const std::set<std::string>& own,
                               Plan& plan, FieldErrors& errors);
  // False: the port is out of range or another's, as errors tell.
  bool TakeAskedPort(int wanted, const FieldPath& path, Plan& plan, FieldErrors& errors);
  bool Take(const std::string& key, Plan& plan);
  std::string TakeAnyAddress(const net::IpPrefix& network, Plan& plan);
  int TakeAnyPort(Plan& plan);

  Store& store_;
  const ServiceRanges ranges_;
  const std::vector<net::IpPrefix> networks_;  // of ranges_
  std::mutex mutex_;
  std::set<std::string> taken_;  // keys in the store or about to be
};

}  // namespace skiff::cp

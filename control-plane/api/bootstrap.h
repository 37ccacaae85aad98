// The objects that every cluster has from its first start: the system namespaces, the kubernetes
// Service with its endpoint, and the kube-dns Service.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "control-plane/api/client.h"

namespace skiff::cp {

struct BootstrapOptions {
  std::string service_address;  // of the kubernetes Service
  std::string advertise_address;
  int advertise_port = 6443;
  // Of the kube-dns Service, one a family; empty: none is made. Every node answers at it by itself,
  // so the Service has no endpoints and is left out of service proxying by its label.
  std::vector<std::string> dns_addresses;
};

// Creates what is missing, corrects the endpoint's address, and gives the kube-dns Service the
// address of a family that the cluster has got since, or takes it away. Idempotent.
Result<void> Bootstrap(Client& client, const BootstrapOptions& options);

}  // namespace skiff::cp

// The objects that every cluster has from its first start: the system namespaces, the kubernetes
// Service with its endpoint, and the kube-dns Service.
#pragma once

#include <string>

#include "base/result.h"
#include "control-plane/api/client.h"

namespace skiff::cp {

struct BootstrapOptions {
  std::string service_address;  // of the kubernetes Service
  std::string advertise_address;
  int advertise_port = 6443;
  // Of the kube-dns Service; empty: none is made. Every node answers at it by itself, so the
  // Service has no endpoints and is left out of service proxying by its label.
  std::string dns_address;
};

// Creates what is missing and corrects the endpoint's address. Idempotent.
Result<void> Bootstrap(Client& client, const BootstrapOptions& options);

}  // namespace skiff::cp

// The objects that every cluster has from its first start: the system namespaces and the kubernetes
// Service with its endpoint.
#pragma once

#include <string>

#include "base/result.h"
#include "control-plane/api/client.h"

namespace skiff::cp {

struct BootstrapOptions {
  std::string service_address;  // of the kubernetes Service
  std::string advertise_address;
  int advertise_port = 6443;
};

// Creates what is missing and corrects the endpoint's address. Idempotent.
Result<void> Bootstrap(Client& client, const BootstrapOptions& options);

}  // namespace skiff::cp

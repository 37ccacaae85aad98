// A NetworkPolicy as nodes are told of it, its peers replaced by the names of address sets. Pure.
#pragma once

#include <string>
#include <vector>

#include "control-plane/rpc/address_sets.h"

namespace k8s::networking::v1 {
class NetworkPolicy;
}
namespace skiff::node::v1 {
class NetworkPolicy;
}

namespace skiff::cp {

// Fills the message and gives the sets it names. What the API's validation would refuse (an object
// written by an earlier version) selects nothing, and allows nothing.
std::vector<SetSpec> ToMessage(const k8s::networking::v1::NetworkPolicy& policy,
                               node::v1::NetworkPolicy* message);

}  // namespace skiff::cp

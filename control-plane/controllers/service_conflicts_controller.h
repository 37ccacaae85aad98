// Tells, by Events, of Services whose addresses or node ports cannot all be served: two Services
// that have the same (as a store restored from elsewhere may hold), and addresses outside the
// cluster's ranges (as after a change of serviceCidr). Nothing is changed: clients rely on what
// they know.
#pragma once

#include <memory>
#include <vector>

#include "base/net/ip.h"
#include "control-plane/controllers/framework/controller.h"

namespace skiff::cp {

// ranges: of the Services' addresses; empty: none is out of range.
std::shared_ptr<Controller> MakeServiceConflictsController(Client& client, Executor& executor,
                                                           std::vector<net::IpPrefix> ranges);

}  // namespace skiff::cp

// ControlPlane: the parts of the daemon, started in the order in which they need one another and
// stopped in the reverse order.
#pragma once

#include <memory>

#include "base/result.h"
#include "control-plane/daemon/config.h"

namespace skiff::cp {

class ControlPlane {
 public:
  // Returns when requests are answered.
  static Result<std::unique_ptr<ControlPlane>> Start(const Config& config);
  // Drains and stops.
  virtual ~ControlPlane() = default;
};

}  // namespace skiff::cp

// FakeConntrack: a table of connections in memory, for unit tests.
#pragma once

#include <mutex>
#include <set>
#include <vector>

#include "base/net/conntrack.h"

namespace skiff::net {

class FakeConntrack : public Conntrack {
 public:
  void Add(const Flow& flow) {
    std::lock_guard lock(mutex_);
    flows_.insert(flow);
  }
  std::set<Flow> flows() const {
    std::lock_guard lock(mutex_);
    return flows_;
  }
  // How often the table was listed: listing is what costs.
  int listings() const {
    std::lock_guard lock(mutex_);
    return listings_;
  }

  Result<std::vector<Flow>> List(IpFamily family, uint8_t protocol,
                                 const std::function<bool(const Flow&)>& keep) override {
    std::lock_guard lock(mutex_);
    ++listings_;
    std::vector<Flow> kept;
    for (const Flow& flow : flows_) {
      if (flow.original.source.family() == family && flow.protocol == protocol && keep(flow)) {
        kept.push_back(flow);
      }
    }
    return kept;
  }
  Result<> Delete(const Flow& flow) override {
    std::lock_guard lock(mutex_);
    flows_.erase(flow);
    return {};
  }

 private:
  mutable std::mutex mutex_;
  std::set<Flow> flows_;
  int listings_ = 0;
};

}  // namespace skiff::net

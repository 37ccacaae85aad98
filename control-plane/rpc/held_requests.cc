#include "control-plane/rpc/held_requests.h"

#include <utility>

namespace skiff::cp {

HeldRequests::HeldRequests(Executor& strand, TunnelDesk& desk) : strand_(strand), desk_(desk) {}

void HeldRequests::Hold(const std::string& node, node::v1::TunnelRequest request) {
  const std::string id = request.tunnel_id();
  (*held_)[node].push_back(std::move(request));
  strand_.PostAfter(kGrace, [weak = std::weak_ptr<Held>(held_), &desk = desk_, node, id] {
    auto held = weak.lock();
    if (held == nullptr) return;
    auto found = held->find(node);
    if (found == held->end()) return;
    const size_t gone =
        std::erase_if(found->second, [&](const auto& other) { return other.tunnel_id() == id; });
    if (found->second.empty()) held->erase(found);
    if (gone == 0) return;
    desk.Refuse(
        node, id,
        TunnelAnswer::Refused(503, "ServiceUnavailable", "node \"" + node + "\" is not connected"));
  });
}

std::vector<node::v1::TunnelRequest> HeldRequests::Take(const std::string& node) {
  auto found = held_->extract(node);
  if (found.empty()) return {};
  return std::move(found.mapped());
}

}  // namespace skiff::cp

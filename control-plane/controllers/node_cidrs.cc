#include "control-plane/controllers/node_cidrs.h"

#include <algorithm>
#include <array>

#include "control-plane/controllers/framework/event_recorder.h"
#include "control-plane/controllers/framework/objects.h"
#include "proto/k8s/core/v1/node.pb.h"

namespace skiff::cp {
namespace {

using k8s::core::v1::Node;
using NodePtr = std::shared_ptr<const Node>;

constexpr int kMaxIndexBits = 16;

}  // namespace

Result<CidrAllocator> CidrAllocator::Make(std::string_view network, int part_bits) {
  net::IpPrefix prefix = TRY(net::IpPrefix::Parse(network).With("cluster CIDR"));
  const int index_bits = part_bits - prefix.length();
  if (index_bits < 0 || part_bits > prefix.first().bits()) {
    return Error(Code::kInvalidArgument, "cluster CIDR " + std::string(network) +
                                             " has no parts of length " +
                                             std::to_string(part_bits));
  }
  return CidrAllocator(prefix, part_bits, uint32_t{1} << std::min(index_bits, kMaxIndexBits));
}

// The index stands in the bits just above the part's host bits.
net::IpPrefix CidrAllocator::Part(uint32_t index) const {
  std::array<uint8_t, 16> bytes{};
  std::copy_n(network_.first().bytes(), network_.first().size(), bytes.begin());
  for (int bit = 0; bit < kMaxIndexBits; ++bit) {
    const int position = part_bits_ - 1 - bit;  // from the left
    if ((index >> bit & 1) != 0) {
      bytes[static_cast<size_t>(position / 8)] |= static_cast<uint8_t>(0x80 >> (position % 8));
    }
  }
  return net::IpPrefix::Of(net::IpAddress::FromBytes(family(), bytes.data()), part_bits_);
}

std::optional<uint32_t> CidrAllocator::IndexOf(std::string_view part) const {
  auto prefix = net::IpPrefix::Parse(part);
  if (!prefix.ok() || prefix->length() != part_bits_ || !network_.Contains(*prefix)) {
    return std::nullopt;
  }
  uint32_t index = 0;
  const uint8_t* bytes = prefix->first().bytes();
  for (int position = network_.length(); position < part_bits_; ++position) {
    index = index << 1 | (bytes[position / 8] >> (7 - position % 8) & 1);
  }
  if (index >= count_) return std::nullopt;
  return index;
}

Result<std::string> CidrAllocator::Acquire() {
  if (used_.size() >= count_) {
    return Error(Code::kResourceExhausted, "no pod CIDR is free in " + network_.ToString());
  }
  while (used_.contains(next_)) next_ = (next_ + 1) % count_;
  uint32_t index = next_;
  next_ = (next_ + 1) % count_;
  used_.insert(index);
  return Part(index).ToString();
}

void CidrAllocator::Occupy(std::string_view part) {
  if (auto index = IndexOf(part)) used_.insert(*index);
}

void CidrAllocator::Release(std::string_view part) {
  if (auto index = IndexOf(part)) used_.erase(*index);
}

namespace {

class NodeCidrController : public Controller {
 public:
  NodeCidrController(Client& client, Executor& executor, std::vector<CidrAllocator> allocators)
      : Controller("node-cidr", client, executor),
        events_(client, executor, "cidrAllocator"),
        nodes_(client, strand_),
        allocators_(std::move(allocators)) {
    // Parts that nodes have are occupied before the first one is handed out: the queue begins when
    // the cache is filled.
    Observe<Node>(nodes_, [this](const NodePtr& before, const NodePtr& now) {
      if (now) {
        ForEachPart(*now, &CidrAllocator::Occupy);
        if (LacksPart(*now)) queue_.Add(now->metadata().name());
      } else {
        ForEachPart(*before, &CidrAllocator::Release);
        for (const NodePtr& node : nodes_.All()) {
          if (LacksPart(*node)) queue_.Add(node->metadata().name());
        }
      }
    });
  }

 protected:
  Result<> Sync(const std::string& name) override {
    NodePtr node = nodes_.Find(name);
    if (!node || !LacksPart(*node)) return {};
    Node updated = *node;
    std::vector<std::string> acquired;
    Result<> result = Assign(&updated, &acquired);
    if (result.ok()) {
      auto stored = client_.Update(updated);
      if (stored.ok()) {
        nodes_.Assume(*stored);
        return {};
      }
      result = stored.error();
    }
    for (const std::string& part : acquired) {
      for (CidrAllocator& allocator : allocators_) allocator.Release(part);
    }
    if (result.error().code() == Code::kNotFound) return {};
    if (result.error().code() == Code::kResourceExhausted) {
      events_.Normal(*node, "CIDRNotAvailable",
                     "Node " + name + " status is now: CIDRNotAvailable");
    }
    return result;
  }

 private:
  static bool HasPartOf(const Node& node, const CidrAllocator& allocator) {
    auto same = [&allocator](const std::string& part) {
      auto prefix = net::IpPrefix::Parse(part);
      return prefix.ok() && prefix->family() == allocator.family();
    };
    return same(node.spec().pod_cidr()) || std::ranges::any_of(node.spec().pod_cidrs(), same);
  }

  bool LacksPart(const Node& node) const {
    return std::ranges::any_of(allocators_, [&node](const CidrAllocator& allocator) {
      return !HasPartOf(node, allocator);
    });
  }

  Result<> Assign(Node* node, std::vector<std::string>* acquired) {
    auto* spec = node->mutable_spec();
    if (spec->pod_cidrs().empty() && !spec->pod_cidr().empty()) {
      spec->add_pod_cidrs(spec->pod_cidr());
    }
    for (CidrAllocator& allocator : allocators_) {
      if (HasPartOf(*node, allocator)) continue;
      acquired->push_back(TRY(allocator.Acquire()));
      spec->add_pod_cidrs(acquired->back());
    }
    spec->set_pod_cidr(spec->pod_cidrs(0));
    return {};
  }

  void ForEachPart(const Node& node, void (CidrAllocator::*action)(std::string_view)) {
    for (CidrAllocator& allocator : allocators_) {
      for (const std::string& part : node.spec().pod_cidrs()) (allocator.*action)(part);
      (allocator.*action)(node.spec().pod_cidr());
    }
  }

  EventRecorder events_;
  Informer<Node> nodes_;
  std::vector<CidrAllocator> allocators_;
};

}  // namespace

std::shared_ptr<Controller> MakeNodeCidrController(Client& client, Executor& executor,
                                                   std::vector<CidrAllocator> allocators) {
  return std::make_shared<NodeCidrController>(client, executor, std::move(allocators));
}

}  // namespace skiff::cp

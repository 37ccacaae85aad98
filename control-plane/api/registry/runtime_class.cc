#include "control-plane/api/registry/runtime_class.h"

#include <algorithm>
#include <tuple>
#include <vector>

#include "proto/codec/quantity.h"
#include "proto/k8s/core/v1/pod.pb.h"
#include "proto/k8s/node/v1/node.pb.h"

namespace skiff::cp {
namespace {

using ::k8s::core::v1::Pod;
using ::k8s::core::v1::Toleration;
using ::k8s::node::v1::RuntimeClass;
using OverheadMap = google::protobuf::Map<std::string, ::k8s::resource::Quantity>;

constexpr const char* kOtherOverhead =
    "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead";

bool SameAmounts(const OverheadMap& a, const OverheadMap& b) {
  return a.size() == b.size() && std::all_of(a.begin(), a.end(), [&b](const auto& entry) {
           auto other = b.find(entry.first);
           return other != b.end() &&
                  codec::Quantity::From(other->second) == codec::Quantity::From(entry.second);
         });
}

bool IsSame(const Toleration& a, const Toleration& b) {
  auto fields = [](const Toleration& t) {
    return std::tuple(t.key(), t.operator_(), t.value(), t.effect(), t.has_toleration_seconds(),
                      t.toleration_seconds());
  };
  return fields(a) == fields(b);
}

// Whether `wide` tolerates all that `narrow` does.
bool Covers(const Toleration& wide, const Toleration& narrow) {
  if (IsSame(wide, narrow)) return true;
  const bool exists = wide.operator_() == "Exists";
  if (wide.key() != narrow.key() && !(wide.key().empty() && exists)) return false;
  if (!wide.effect().empty() && wide.effect() != narrow.effect()) return false;
  if (wide.effect() == "NoExecute" && wide.has_toleration_seconds() &&
      (!narrow.has_toleration_seconds() ||
       narrow.toleration_seconds() > wide.toleration_seconds())) {
    return false;
  }
  return exists || (narrow.operator_() != "Exists" && wide.value() == narrow.value());
}

// The pod's own first; of two of which one covers the other, that one alone.
void MergeTolerations(const google::protobuf::RepeatedPtrField<Toleration>& more, Pod* pod) {
  auto& own = *pod->mutable_spec()->mutable_tolerations();
  std::vector<Toleration> all(own.begin(), own.end());
  all.insert(all.end(), more.begin(), more.end());
  std::vector<Toleration> merged;
  for (size_t i = 0; i < all.size(); ++i) {
    const Toleration& next = all[i];
    const bool covered = std::any_of(merged.begin(), merged.end(),
                                     [&](const Toleration& kept) { return Covers(kept, next); }) ||
                         std::any_of(all.begin() + static_cast<ptrdiff_t>(i) + 1, all.end(),
                                     [&](const Toleration& later) {
                                       return !IsSame(later, next) && Covers(later, next);
                                     });
    if (!covered) merged.push_back(next);
  }
  own.Clear();
  own.Add(merged.begin(), merged.end());
}

}  // namespace

std::string ApplyRuntimeClass(const RuntimeClass& runtime_class, Pod* pod) {
  auto& spec = *pod->mutable_spec();
  if (runtime_class.has_overhead()) {
    const OverheadMap& overhead = runtime_class.overhead().pod_fixed();
    if (!spec.overhead().empty() && !SameAmounts(overhead, spec.overhead())) return kOtherOverhead;
    *spec.mutable_overhead() = overhead;
  }
  if (!runtime_class.has_scheduling()) return {};
  auto& selector = *spec.mutable_node_selector();
  for (const auto& [key, value] : runtime_class.scheduling().node_selector()) {
    auto own = selector.find(key);
    if (own != selector.end() && own->second != value) {
      return "conflict: runtimeClass.scheduling.nodeSelector[" + key + "] = " + value +
             "; pod.spec.nodeSelector[" + key + "] = " + own->second;
    }
    selector[key] = value;
  }
  MergeTolerations(runtime_class.scheduling().tolerations(), pod);
  return {};
}

std::string CheckOverhead(const RuntimeClass* runtime_class, const Pod& pod) {
  if (pod.spec().overhead().empty()) return {};
  if (runtime_class == nullptr || !runtime_class->has_overhead()) {
    return "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead";
  }
  if (SameAmounts(runtime_class->overhead().pod_fixed(), pod.spec().overhead())) return {};
  return kOtherOverhead;
}

}  // namespace skiff::cp

// PodTerms: a pod's affinity to other pods and its aversions, read once into what is compared.
// Pure.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "proto/codec/selector.h"
#include "proto/k8s/fwd.h"

namespace skiff::cp {

// The labels of a namespace; null when there is no such namespace.
using NamespaceLabels = std::function<const codec::LabelMap*(const std::string& ns)>;

// A selector, narrowed by the values that the pod's own labels have under some keys: matchLabelKeys
// and mismatchLabelKeys. An absent selector (null) matches nothing.
codec::LabelSelector NarrowedSelector(const k8s::meta::v1::LabelSelector* selector,
                                      const std::vector<std::string>& match,
                                      const std::vector<std::string>& mismatch,
                                      const codec::LabelMap& own);

struct PodTerm {
  codec::LabelSelector selector;
  std::set<std::string> namespaces;
  std::optional<codec::LabelSelector> namespace_selector;
  std::string topology_key;
  int64_t weight = 0;  // of a preference

  bool Matches(const k8s::core::v1::Pod& other, const NamespaceLabels& labels_of) const;
};

struct PodTerms {
  std::vector<PodTerm> required;
  std::vector<PodTerm> preferred;
  std::vector<PodTerm> anti_required;
  std::vector<PodTerm> anti_preferred;
};

// Null when the pod says nothing of other pods.
std::shared_ptr<const PodTerms> PodTermsOf(const k8s::core::v1::Pod& pod);

}  // namespace skiff::cp

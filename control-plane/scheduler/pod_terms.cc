#include "control-plane/scheduler/pod_terms.h"

#include "proto/k8s/core/v1/placement.pb.h"
#include "proto/k8s/core/v1/pod.pb.h"
#include "proto/k8s/meta/v1/object.pb.h"

namespace skiff::cp {
namespace {

using k8s::core::v1::Pod;
using k8s::core::v1::PodAffinityTerm;

// What does not parse, validation has refused: it matches nothing.
codec::LabelSelector Parsed(const k8s::meta::v1::LabelSelector& message) {
  auto selector = codec::LabelSelector::From(message);
  return selector.ok() ? std::move(*selector) : codec::LabelSelector::Nothing();
}

PodTerm Read(const PodAffinityTerm& term, const Pod& pod, int64_t weight) {
  PodTerm read;
  read.selector =
      NarrowedSelector(term.has_label_selector() ? &term.label_selector() : nullptr,
                       {term.match_label_keys().begin(), term.match_label_keys().end()},
                       {term.mismatch_label_keys().begin(), term.mismatch_label_keys().end()},
                       pod.metadata().labels());
  read.namespaces.insert(term.namespaces().begin(), term.namespaces().end());
  if (term.has_namespace_selector()) {
    read.namespace_selector = Parsed(term.namespace_selector());
  } else if (term.namespaces().empty()) {
    read.namespaces.insert(pod.metadata().namespace_());
  }
  read.topology_key = term.topology_key();
  read.weight = weight;
  return read;
}

template <class Affinity>
void ReadAll(const Affinity& affinity, const Pod& pod, std::vector<PodTerm>* required,
             std::vector<PodTerm>* preferred) {
  for (const auto& term : affinity.required_during_scheduling_ignored_during_execution()) {
    required->push_back(Read(term, pod, 0));
  }
  for (const auto& weighted : affinity.preferred_during_scheduling_ignored_during_execution()) {
    preferred->push_back(Read(weighted.pod_affinity_term(), pod, weighted.weight()));
  }
}

}  // namespace

codec::LabelSelector NarrowedSelector(const k8s::meta::v1::LabelSelector* selector,
                                      const std::vector<std::string>& match,
                                      const std::vector<std::string>& mismatch,
                                      const codec::LabelMap& own) {
  if (selector == nullptr) return codec::LabelSelector::Nothing();
  k8s::meta::v1::LabelSelector narrowed = *selector;
  auto add = [&](const std::vector<std::string>& keys, const char* op) {
    for (const std::string& key : keys) {
      auto found = own.find(key);
      if (found == own.end()) continue;
      auto* expression = narrowed.add_match_expressions();
      expression->set_key(key);
      expression->set_operator_(op);
      expression->add_values(found->second);
    }
  };
  add(match, "In");
  add(mismatch, "NotIn");
  return Parsed(narrowed);
}

bool PodTerm::Matches(const Pod& other, const NamespaceLabels& labels_of) const {
  if (!selector.Matches(other.metadata().labels())) return false;
  const std::string& ns = other.metadata().namespace_();
  if (namespaces.contains(ns)) return true;
  if (!namespace_selector) return false;
  if (namespace_selector->MatchesEverything()) return true;
  const codec::LabelMap* labels = labels_of(ns);
  return labels != nullptr && namespace_selector->Matches(*labels);
}

std::shared_ptr<const PodTerms> PodTermsOf(const Pod& pod) {
  const auto& affinity = pod.spec().affinity();
  if (!affinity.has_pod_affinity() && !affinity.has_pod_anti_affinity()) return nullptr;
  auto terms = std::make_shared<PodTerms>();
  ReadAll(affinity.pod_affinity(), pod, &terms->required, &terms->preferred);
  ReadAll(affinity.pod_anti_affinity(), pod, &terms->anti_required, &terms->anti_preferred);
  return terms;
}

}  // namespace skiff::cp

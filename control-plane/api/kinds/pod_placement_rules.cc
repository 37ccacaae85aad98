// Where a pod may stand beside others: affinity and topology spread.
#include <algorithm>
#include <set>
#include <utility>

#include "control-plane/api/kinds/label_rules.h"
#include "control-plane/api/kinds/pod_rules.h"
#include "proto/codec/names.h"
#include "proto/k8s/core/v1/placement.pb.h"
#include "proto/k8s/core/v1/pod.pb.h"
#include "proto/k8s/meta/v1/object.pb.h"

namespace skiff::cp {
namespace {

namespace core = k8s::core::v1;

constexpr char kRequired[] = "requiredDuringSchedulingIgnoredDuringExecution";
constexpr char kPreferred[] = "preferredDuringSchedulingIgnoredDuringExecution";

void CheckPreferenceWeight(int weight, const FieldPath& path, FieldErrors& errors) {
  if (weight < 1 || weight > 100) {
    errors.Invalid(path.Child("weight"), weight, "must be in the range 1-100");
  }
}

// ---- nodes ----

void ValidateNodeExpression(const core::NodeSelectorRequirement& requirement, const FieldPath& at,
                            FieldErrors& errors) {
  const std::string& op = requirement.operator_();
  const int values = requirement.values_size();
  CheckLabelKey(requirement.key(), at.Child("key"), errors);
  if (op == "In" || op == "NotIn") {
    if (values == 0) {
      errors.Required(at.Child("values"), "must be specified when `operator` is 'In' or 'NotIn'");
    }
  } else if (op == "Exists" || op == "DoesNotExist") {
    if (values > 0) {
      errors.Forbidden(at.Child("values"),
                       "may not be specified when `operator` is 'Exists' or 'DoesNotExist'");
    }
  } else if (op == "Gt" || op == "Lt") {
    if (values != 1) {
      errors.Required(at.Child("values"),
                      "must be specified single value when `operator` is 'Lt' or 'Gt'");
    }
  } else {
    errors.Invalid(at.Child("operator"), op, "not a valid selector operator");
  }
}

// The one field that nodes are selected by is their name.
void ValidateNodeField(const core::NodeSelectorRequirement& requirement, const FieldPath& at,
                       FieldErrors& errors) {
  const std::string& op = requirement.operator_();
  if (op != "In" && op != "NotIn") {
    errors.Invalid(at.Child("operator"), op, "not a valid selector operator");
  } else if (requirement.values_size() != 1) {
    errors.Required(at.Child("values"),
                    "must be only one value when `operator` is 'In' or 'NotIn' for node field "
                    "selector");
  }
  if (requirement.key() != "metadata.name") {
    errors.Invalid(at.Child("key"), requirement.key(), "not a valid field selector key");
    return;
  }
  for (int i = 0; i < requirement.values_size(); ++i) {
    AddInvalid(codec::CheckDns1123Subdomain(requirement.values(i)), ElementAt(at, "values", i),
               requirement.values(i), errors);
  }
}

void ValidateNodeTerm(const core::NodeSelectorTerm& term, const FieldPath& path,
                      FieldErrors& errors) {
  for (int i = 0; i < term.match_expressions_size(); ++i) {
    ValidateNodeExpression(term.match_expressions(i), ElementAt(path, "matchExpressions", i),
                           errors);
  }
  for (int i = 0; i < term.match_fields_size(); ++i) {
    ValidateNodeField(term.match_fields(i), ElementAt(path, "matchFields", i), errors);
  }
}

void ValidateNodeAffinity(const core::NodeAffinity& node, const FieldPath& path,
                          FieldErrors& errors) {
  if (node.has_required_during_scheduling_ignored_during_execution()) {
    const auto& selector = node.required_during_scheduling_ignored_during_execution();
    FieldPath at = path.Child(kRequired);
    if (selector.node_selector_terms().empty()) {
      errors.Required(at.Child("nodeSelectorTerms"), "must have at least one node selector term");
    }
    for (int i = 0; i < selector.node_selector_terms_size(); ++i) {
      ValidateNodeTerm(selector.node_selector_terms(i), ElementAt(at, "nodeSelectorTerms", i),
                       errors);
    }
  }
  const auto& preferred = node.preferred_during_scheduling_ignored_during_execution();
  for (int i = 0; i < preferred.size(); ++i) {
    FieldPath at = ElementAt(path, kPreferred, i);
    CheckPreferenceWeight(preferred[i].weight(), at, errors);
    ValidateNodeTerm(preferred[i].preference(), at.Child("preference"), errors);
  }
}

// ---- pods ----

// Keys of the pod's own labels that narrow a selector.
template <class Keys>
void ValidateLabelKeys(const Keys& keys, bool has_selector, const FieldPath& path,
                       FieldErrors& errors) {
  if (keys.empty()) return;
  if (!has_selector) {
    errors.Forbidden(path, "must not be specified when labelSelector is not set");
  }
  for (int i = 0; i < keys.size(); ++i) {
    CheckLabelKey(keys[i], path.Index(static_cast<size_t>(i)), errors);
  }
}

void ValidatePodTerm(const core::PodAffinityTerm& term, const FieldPath& at, FieldErrors& errors) {
  if (term.has_label_selector()) {
    CheckLabelSelector(term.label_selector(), at.Child("labelSelector"), errors);
  }
  if (term.has_namespace_selector()) {
    CheckLabelSelector(term.namespace_selector(), at.Child("namespaceSelector"), errors);
  }
  for (const std::string& name : term.namespaces()) {
    AddInvalid(codec::CheckDns1123Label(name), at.Child("namespace"), name, errors);
  }
  ValidateLabelKeys(term.match_label_keys(), term.has_label_selector(), at.Child("matchLabelKeys"),
                    errors);
  ValidateLabelKeys(term.mismatch_label_keys(), term.has_label_selector(),
                    at.Child("mismatchLabelKeys"), errors);
  const auto& matched = term.match_label_keys();
  for (int i = 0; i < matched.size(); ++i) {
    if (std::ranges::find(term.mismatch_label_keys(), matched[i]) ==
        term.mismatch_label_keys().end()) {
      continue;
    }
    errors.Invalid(ElementAt(at, "matchLabelKeys", i), matched[i],
                   "exists in both matchLabelKeys and mismatchLabelKeys");
  }
  if (term.topology_key().empty()) {
    errors.Required(at.Child("topologyKey"), "can not be empty");
  } else {
    CheckLabelKey(term.topology_key(), at.Child("topologyKey"), errors);
  }
}

// PodAffinity or PodAntiAffinity.
template <class Affinity>
void ValidatePodTerms(const Affinity& affinity, const FieldPath& path, FieldErrors& errors) {
  const auto& required = affinity.required_during_scheduling_ignored_during_execution();
  for (int i = 0; i < required.size(); ++i) {
    ValidatePodTerm(required[i], ElementAt(path, kRequired, i), errors);
  }
  const auto& preferred = affinity.preferred_during_scheduling_ignored_during_execution();
  for (int i = 0; i < preferred.size(); ++i) {
    FieldPath at = ElementAt(path, kPreferred, i);
    CheckPreferenceWeight(preferred[i].weight(), at, errors);
    ValidatePodTerm(preferred[i].pod_affinity_term(), at.Child("podAffinityTerm"), errors);
  }
}

// ---- spread ----

void ValidateInclusion(bool set, const std::string& policy, const FieldPath& path,
                       FieldErrors& errors) {
  if (set) CheckOneOf(policy, {"Honor", "Ignore"}, path, errors);
}

void ValidateConstraint(const core::TopologySpreadConstraint& constraint, const FieldPath& at,
                        FieldErrors& errors) {
  if (constraint.max_skew() <= 0) {
    errors.Invalid(at.Child("maxSkew"), constraint.max_skew(), "must be greater than zero");
  }
  if (constraint.topology_key().empty()) {
    errors.Required(at.Child("topologyKey"), "can not be empty");
  } else {
    CheckLabelKey(constraint.topology_key(), at.Child("topologyKey"), errors);
  }
  const std::string& otherwise = constraint.when_unsatisfiable();
  CheckOneOf(otherwise, {"DoNotSchedule", "ScheduleAnyway"}, at.Child("whenUnsatisfiable"), errors);
  if (constraint.has_min_domains()) {
    if (constraint.min_domains() <= 0) {
      errors.Invalid(at.Child("minDomains"), constraint.min_domains(), "must be greater than zero");
    }
    if (otherwise != "DoNotSchedule") {
      errors.Invalid(
          at.Child("minDomains"), constraint.min_domains(),
          "can only use minDomains if whenUnsatisfiable=DoNotSchedule, not " + otherwise);
    }
  }
  ValidateInclusion(constraint.has_node_affinity_policy(), constraint.node_affinity_policy(),
                    at.Child("nodeAffinityPolicy"), errors);
  ValidateInclusion(constraint.has_node_taints_policy(), constraint.node_taints_policy(),
                    at.Child("nodeTaintsPolicy"), errors);
  if (constraint.has_label_selector()) {
    CheckLabelSelector(constraint.label_selector(), at.Child("labelSelector"), errors);
  }
  ValidateLabelKeys(constraint.match_label_keys(), constraint.has_label_selector(),
                    at.Child("matchLabelKeys"), errors);
}

}  // namespace

void ValidatePlacement(const core::PodSpec& spec, const FieldPath& path, FieldErrors& errors) {
  const core::Affinity& affinity = spec.affinity();
  FieldPath at = path.Child("affinity");
  ValidateNodeAffinity(affinity.node_affinity(), at.Child("nodeAffinity"), errors);
  ValidatePodTerms(affinity.pod_affinity(), at.Child("podAffinity"), errors);
  ValidatePodTerms(affinity.pod_anti_affinity(), at.Child("podAntiAffinity"), errors);

  std::set<std::pair<std::string, std::string>> seen;
  for (int i = 0; i < spec.topology_spread_constraints_size(); ++i) {
    const auto& constraint = spec.topology_spread_constraints(i);
    FieldPath element = ElementAt(path, "topologySpreadConstraints", i);
    ValidateConstraint(constraint, element, errors);
    const std::pair key(constraint.topology_key(), constraint.when_unsatisfiable());
    if (!seen.insert(key).second) {
      errors.Duplicate(element.Child("{topologyKey, whenUnsatisfiable}"),
                       "{" + key.first + ", " + key.second + "}");
    }
  }
}

}  // namespace skiff::cp

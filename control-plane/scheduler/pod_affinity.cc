#include "control-plane/scheduler/pod_affinity.h"

#include <algorithm>

#include "proto/k8s/core/v1/node.pb.h"
#include "proto/k8s/core/v1/pod.pb.h"
#include "proto/k8s/meta/v1/object.pb.h"

namespace skiff::cp {
namespace {

using k8s::core::v1::Pod;

// What a required term of a pod that is there counts as when nodes are scored: upstream's
// hardPodAffinityWeight.
constexpr int64_t kRequiredWeight = 1;

const std::string* LabelOf(const NodeInfo& node, const std::string& key) {
  const auto& labels = node.node()->metadata().labels();
  auto found = labels.find(key);
  return found == labels.end() ? nullptr : &found->second;
}

std::shared_ptr<const PodTerms> TermsOrNone(const Pod& pod) {
  auto terms = PodTermsOf(pod);
  return terms ? terms : std::make_shared<const PodTerms>();
}

}  // namespace

PodAffinity::PodAffinity(const Pod& pod, const std::vector<const NodeInfo*>& nodes,
                         NamespaceLabels labels_of)
    : pod_(pod), nodes_(nodes), labels_of_(std::move(labels_of)), terms_(TermsOrNone(pod)) {
  for (const NodeInfo* node : nodes) Count(*node);
}

void PodAffinity::Add(const NodeInfo& node, const std::string& key, int64_t amount,
                      Domains* domains) {
  if (const std::string* value = LabelOf(node, key)) (*domains)[key][*value] += amount;
}

// Null where the node is in no such part.
const int64_t* PodAffinity::Find(const NodeInfo& node, const std::string& key,
                                 const Domains& domains) {
  const std::string* value = LabelOf(node, key);
  auto of_key = domains.find(key);
  if (value == nullptr || of_key == domains.end()) return nullptr;
  auto found = of_key->second.find(*value);
  return found == of_key->second.end() ? nullptr : &found->second;
}

bool PodAffinity::MatchesAll(const std::vector<PodTerm>& terms, const Pod& other) const {
  return std::ranges::all_of(terms,
                             [&](const PodTerm& term) { return term.Matches(other, labels_of_); });
}

void PodAffinity::Count(const NodeInfo& node) {
  for (const auto& [uid, terms] : node.terms()) {
    for (const PodTerm& term : terms->anti_required) {
      if (term.Matches(pod_, labels_of_)) Add(node, term.topology_key, 1, &unwelcome_);
    }
  }
  if (terms_->required.empty() && terms_->anti_required.empty()) return;
  for (const auto& [uid, other] : node.pods()) {
    if (!terms_->required.empty() && MatchesAll(terms_->required, *other)) {
      for (const PodTerm& term : terms_->required) Add(node, term.topology_key, 1, &company_);
    }
    for (const PodTerm& term : terms_->anti_required) {
      if (term.Matches(*other, labels_of_)) Add(node, term.topology_key, 1, &aversions_);
    }
  }
}

// The first of pods that want to be together may go anywhere where the labels are.
bool PodAffinity::HasCompany(const NodeInfo& node) const {
  bool found = true;
  for (const PodTerm& term : terms_->required) {
    if (LabelOf(node, term.topology_key) == nullptr) return false;
    found &= Find(node, term.topology_key, company_) != nullptr;
  }
  return found || (company_.empty() && MatchesAll(terms_->required, pod_));
}

bool PodAffinity::MeetsAversion(const NodeInfo& node) const {
  return std::ranges::any_of(terms_->anti_required, [&](const PodTerm& term) {
    return Find(node, term.topology_key, aversions_) != nullptr;
  });
}

bool PodAffinity::IsUnwelcome(const NodeInfo& node) const {
  return std::ranges::any_of(unwelcome_, [&](const auto& of_key) {
    return Find(node, of_key.first, unwelcome_) != nullptr;
  });
}

std::vector<std::string> PodAffinity::WhyNot(const NodeInfo& node) const {
  if (!HasCompany(node)) return {"node(s) didn't match pod affinity rules"};
  if (MeetsAversion(node)) return {"node(s) didn't match pod anti-affinity rules"};
  if (IsUnwelcome(node)) return {"node(s) didn't satisfy existing pods anti-affinity rules"};
  return {};
}

// What this pod would like of those that are there, and they of it.
void PodAffinity::AddPreferences(const NodeInfo& node, Domains* domains) const {
  if (!terms_->preferred.empty() || !terms_->anti_preferred.empty()) {
    for (const auto& [uid, other] : node.pods()) {
      for (const PodTerm& term : terms_->preferred) {
        if (term.Matches(*other, labels_of_)) Add(node, term.topology_key, term.weight, domains);
      }
      for (const PodTerm& term : terms_->anti_preferred) {
        if (term.Matches(*other, labels_of_)) Add(node, term.topology_key, -term.weight, domains);
      }
    }
  }
  for (const auto& [uid, terms] : node.terms()) {
    auto add = [&](const std::vector<PodTerm>& theirs, auto weight_of) {
      for (const PodTerm& term : theirs) {
        if (term.Matches(pod_, labels_of_)) Add(node, term.topology_key, weight_of(term), domains);
      }
    };
    add(terms->required, [](const PodTerm&) { return kRequiredWeight; });
    add(terms->preferred, [](const PodTerm& term) { return term.weight; });
    add(terms->anti_preferred, [](const PodTerm& term) { return -term.weight; });
  }
}

std::vector<int64_t> PodAffinity::Score(const std::vector<const NodeInfo*>& candidates) const {
  Domains domains;
  for (const NodeInfo* node : nodes_) AddPreferences(*node, &domains);
  std::vector<int64_t> scores(candidates.size(), 0);
  if (domains.empty() || candidates.empty()) return scores;
  for (size_t i = 0; i < candidates.size(); ++i) {
    for (const auto& [key, amounts] : domains) {
      if (const int64_t* amount = Find(*candidates[i], key, domains)) scores[i] += *amount;
    }
  }
  const auto [least, most] = std::ranges::minmax(scores);
  for (int64_t& score : scores) score = most == least ? 0 : 100 * (score - least) / (most - least);
  return scores;
}

}  // namespace skiff::cp

#include <algorithm>
#include <map>

#include "control-plane/controllers/framework/objects.h"
#include "control-plane/controllers/namespace_controllers.h"
#include "proto/codec/meta.h"
#include "proto/k8s/core/v1/namespace.pb.h"

namespace skiff::cp {
namespace {

using k8s::core::v1::Namespace;
using k8s::core::v1::NamespaceStatus;

constexpr char kFinalizer[] = "kubernetes";
// While pods end and finalizers are worked on.
constexpr std::chrono::milliseconds kLookAgain{500};

// What is left of a namespace.
struct Remains {
  std::map<std::string, int> objects;     // by "pods." or "deployments.apps"
  std::map<std::string, int> finalizers;  // how many objects wait for each
  std::vector<std::string> failures;
  bool empty() const { return objects.empty() && failures.empty(); }
};

void SetCondition(NamespaceStatus* status, const char* type, bool value, const char* reason,
                  const std::string& message, WallTime now) {
  const std::string text = value ? "True" : "False";
  auto* condition = MutableCondition(status, type);
  if (condition == nullptr) {
    condition = status->add_conditions();
    condition->set_type(type);
  }
  if (condition->status() != text) {
    condition->set_status(text);
    SetTime(condition->mutable_last_transition_time(), now);
  }
  condition->set_reason(reason);
  condition->set_message(message);
}

std::string Join(const std::vector<std::string>& parts) {
  std::string joined;
  for (const std::string& part : parts) joined += (joined.empty() ? "" : ", ") + part;
  return joined;
}

// The conditions in upstream's words; `kubectl describe ns` shows them.
void SetConditions(NamespaceStatus* status, const Remains& remains, WallTime now) {
  SetCondition(status, "NamespaceDeletionDiscoveryFailure", false, "ResourcesDiscovered",
               "All resources successfully discovered", now);
  SetCondition(status, "NamespaceDeletionGroupVersionParsingFailure", false, "ParsedGroupVersions",
               "All legacy kube types successfully parsed", now);
  if (remains.failures.empty()) {
    SetCondition(status, "NamespaceDeletionContentFailure", false, "ContentDeleted",
                 "All content successfully deleted, may be waiting on finalization", now);
  } else {
    SetCondition(status, "NamespaceDeletionContentFailure", true, "ContentDeletionFailed",
                 "Failed to delete all resource types, " + std::to_string(remains.failures.size()) +
                     " remaining: " + Join(remains.failures),
                 now);
  }
  std::vector<std::string> objects, finalizers;
  for (const auto& [resource, count] : remains.objects) {
    objects.push_back(resource + " has " + std::to_string(count) + " resource instances");
  }
  for (const auto& [finalizer, count] : remains.finalizers) {
    finalizers.push_back(finalizer + " in " + std::to_string(count) + " resource instances");
  }
  if (objects.empty()) {
    SetCondition(status, "NamespaceContentRemaining", false, "ContentRemoved",
                 "All content successfully removed", now);
  } else {
    SetCondition(status, "NamespaceContentRemaining", true, "SomeResourcesRemain",
                 "Some resources are remaining: " + Join(objects), now);
  }
  if (finalizers.empty()) {
    SetCondition(status, "NamespaceFinalizersRemaining", false, "ContentHasNoFinalizers",
                 "All content-preserving finalizers finished", now);
  } else {
    SetCondition(status, "NamespaceFinalizersRemaining", true, "SomeFinalizersRemain",
                 "Some content in the namespace has finalizers remaining: " + Join(finalizers),
                 now);
  }
}

class NamespaceDeletionController : public Controller {
 public:
  NamespaceDeletionController(Client& client, Executor& executor)
      : Controller("namespace-deletion", client, executor), namespaces_(client, strand_) {
    for (const Client::ServedKind& kind : client.ServedKinds()) {
      if (kind.namespaced) kinds_.push_back(kind);
    }
    Observe<Namespace>(namespaces_, [this](const auto&, const auto& now) {
      if (now && IsBeingDeleted(now->metadata())) queue_.Add(now->metadata().name());
    });
  }

 protected:
  Result<> Sync(const std::string& name) override {
    std::shared_ptr<const Namespace> ns = namespaces_.Find(name);
    if (!ns || !IsBeingDeleted(ns->metadata()) || !HasOurFinalizer(*ns)) return {};
    Remains remains = DeleteContent(name);
    Namespace updated = *ns;
    SetConditions(updated.mutable_status(), remains, Now());
    if (!Equal(updated, *ns)) {
      auto stored = client_.UpdateStatus(updated);
      if (!stored.ok() && stored.error().code() == Code::kNotFound) return {};
      namespaces_.Assume(TRY(std::move(stored)));
    }
    if (!remains.empty()) {
      queue_.AddAfter(name, kLookAgain);
      return {};
    }
    auto finalized = client_.FinalizeNamespace(name);
    if (!finalized.ok() && finalized.error().code() != Code::kNotFound) return finalized.error();
    return {};
  }

 private:
  static bool HasOurFinalizer(const Namespace& ns) {
    return std::ranges::find(ns.spec().finalizers(), kFinalizer) != ns.spec().finalizers().end();
  }

  // Pods first: until the last has ended, what they depend on (policies, secrets) stays.
  Remains DeleteContent(const std::string& ns) {
    Remains remains;
    for (const Client::ServedKind& kind : kinds_) {
      if (kind.kind == "Pod") DeleteAll(ns, kind, &remains);
    }
    if (!remains.empty()) return remains;
    for (const Client::ServedKind& kind : kinds_) {
      if (kind.kind != "Pod") DeleteAll(ns, kind, &remains);
    }
    return remains;
  }

  void DeleteAll(const std::string& ns, const Client::ServedKind& kind, Remains* remains) {
    const std::string group = kind.api_version.find('/') == std::string::npos
                                  ? std::string()
                                  : SplitKey(kind.api_version).ns;
    const std::string resource = kind.plural + "." + group;
    auto fail = [&](const Error& error) {
      remains->failures.push_back(resource + ": " + error.message());
    };
    auto list = client_.ListObjects(*kind.prototype, {.ns = ns});
    if (!list.ok()) return fail(list.error());
    for (const ObjectPtr& object : list->items) {
      const auto& meta = codec::MetaOf(*object);
      if (IsBeingDeleted(meta)) continue;
      auto deleted =
          client_.DeleteObject(*kind.prototype, ns, meta.name(),
                               {.uid = meta.uid(), .propagation = Propagation::kBackground});
      if (!deleted.ok() && deleted.error().code() != Code::kNotFound) fail(deleted.error());
    }
    auto left = client_.ListObjects(*kind.prototype, {.ns = ns});
    if (!left.ok()) return fail(left.error());
    if (left->items.empty()) return;
    remains->objects[resource] = static_cast<int>(left->items.size());
    for (const ObjectPtr& object : left->items) {
      for (const std::string& finalizer : codec::MetaOf(*object).finalizers()) {
        ++remains->finalizers[finalizer];
      }
    }
  }

  std::vector<Client::ServedKind> kinds_;
  Informer<Namespace> namespaces_;
};

}  // namespace

std::shared_ptr<Controller> MakeNamespaceDeletionController(Client& client, Executor& executor) {
  return std::make_shared<NamespaceDeletionController>(client, executor);
}

}  // namespace skiff::cp

#include "agent/daemon/policy_link.h"

#include <algorithm>

#include "base/log.h"
#include "proto/k8s/core/v1/pod.pb.h"
#include "proto/skiff/node/v1/policy.pb.h"

namespace skiff::agent {
namespace {

namespace node_link = skiff::node::v1;

// Adds an object to the update; one that cannot be read is left out.
void AddTo(const DesiredState& desired, const ObjectKey& key, policy::Update* update) {
  auto object = desired.Find(key);
  if (object == nullptr) return;
  if (key.kind == "NetworkPolicy") {
    auto read =
        policy::ReadPolicy(key.name_space, static_cast<const node_link::NetworkPolicy&>(*object));
    if (read.ok()) {
      update->policies[key.name_space + "/" + key.name] = *std::move(read);
    } else {
      log::Error("a network policy cannot be read and is ignored; is the control plane newer?",
                 {{"policy", key.name_space + "/" + key.name}, {"error", read.error()}});
    }
  } else if (key.kind == "AddressSet") {
    auto read = policy::ReadPart(static_cast<const node_link::AddressSetPart&>(*object));
    if (read.ok()) {
      update->parts[key.name] = *std::move(read);
    } else {
      log::Error("a set of addresses cannot be read and is ignored; is the control plane newer?",
                 {{"set", key.name}, {"error", read.error()}});
    }
  }
}

bool IsPod(const ObjectKey& key) { return key.kind == "Pod"; }

}  // namespace

PolicyLink::PolicyLink(Executor& blocking)
    : nft_(std::make_unique<net::SystemNft>()),
      enforcer_(std::make_unique<policy::PolicyEnforcer>(blocking, *nft_)) {}
PolicyLink::~PolicyLink() = default;

void PolicyLink::ApplyChange(const DesiredState& desired, const DesiredChange& change) {
  policy::Update update;
  update.full = change.full;
  for (const ObjectKey& key : change.changed) AddTo(desired, key, &update);
  for (const ObjectKey& key : change.deleted) {
    if (change.full || desired.Find(key) != nullptr) continue;
    if (key.kind == "NetworkPolicy") {
      update.policies[key.name_space + "/" + key.name] = std::nullopt;
    }
    if (key.kind == "AddressSet") update.parts[key.name] = {};
  }
  if (!update.empty()) enforcer_->Apply(std::move(update));
  if (change.full || std::any_of(change.changed.begin(), change.changed.end(), IsPod) ||
      std::any_of(change.deleted.begin(), change.deleted.end(), IsPod)) {
    enforcer_->SetPods(desired.Pods());
  }
}

}  // namespace skiff::agent

#include "control-plane/controllers/framework/event_recorder.h"

#include <algorithm>
#include <atomic>
#include <charconv>
#include <chrono>
#include <unordered_map>

#include "base/log.h"
#include "control-plane/controllers/framework/objects.h"
#include "proto/codec/meta.h"
#include "proto/k8s/core/v1/event.pb.h"
#include "proto/k8s/meta/v1/object.pb.h"

namespace skiff::cp {
namespace {

using k8s::core::v1::Event;

constexpr int kMaxWaiting = 1000;
constexpr size_t kMaxRemembered = 4096;
// As client-go's spam filter: 25 events of one object at once, then one every five minutes.
constexpr double kBurst = 25;
constexpr double kRefillPerSecond = 1.0 / 300;

std::string HexNanos(WallTime time) {
  char text[17];
  auto nanos = std::chrono::duration_cast<std::chrono::nanoseconds>(time.time_since_epoch());
  auto end = std::to_chars(text, text + sizeof(text), nanos.count(), 16).ptr;
  return {text, end};
}

// What makes two events the same one happening again.
std::string IdentityOf(const Event& event) {
  const auto& object = event.involved_object();
  std::string identity;
  for (const std::string* part :
       {&object.kind(), &object.namespace_(), &object.name(), &object.uid(), &event.type(),
        &event.reason(), &event.message()}) {
    identity += *part;
    identity += '\0';
  }
  return identity;
}

}  // namespace

struct EventRecorder::State : std::enable_shared_from_this<State> {
  State(Client& client_in, Executor& executor, std::string component_in)
      : client(client_in), component(std::move(component_in)), strand(executor) {}

  struct Bucket {
    double tokens = kBurst;
    SteadyTime refilled;
  };

  Client& client;
  const std::string component;
  Strand strand;
  std::atomic<int> waiting = 0;
  // On the strand: the stored event of an identity, and the tokens of an object's uid.
  std::unordered_map<std::string, std::shared_ptr<const Event>> recent;
  std::unordered_map<std::string, Bucket> buckets;

  void Record(const Message& object, std::string_view type, std::string_view reason,
              std::string message) {
    if (waiting.fetch_add(1) >= kMaxWaiting) {
      waiting.fetch_sub(1);
      return;
    }
    auto event = std::make_shared<Event>(Make(object, type, reason, std::move(message)));
    strand.Post([self = shared_from_this(), event] {
      self->waiting.fetch_sub(1);
      self->Write(*event);
    });
  }

  Event Make(const Message& object, std::string_view type, std::string_view reason,
             std::string message) const {
    const k8s::meta::v1::ObjectMeta& meta = codec::MetaOf(object);
    const codec::GroupVersionKind* gvk = codec::GvkOf(object);
    const WallTime now = strand.clock().WallNow();
    Event event;
    event.mutable_metadata()->set_name(meta.name() + "." + HexNanos(now));
    // Events are namespaced; those about cluster-scoped objects are in "default".
    event.mutable_metadata()->set_namespace_(meta.namespace_().empty() ? "default"
                                                                       : meta.namespace_());
    auto* involved = event.mutable_involved_object();
    involved->set_api_version(gvk->ApiVersion());
    involved->set_kind(gvk->kind);
    if (!meta.namespace_().empty()) involved->set_namespace_(meta.namespace_());
    involved->set_name(meta.name());
    involved->set_uid(meta.uid());
    involved->set_resource_version(meta.resource_version());
    event.set_type(std::string(type));
    event.set_reason(std::string(reason));
    event.set_message(std::move(message));
    event.mutable_source()->set_component(component);
    event.set_reporting_component(component);
    SetTime(event.mutable_first_timestamp(), now);
    SetTime(event.mutable_last_timestamp(), now);
    event.set_count(1);
    return event;
  }

  void Write(const Event& event) {
    if (!TakeToken(event.involved_object().uid() + event.involved_object().name())) return;
    const std::string identity = IdentityOf(event);
    auto known = recent.find(identity);
    if (known != recent.end()) {
      Event again = *known->second;
      again.set_count(again.count() + 1);
      *again.mutable_last_timestamp() = event.last_timestamp();
      if (auto stored = client.Update(again); stored.ok()) {
        known->second = *stored;
        return;
      }
      recent.erase(known);  // expired, or changed by somebody: a new one
    }
    auto stored = CreateAnew(event);
    if (!stored.ok()) {
      log::Debug("event not recorded", {{"reason", event.reason()}, {"error", stored.error()}});
      return;
    }
    if (recent.size() >= kMaxRemembered) recent.clear();
    recent[identity] = *stored;
  }

  // The name is the object's and the time's; two events of one moment need two moments.
  Result<std::shared_ptr<const Event>> CreateAnew(Event event) {
    auto stored = client.Create(event);
    WallTime time = strand.clock().WallNow();
    for (int i = 0; i < 8 && !stored.ok() && stored.error().code() == Code::kAlreadyExists; ++i) {
      time += std::chrono::microseconds(1);
      event.mutable_metadata()->set_name(event.involved_object().name() + "." + HexNanos(time));
      stored = client.Create(event);
    }
    return stored;
  }

  bool TakeToken(const std::string& object) {
    if (buckets.size() >= kMaxRemembered) buckets.clear();
    const SteadyTime now = strand.clock().Now();
    Bucket& bucket = buckets.try_emplace(object, Bucket{kBurst, now}).first->second;
    double seconds = std::chrono::duration<double>(now - bucket.refilled).count();
    bucket.tokens = std::min(kBurst, bucket.tokens + seconds * kRefillPerSecond);
    bucket.refilled = now;
    if (bucket.tokens < 1) return false;
    bucket.tokens -= 1;
    return true;
  }
};

EventRecorder::EventRecorder(Client& client, Executor& executor, std::string component)
    : state_(std::make_shared<State>(client, executor, std::move(component))) {}
EventRecorder::~EventRecorder() = default;

void EventRecorder::Normal(const Message& object, std::string_view reason, std::string message) {
  state_->Record(object, "Normal", reason, std::move(message));
}
void EventRecorder::Warning(const Message& object, std::string_view reason, std::string message) {
  state_->Record(object, "Warning", reason, std::move(message));
}

}  // namespace skiff::cp

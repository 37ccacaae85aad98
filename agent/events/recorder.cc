#include "agent/events/recorder.h"

#include <algorithm>
#include <charconv>

#include "proto/k8s/core/v1/event.pb.h"
#include "proto/k8s/core/v1/pod.pb.h"

namespace skiff::agent {
namespace {

namespace core = k8s::core::v1;

constexpr size_t kMaxRemembered = 4096;
constexpr size_t kMaxMessageBytes = 1024;
constexpr double kBurst = 25;
constexpr double kTokensPerSecond = 1.0 / 300;

void SetTime(WallTime time, k8s::meta::v1::Time* out) {
  out->set_seconds(
      std::chrono::duration_cast<std::chrono::seconds>(time.time_since_epoch()).count());
  out->set_nanos(0);
}

std::string HexNanos(WallTime time) {
  auto nanos =
      std::chrono::duration_cast<std::chrono::nanoseconds>(time.time_since_epoch()).count();
  char text[17];
  auto [end, error] = std::to_chars(text, text + sizeof text, static_cast<uint64_t>(nanos), 16);
  return std::string(text, end);
}

}  // namespace

EventSubject SubjectOf(const core::Pod& pod, std::string field_path) {
  return {"Pod", pod.metadata().namespace_(), pod.metadata().name(), pod.metadata().uid(),
          std::move(field_path)};
}

EventRecorder::EventRecorder(std::string node_name, const Clock& clock, Sink sink)
    : node_name_(std::move(node_name)), clock_(clock), sink_(std::move(sink)) {}

bool EventRecorder::Allowed(const std::string& subject_key, WallTime now) {
  auto [found, fresh] = allowances_.try_emplace(subject_key);
  Allowance& allowance = found->second;
  if (fresh) allowance.refilled = now;
  double seconds = std::chrono::duration<double>(now - allowance.refilled).count();
  allowance.tokens = std::min(kBurst, allowance.tokens + std::max(seconds, 0.0) * kTokensPerSecond);
  allowance.refilled = now;
  if (allowance.tokens < 1) return false;
  allowance.tokens -= 1;
  return true;
}

void EventRecorder::Record(const EventSubject& subject, std::string_view type,
                           std::string_view reason, std::string_view message) {
  WallTime now = clock_.WallNow();
  message = message.substr(0, kMaxMessageBytes);
  core::Event event;
  {
    std::lock_guard lock(mutex_);
    // Forgets everything when there is too much: repetitions then start a new event, no more.
    if (seen_.size() > kMaxRemembered) seen_.clear();
    if (allowances_.size() > kMaxRemembered) allowances_.clear();
    std::string subject_key = subject.kind + "/" + subject.name_space + "/" + subject.uid;
    if (!Allowed(subject_key, now)) return;
    std::string key = subject_key + "|" + subject.field_path + "|" + std::string(type) + "|" +
                      std::string(reason) + "|" + std::string(message);
    Seen& seen = seen_[key];
    // Upstream forgets an event an hour after it came last (the API server does too).
    if (seen.count == 0 || now - seen.last > std::chrono::hours(1)) {
      seen = Seen{subject.name + "." + HexNanos(now), 0, now, now};
    }
    ++seen.count;
    seen.last = now;
    event.mutable_metadata()->set_name(seen.name);
    event.set_count(seen.count);
    SetTime(seen.first, event.mutable_first_timestamp());
    SetTime(seen.last, event.mutable_last_timestamp());
  }
  event.mutable_metadata()->set_namespace_(subject.name_space.empty() ? "default"
                                                                      : subject.name_space);
  auto* object = event.mutable_involved_object();
  object->set_kind(subject.kind);
  object->set_api_version("v1");
  object->set_namespace_(subject.name_space);
  object->set_name(subject.name);
  object->set_uid(subject.uid);
  if (!subject.field_path.empty()) object->set_field_path(subject.field_path);
  event.set_type(std::string(type));
  event.set_reason(std::string(reason));
  event.set_message(std::string(message));
  event.mutable_source()->set_component(subject.component);
  event.mutable_source()->set_host(node_name_);
  event.set_reporting_component(subject.component);
  event.set_reporting_instance(node_name_);
  sink_(event);
}

}  // namespace skiff::agent

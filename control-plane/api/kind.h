// What the API server knows about a kind: names, verbs, and the hand-written rules.
//
// A kind is one file under control-plane/api/kinds/ that defines `KindInfo PodKind();` and so on,
// and one line in the list of kinds.cc. Everything else (codec, storage, patches, selectors, watch,
// discovery, OpenAPI) comes from the message's reflection.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/clock.h"
#include "control-plane/api/field_errors.h"

namespace google::protobuf {
class Descriptor;
class Message;
}  // namespace google::protobuf

namespace skiff::cp {

using Message = google::protobuf::Message;

// A column of the server-side table; as meta/v1 TableColumnDefinition.
struct TableColumn {
  std::string name;
  std::string type = "string";  // "string", "integer", "boolean"
  std::string format;           // "name" for the first column
  std::string description;
  int priority = 0;  // > 0: only with -o wide
};
using TableCell = std::variant<std::string, int64_t, bool>;
// "5m", "3d4h": the age columns, by kubectl's rules; "<unknown>" for no time.
std::string HumanAge(WallTime since, WallTime now);

// The rules of a kind. Each may be empty. All are pure: values in, values out, no clock, no I/O.
// The generic rules (metadata validation, names, generation of uid and timestamps) are not theirs.
struct KindRules {
  // Fills what the user left out; on create, update and on reading old objects. Idempotent.
  std::function<void(Message& object)> set_defaults;

  // On create, before validation: drops what clients may not set (status), sets generation 1
  // where the kind has one.
  std::function<void(Message& object)> prepare_create;
  // On update of the main resource: keeps the old status, raises generation when spec changed.
  std::function<void(Message& object, const Message& old)> prepare_update;
  // On update of /status: keeps everything but status (metadata is kept by the caller).
  std::function<void(Message& object, const Message& old)> prepare_status_update;

  std::function<void(const Message& object, FieldErrors& errors)> validate;
  std::function<void(const Message& object, const Message& old, FieldErrors& errors)>
      validate_update;
  std::function<void(const Message& object, const Message& old, FieldErrors& errors)>
      validate_status_update;
  // Advice for the client, sent as Warning headers.
  std::function<std::vector<std::string>(const Message& object)> warnings;
  // How metadata.name is checked; default: RFC 1123 subdomain. Returns the complaints.
  std::function<std::vector<std::string>(std::string_view name)> validate_name;

  std::vector<TableColumn> columns;  // empty: Name and Age
  std::function<std::vector<TableCell>(const Message& object, WallTime now)> table_row;

  // Field selectors besides metadata.name and metadata.namespace: "spec.nodeName" -> value. All
  // keys must be present in every answer.
  std::function<std::map<std::string, std::string>(const Message& object)> selectable_fields;
};

// Wraps functions on a typed message as rules on Message:
//   rules.set_defaults = On<k8s::core::v1::Pod>(&SetPodDefaults);
template <class T>
auto On(void (*f)(T&)) {
  return [f](Message& object) { f(static_cast<T&>(object)); };
}
template <class T>
auto On(void (*f)(T&, const T&)) {
  return [f](Message& object, const Message& old) {
    f(static_cast<T&>(object), static_cast<const T&>(old));
  };
}
template <class T>
auto On(void (*f)(const T&, FieldErrors&)) {
  return
      [f](const Message& object, FieldErrors& errors) { f(static_cast<const T&>(object), errors); };
}
template <class T>
auto On(void (*f)(const T&, const T&, FieldErrors&)) {
  return [f](const Message& object, const Message& old, FieldErrors& errors) {
    f(static_cast<const T&>(object), static_cast<const T&>(old), errors);
  };
}
template <class T>
auto On(std::vector<std::string> (*f)(const T&)) {
  return [f](const Message& object) { return f(static_cast<const T&>(object)); };
}
template <class T>
auto On(std::vector<TableCell> (*f)(const T&, WallTime)) {
  return [f](const Message& object, WallTime now) { return f(static_cast<const T&>(object), now); };
}
template <class T>
auto On(std::map<std::string, std::string> (*f)(const T&)) {
  return [f](const Message& object) { return f(static_cast<const T&>(object)); };
}

// The same objects under another group or shape: events.k8s.io/v1 Event shows core/v1 Event.
struct KindView {
  std::string group;   // of the kind that is stored
  std::string plural;  // of the kind that is stored
  std::function<void(const Message& stored, Message& shown)> from_stored;
  std::function<void(const Message& shown, Message& stored)> to_stored;
};

struct KindInfo {
  std::string group;     // "" for core
  std::string version;   // "v1"
  std::string kind;      // "Pod"
  std::string plural;    // "pods": the resource
  std::string singular;  // "pod"
  std::vector<std::string> short_names;
  std::vector<std::string> categories;  // "all"
  bool namespaced = true;
  const Message* prototype = nullptr;       // the default instance of the message
  const Message* list_prototype = nullptr;  // of its list message

  bool has_status = false;  // serves /status
  bool has_scale = false;   // serves /scale (spec.replicas, status.replicas, spec.selector)
  // False for kinds that only answer to create (SelfSubjectAccessReview).
  bool stored = true;
  // PUT creates what is not there (Lease, Endpoints, EndpointSlice, Event, ...).
  bool allow_create_on_update = false;
  // An update without resourceVersion is taken as it is; pods, services, ... do so upstream.
  bool allow_unconditional_update = true;
  // What propagationPolicy defaults to: "Background", "Foreground" or "Orphan".
  std::string default_propagation = "Background";
  // Graceful deletion: the object stays with a deletionTimestamp until its node confirms.
  bool graceful_deletion = false;

  KindRules rules;
  std::shared_ptr<const KindView> view;  // null: stored as it is

  std::string ApiVersion() const { return group.empty() ? version : group + "/" + version; }
  // "pods", "deployments.apps": as error messages name the resource.
  std::string QualifiedPlural() const { return group.empty() ? plural : plural + "." + group; }
};

// The kinds served. Immutable after construction; owns the KindInfos, whose addresses are stable.
class Kinds {
 public:
  explicit Kinds(std::vector<KindInfo> kinds);
  ~Kinds();

  // Null when there is none.
  const KindInfo* FindResource(std::string_view group, std::string_view version,
                               std::string_view plural) const;
  const KindInfo* FindKind(std::string_view group, std::string_view version,
                           std::string_view kind) const;
  const KindInfo* FindMessage(const google::protobuf::Descriptor* descriptor) const;
  const std::vector<std::unique_ptr<const KindInfo>>& all() const { return kinds_; }

 private:
  std::vector<std::unique_ptr<const KindInfo>> kinds_;
};

// Every kind of this build, in discovery's order (kinds.cc).
Kinds BuiltinKinds();

}  // namespace skiff::cp

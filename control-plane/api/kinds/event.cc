// Events: stored as core/v1, also shown as events.k8s.io/v1.
#include <algorithm>

#include "control-plane/api/kinds/cells.h"
#include "control-plane/api/kinds/kinds.h"
#include "proto/k8s/core/v1/event.pb.h"
#include "proto/k8s/core/v1/reference.pb.h"
#include "proto/k8s/events/v1/events.pb.h"
#include "proto/k8s/meta/v1/object.pb.h"
#include "proto/k8s/meta/v1/time.pb.h"

namespace skiff::cp {
namespace {

namespace core = k8s::core::v1;
namespace events = k8s::events::v1;

std::string Lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  return text;
}

std::string Trim(const std::string& text) {
  size_t first = text.find_first_not_of(" \t\r\n");
  size_t last = text.find_last_not_of(" \t\r\n");
  return first == std::string::npos ? "" : text.substr(first, last - first + 1);
}

// Events of the whole cluster belong to the default namespace.
void Validate(const core::Event& event, FieldErrors& errors) {
  const std::string& about = event.involved_object().namespace_();
  const std::string& own = event.metadata().namespace_();
  bool matches =
      about.empty() ? own == "default" || own == "kube-system" || own.empty() : about == own;
  if (!matches) {
    errors.Invalid(FieldPath("involvedObject").Child("namespace"), about,
                   "does not match event.namespace");
  }
}

void ValidateUpdate(const core::Event& event, const core::Event&, FieldErrors& errors) {
  Validate(event, errors);
}

std::string SourceText(const core::Event& event) {
  const bool old_style = !event.source().component().empty();
  const std::string& component =
      old_style ? event.source().component() : event.reporting_component();
  const std::string& instance = old_style ? event.source().host() : event.reporting_instance();
  return instance.empty() ? component : component + ", " + instance;
}

std::vector<TableCell> Row(const core::Event& event, WallTime now) {
  std::string first = event.has_first_timestamp() ? Since(event.first_timestamp(), now)
                                                  : Since(event.event_time(), now);
  std::string last = event.has_last_timestamp() ? Since(event.last_timestamp(), now) : first;
  // An event of the new style that happened once has no count.
  int64_t count = std::max(event.count(), 1);
  if (event.has_series()) {
    last = Since(event.series().last_observed_time(), now);
    count = event.series().count();
  }
  const core::ObjectReference& about = event.involved_object();
  std::string target = Lower(about.kind());
  if (!about.name().empty()) target += "/" + about.name();
  return {last,
          event.type(),
          event.reason(),
          target,
          about.field_path(),
          SourceText(event),
          Trim(event.message()),
          first,
          count,
          event.metadata().name()};
}

std::vector<TableColumn> Columns() {
  TableColumn name = NameColumn();
  name.priority = 1;
  return {
      Column("Last Seen", "When the event was last seen"),
      Column("Type", "Normal or Warning"),
      Column("Reason", "A short, machine-readable reason"),
      Column("Object", "What the event is about"),
      WideColumn("Subobject", "The part of the object the event is about"),
      WideColumn("Source", "Who reports the event"),
      Column("Message", "What happened"),
      WideColumn("First Seen", "When the event was first seen"),
      WideColumn("Count", "How often the event was seen"),
      name,
  };
}

std::map<std::string, std::string> SelectableFields(const core::Event& event) {
  const core::ObjectReference& about = event.involved_object();
  const std::string& component = event.source().component();
  return {
      {"involvedObject.kind", about.kind()},
      {"involvedObject.namespace", about.namespace_()},
      {"involvedObject.name", about.name()},
      {"involvedObject.uid", about.uid()},
      {"involvedObject.apiVersion", about.api_version()},
      {"involvedObject.resourceVersion", about.resource_version()},
      {"involvedObject.fieldPath", about.field_path()},
      {"reason", event.reason()},
      {"reportingComponent", event.reporting_component()},
      {"source", component.empty() ? event.reporting_component() : component},
      {"type", event.type()},
  };
}

void ToNew(const core::Event& from, events::Event& to) {
  *to.mutable_metadata() = from.metadata();
  if (from.has_event_time()) *to.mutable_event_time() = from.event_time();
  if (from.has_series()) {
    to.mutable_series()->set_count(from.series().count());
    *to.mutable_series()->mutable_last_observed_time() = from.series().last_observed_time();
  }
  to.set_reporting_controller(from.reporting_component());
  to.set_reporting_instance(from.reporting_instance());
  to.set_action(from.action());
  to.set_reason(from.reason());
  *to.mutable_regarding() = from.involved_object();
  if (from.has_related()) *to.mutable_related() = from.related();
  to.set_note(from.message());
  to.set_type(from.type());
  if (from.has_source()) *to.mutable_deprecated_source() = from.source();
  if (from.has_first_timestamp()) {
    *to.mutable_deprecated_first_timestamp() = from.first_timestamp();
  }
  if (from.has_last_timestamp()) *to.mutable_deprecated_last_timestamp() = from.last_timestamp();
  to.set_deprecated_count(from.count());
}

void ToOld(const events::Event& from, core::Event& to) {
  *to.mutable_metadata() = from.metadata();
  if (from.has_event_time()) *to.mutable_event_time() = from.event_time();
  if (from.has_series()) {
    to.mutable_series()->set_count(from.series().count());
    *to.mutable_series()->mutable_last_observed_time() = from.series().last_observed_time();
  }
  to.set_reporting_component(from.reporting_controller());
  to.set_reporting_instance(from.reporting_instance());
  to.set_action(from.action());
  to.set_reason(from.reason());
  *to.mutable_involved_object() = from.regarding();
  if (from.has_related()) *to.mutable_related() = from.related();
  to.set_message(from.note());
  to.set_type(from.type());
  if (from.has_deprecated_source()) *to.mutable_source() = from.deprecated_source();
  if (from.has_deprecated_first_timestamp()) {
    *to.mutable_first_timestamp() = from.deprecated_first_timestamp();
  }
  if (from.has_deprecated_last_timestamp()) {
    *to.mutable_last_timestamp() = from.deprecated_last_timestamp();
  }
  to.set_count(from.deprecated_count());
}

std::vector<TableCell> NewRow(const events::Event& event, WallTime now) {
  core::Event stored;
  ToOld(event, stored);
  return Row(stored, now);
}

std::map<std::string, std::string> NewSelectableFields(const events::Event& event) {
  const core::ObjectReference& about = event.regarding();
  return {
      {"regarding.kind", about.kind()},
      {"regarding.namespace", about.namespace_()},
      {"regarding.name", about.name()},
      {"regarding.uid", about.uid()},
      {"regarding.apiVersion", about.api_version()},
      {"regarding.resourceVersion", about.resource_version()},
      {"regarding.fieldPath", about.field_path()},
      {"reason", event.reason()},
      {"reportingController", event.reporting_controller()},
      {"type", event.type()},
  };
}

}  // namespace

KindInfo EventKind() {
  KindInfo kind;
  kind.version = "v1";
  kind.kind = "Event";
  kind.plural = "events";
  kind.singular = "event";
  kind.short_names = {"ev"};
  kind.prototype = &core::Event::default_instance();
  kind.list_prototype = &core::EventList::default_instance();
  kind.allow_create_on_update = true;
  kind.rules.validate = On<core::Event>(&Validate);
  kind.rules.validate_update = On<core::Event>(&ValidateUpdate);
  kind.rules.columns = Columns();
  kind.rules.table_row = On<core::Event>(&Row);
  kind.rules.selectable_fields = On<core::Event>(&SelectableFields);
  return kind;
}

KindInfo EventsEventKind() {
  KindInfo kind;
  kind.group = "events.k8s.io";
  kind.version = "v1";
  kind.kind = "Event";
  kind.plural = "events";
  kind.singular = "event";
  kind.short_names = {"ev"};
  kind.prototype = &events::Event::default_instance();
  kind.list_prototype = &events::EventList::default_instance();
  kind.allow_create_on_update = true;
  kind.rules.columns = Columns();
  kind.rules.table_row = On<events::Event>(&NewRow);
  kind.rules.selectable_fields = On<events::Event>(&NewSelectableFields);
  auto view = std::make_shared<KindView>();
  view->plural = "events";
  view->from_stored = [](const Message& stored, Message& shown) {
    ToNew(static_cast<const core::Event&>(stored), static_cast<events::Event&>(shown));
  };
  view->to_stored = [](const Message& shown, Message& stored) {
    ToOld(static_cast<const events::Event&>(shown), static_cast<core::Event&>(stored));
  };
  kind.view = std::move(view);
  return kind;
}

}  // namespace skiff::cp

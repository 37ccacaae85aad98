#include "control-plane/api/kinds/cells.h"

#include <google/protobuf/map.h>

#include <algorithm>

#include "proto/codec/selector.h"
#include "proto/k8s/core/v1/pod.pb.h"
#include "proto/k8s/meta/v1/object.pb.h"
#include "proto/k8s/meta/v1/time.pb.h"

namespace skiff::cp {

TableColumn NameColumn() {
  return {"Name", "string", "name",
          "Name must be unique within a namespace. It identifies the object in its URL."};
}

TableColumn AgeColumn() {
  return Column("Age", "CreationTimestamp is the time at which the server created the object.");
}

TableColumn Column(std::string_view name, std::string_view description, std::string_view type) {
  return {std::string(name), std::string(type), "", std::string(description)};
}

TableColumn WideColumn(std::string_view name, std::string_view description, std::string_view type) {
  TableColumn column = Column(name, description, type);
  column.priority = 1;
  return column;
}

namespace {

template <class Time>
WallTime ToWallTime(const Time& time) {
  return WallTime(std::chrono::seconds(time.seconds()));
}

}  // namespace

std::string Since(const k8s::meta::v1::Time& time, WallTime now) {
  return HumanAge(ToWallTime(time), now);
}
std::string Since(const k8s::meta::v1::MicroTime& time, WallTime now) {
  return HumanAge(ToWallTime(time), now);
}

TableCell AgeCell(const k8s::meta::v1::ObjectMeta& meta, WallTime now) {
  return Since(meta.creation_timestamp(), now);
}

std::string JoinText(const std::vector<std::string>& parts, std::string_view separator) {
  std::string text;
  for (const std::string& part : parts) {
    if (&part != &parts.front()) text += separator;
    text += part;
  }
  return text;
}

std::string OrNone(std::string text) { return text.empty() ? "<none>" : std::move(text); }

std::string FormatLabels(const google::protobuf::Map<std::string, std::string>& labels) {
  std::vector<std::string> parts;
  for (const auto& [key, value] : labels) parts.push_back(key + "=" + value);
  std::sort(parts.begin(), parts.end());
  return OrNone(JoinText(parts));
}

std::string FormatLabelSelector(const k8s::meta::v1::LabelSelector& selector) {
  auto parsed = codec::LabelSelector::From(selector);
  return parsed ? OrNone(parsed->ToString()) : "<error>";
}

TableCell ContainerNamesCell(const k8s::core::v1::PodSpec& spec) {
  std::vector<std::string> names;
  for (const auto& container : spec.containers()) names.push_back(container.name());
  return JoinText(names);
}

TableCell ContainerImagesCell(const k8s::core::v1::PodSpec& spec) {
  std::vector<std::string> images;
  for (const auto& container : spec.containers()) images.push_back(container.image());
  return JoinText(images);
}

}  // namespace skiff::cp

#include "control-plane/api/rest/table.h"

#include <google/protobuf/message.h>

#include <nlohmann/json.hpp>

#include "proto/codec/json.h"
#include "proto/codec/meta.h"
#include "proto/k8s/meta/v1/object.pb.h"

namespace skiff::cp {
namespace {

using nlohmann::json;

WallTime CreationTime(const Message& object) {
  const auto& meta = codec::MetaOf(object);
  return WallTime(std::chrono::seconds(meta.creation_timestamp().seconds()));
}

const std::vector<TableColumn>& Columns(const KindInfo& kind) {
  static const std::vector<TableColumn> kNameAndAge = {
      {"Name", "string", "name", "Name must be unique within a namespace.", 0},
      {"Age", "string", "", "Time since the object was created.", 0},
  };
  return kind.rules.columns.empty() ? kNameAndAge : kind.rules.columns;
}

std::vector<TableCell> Cells(const View& view, const Message& object) {
  if (view.kind->rules.table_row) return view.kind->rules.table_row(object, view.now);
  return {codec::MetaOf(object).name(), HumanAge(CreationTime(object), view.now)};
}

json ColumnsJson(const KindInfo& kind) {
  json columns = json::array();
  for (const auto& column : Columns(kind)) {
    columns.push_back({{"name", column.name},
                       {"type", column.type},
                       {"format", column.format},
                       {"description", column.description},
                       {"priority", column.priority}});
  }
  return columns;
}

std::string CellsJson(const std::vector<TableCell>& cells) {
  json array = json::array();
  for (const auto& cell : cells) {
    std::visit([&](const auto& value) { array.push_back(value); }, cell);
  }
  return array.dump(-1, ' ', false, json::error_handler_t::replace);
}

std::string RowObject(const View& view, const Message& object) {
  if (view.include_object == "None") return "null";
  if (view.include_object == "Object") return codec::EncodeJson(object);
  std::string text = R"({"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/)" +
                     view.accepted.shape_version + R"(","metadata":)";
  codec::AppendJson(codec::MetaOf(object), &text);
  return text += "}";
}

}  // namespace

std::string EncodeTable(const View& view, const std::vector<const Message*>& objects,
                        const ListMetaText* meta, bool columns) {
  std::string text = R"({"kind":"Table","apiVersion":"meta.k8s.io/)" + view.accepted.shape_version +
                     R"(","metadata":)";
  json list_meta = json::object();
  if (meta != nullptr) {
    list_meta["resourceVersion"] = std::to_string(meta->revision);
    if (!meta->continue_token.empty()) list_meta["continue"] = meta->continue_token;
    if (meta->remaining) list_meta["remainingItemCount"] = *meta->remaining;
  } else if (objects.size() == 1) {
    list_meta["resourceVersion"] = codec::MetaOf(*objects.front()).resource_version();
  }
  text += list_meta.dump();
  text += R"(,"columnDefinitions":)";
  text += columns ? ColumnsJson(*view.kind).dump() : "null";
  text += R"(,"rows":[)";
  bool first = true;
  for (const Message* object : objects) {
    if (!std::exchange(first, false)) text += ',';
    text += R"({"cells":)" + CellsJson(Cells(view, *object)) + R"(,"object":)" +
            RowObject(view, *object) + "}";
  }
  return text += "]}";
}

}  // namespace skiff::cp

// Strategic merge patch. The algorithm's promises are those of upstream's documentation
// (contributors/devel/sig-api-machinery/strategic-merge-patch.md): lists with a merge key merge by
// it, other lists are replaced, directives steer both.
#include <google/protobuf/descriptor.h>

#include <algorithm>

#include "proto/codec/patch.h"
#include "proto/codec/patch_document.h"
#include "proto/codec/plan.h"
#include "proto/k8s/options.pb.h"

namespace skiff::codec {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;

constexpr std::string_view kDirective = "$patch";
constexpr std::string_view kRetainKeys = "$retainKeys";
constexpr std::string_view kSetElementOrder = "$setElementOrder/";
constexpr std::string_view kDeleteFromList = "$deleteFromPrimitiveList/";

// What the schema says about one key of an object.
struct KeySchema {
  const Descriptor* type = nullptr;  // of the value, the elements or the map's values, if messages
  bool merge = false;                // lists: merged rather than replaced
  bool replace = false;              // objects: replaced rather than merged
  std::string merge_key;
};

// `type` is null below untyped data, where objects merge and lists are replaced.
Result<KeySchema> LookUp(const Descriptor* type, bool map_values, const std::string& key) {
  KeySchema schema;
  // In a map every key's value has the map's value type, which `type` already is.
  if (type == nullptr) return schema;
  if (map_values) {
    schema.type = type;
    return schema;
  }
  const TypePlan& plan = PlanOf(*type);
  if (plan.shape != Shape::kObject) return schema;
  auto found = plan.keys.find(key);
  if (found == plan.keys.end()) {
    if (plan.gvk != nullptr && (key == "apiVersion" || key == "kind")) return schema;
    return Malformed("unable to find api field in struct " + type->name() +
                     " for the json field \"" + key + "\"");
  }
  const FieldPlan& field = *found->second.field;
  if (field.type != nullptr) schema.type = field.type->type;
  const auto& options = field.field->options();
  schema.merge_key = options.GetExtension(k8s::patch_merge_key);
  std::string_view strategies = options.GetExtension(k8s::patch_strategy);
  while (!strategies.empty()) {
    size_t comma = std::min(strategies.find(','), strategies.size());
    schema.merge = schema.merge || strategies.substr(0, comma) == "merge";
    schema.replace = schema.replace || strategies.substr(0, comma) == "replace";
    strategies.remove_prefix(std::min(comma + 1, strategies.size()));
  }
  return schema;
}

// The type that the keys of a value are looked up in.
struct Schema {
  const Descriptor* type = nullptr;
  bool map_values = false;

  static Schema OfValue(const Schema& parent, const KeySchema& key, const std::string& name) {
    if (key.type == nullptr || parent.map_values) return {key.type, false};
    auto found = PlanOf(*parent.type).keys.find(name);
    return {key.type, found->second.field->field->is_map()};
  }
};

// Directives mean nothing in what a patch adds, and nulls there have nothing to delete.
Json Plain(const Json& patch) {
  if (patch.is_array()) {
    Json list = Json::array();
    for (const Json& item : patch) {
      bool deletion = item.is_object() && item.value(std::string(kDirective), "") == "delete";
      if (!deletion && !(item.is_object() && item.size() == 1 && item.contains(kDirective))) {
        list.push_back(Plain(item));
      }
    }
    return list;
  }
  if (!patch.is_object()) return patch;
  Json object = Json::object();
  for (const auto& [key, value] : patch.items()) {
    bool directive = key == kDirective || key == kRetainKeys || key.starts_with(kSetElementOrder) ||
                     key.starts_with(kDeleteFromList);
    if (!directive && !value.is_null()) object[key] = Plain(value);
  }
  return object;
}

// The element that stands for an item of a list: its merge key, or itself in a list of scalars.
const Json* Identity(const Json& item, const std::string& merge_key) {
  if (merge_key.empty() || !item.is_object()) return &item;
  auto found = item.find(merge_key);
  return found == item.end() ? nullptr : &*found;
}

// The position in `list` of the item with this identity, or -1.
ptrdiff_t IndexOf(const Json& list, const Json& identity, const std::string& merge_key) {
  for (size_t i = 0; i < list.size(); ++i) {
    const Json* found = Identity(list[i], merge_key);
    if (found != nullptr && *found == identity) return static_cast<ptrdiff_t>(i);
  }
  return -1;
}

Error NoMergeKey(const Json& item, const std::string& merge_key) {
  return NotApplicable("map: " + item.dump() +
                       " does not contain declared merge key: " + merge_key);
}

// A list in the order that `order` asks for. Items that are not in it keep their place relative to
// their neighbours in `server`, as far as both can be had.
Result<Json> Ordered(const Json& merged, const Json& order, const Json& server,
                     const std::string& merge_key) {
  struct Item {
    const Json* value;
    ptrdiff_t wanted;  // position in `order`, or -1
    ptrdiff_t live;    // position in `server`, or -1
  };
  std::vector<Item> listed, unlisted;
  for (const Json& item : merged) {
    const Json* identity = Identity(item, merge_key);
    if (identity == nullptr) return NoMergeKey(item, merge_key);
    Item entry{&item, IndexOf(order, *identity, merge_key), IndexOf(server, *identity, merge_key)};
    (entry.wanted >= 0 ? listed : unlisted).push_back(entry);
  }
  std::stable_sort(listed.begin(), listed.end(),
                   [](const Item& a, const Item& b) { return a.wanted < b.wanted; });
  std::stable_sort(unlisted.begin(), unlisted.end(),
                   [](const Item& a, const Item& b) { return a.live < b.live; });
  Json result = Json::array();
  auto next = unlisted.begin();
  for (const Item& item : listed) {
    while (next != unlisted.end() && item.live >= 0 && next->live >= 0 && next->live < item.live) {
      result.push_back(*next++->value);
    }
    result.push_back(*item.value);
  }
  for (; next != unlisted.end(); ++next) result.push_back(*next->value);
  return result;
}

class Merger {
 public:
  Result<> Object(Json* original, Json patch, const Schema& schema);

 private:
  Result<> RetainKeys(Json* original, Json* patch);
  Result<> ElementOrders(Json* original, Json* patch, const Schema& schema);
  Result<> ElementOrder(Json* original, Json* patch, const Schema& schema, const std::string& name,
                        const Json& order);
  Result<> DeleteFromLists(Json* original, Json* patch);
  Result<> Key(Json* original, const std::string& key, Json* patch, const Schema& schema);
  Result<Json> List(const Json& original, const Json& patch, const KeySchema& key,
                    const Schema& element);
  Result<Json> ListOfObjects(Json original, const Json& patch, const std::string& merge_key,
                             const Schema& element);
};

Result<> Merger::Object(Json* original, Json patch, const Schema& schema) {
  if (auto directive = patch.find(kDirective); directive != patch.end()) {
    if (*directive == "replace") {
      patch.erase(std::string(kDirective));
      *original = Plain(patch);
      return {};
    }
    if (*directive == "delete") {
      *original = Json::object();
      return {};
    }
    if (*directive != "merge") {
      return Malformed("unknown patch type: " + directive->dump() + " in map: " + patch.dump());
    }
    patch.erase(std::string(kDirective));
  }
  if (original->is_null()) *original = Json::object();
  TRY(RetainKeys(original, &patch));
  TRY(ElementOrders(original, &patch, schema));
  TRY(DeleteFromLists(original, &patch));
  for (auto& [key, value] : patch.items()) TRY(Key(original, key, &value, schema));
  return {};
}

Result<> Merger::Key(Json* original, const std::string& key, Json* patch, const Schema& schema) {
  if (patch->is_null()) {
    original->erase(key);
    return {};
  }
  auto found = original->find(key);
  bool same_form = found != original->end() && ((found->is_object() && patch->is_object()) ||
                                                (found->is_array() && patch->is_array()));
  if (!same_form) {
    (*original)[key] = Plain(*patch);
    return {};
  }
  KeySchema key_schema = TRY(LookUp(schema.type, schema.map_values, key));
  Schema value_schema = Schema::OfValue(schema, key_schema, key);
  if (patch->is_object()) {
    if (key_schema.replace) {
      *found = Plain(*patch);
      return {};
    }
    return Object(&*found, std::move(*patch), value_schema);
  }
  *found = TRY(List(*found, *patch, key_schema, value_schema));
  return {};
}

// "$retainKeys": what is not named goes, which empties the other members of a union.
Result<> Merger::RetainKeys(Json* original, Json* patch) {
  auto found = patch->find(kRetainKeys);
  if (found == patch->end()) return {};
  Json keys = std::move(*found);
  patch->erase(std::string(kRetainKeys));
  if (!keys.is_array()) return Malformed("invalid patch format of retainKeys");
  auto retained = [&keys](const std::string& key) {
    return std::find(keys.begin(), keys.end(), Json(key)) != keys.end();
  };
  for (const auto& [key, value] : patch->items()) {
    bool directive = key.starts_with(kDeleteFromList) || key.starts_with(kSetElementOrder);
    if (!value.is_null() && !directive && !retained(key)) {
      return Malformed("invalid patch format of retainKeys");
    }
  }
  for (auto it = original->begin(); it != original->end();) {
    it = retained(it.key()) ? std::next(it) : original->erase(it);
  }
  return {};
}

Result<> Merger::ElementOrders(Json* original, Json* patch, const Schema& schema) {
  std::vector<std::string> directives;
  for (const auto& [key, value] : patch->items()) {
    if (key.starts_with(kSetElementOrder)) directives.push_back(key);
  }
  for (const std::string& directive : directives) {
    Json order = std::move((*patch)[directive]);
    patch->erase(directive);
    if (!order.is_array()) return Malformed("invalid patch format of setElementOrder list");
    std::string name = directive.substr(kSetElementOrder.size());
    TRY(DeleteFromLists(original, patch));
    TRY(ElementOrder(original, patch, schema, name, order));
    patch->erase(name);
  }
  return {};
}

Result<> Merger::ElementOrder(Json* original, Json* patch, const Schema& schema,
                              const std::string& name, const Json& order) {
  auto live = original->find(name);
  auto changes = patch->find(name);
  bool has_live = live != original->end() && live->is_array();
  bool has_changes = changes != patch->end() && !changes->is_null();
  if (has_changes && !changes->is_array()) {
    return Malformed("invalid patch format of setElementOrder list");
  }
  if (changes != patch->end() && changes->is_null()) {
    original->erase(name);
    return {};
  }
  if (!has_live && !has_changes) return {};
  KeySchema key = TRY(LookUp(schema.type, schema.map_values, name));
  Json server = has_live ? *live : Json::array();
  Json merged = server;
  if (has_changes) {
    for (const Json& item : *changes) {
      const Json* identity = Identity(item, key.merge_key);
      if (identity == nullptr) return NoMergeKey(item, key.merge_key);
      bool deletion = item.is_object() && item.contains(kDirective);
      if (!deletion && IndexOf(order, *identity, key.merge_key) < 0) {
        return Malformed("The order in patch list:\n" + changes->dump() +
                         "\n doesn't match $setElementOrder list:\n" + order.dump() + "\n");
      }
    }
    merged = has_live ? TRY(List(server, *changes, key, Schema::OfValue(schema, key, name)))
                      : Plain(*changes);
  }
  (*original)[name] = TRY(Ordered(merged, order, server, key.merge_key));
  return {};
}

Result<> Merger::DeleteFromLists(Json* original, Json* patch) {
  for (auto it = patch->begin(); it != patch->end();) {
    if (!it.key().starts_with(kDeleteFromList)) {
      ++it;
      continue;
    }
    std::string name = it.key().substr(kDeleteFromList.size());
    const Json& gone = it.value();
    if (!gone.is_array()) return Malformed("invalid patch format of primitive list");
    auto list = original->find(name);
    if (list != original->end() && list->is_array()) {
      Json kept = Json::array();
      for (Json& item : *list) {
        if (std::find(gone.begin(), gone.end(), item) == gone.end())
          kept.push_back(std::move(item));
      }
      *list = std::move(kept);
    }
    it = patch->erase(it);
  }
  return {};
}

Result<Json> Merger::List(const Json& original, const Json& patch, const KeySchema& key,
                          const Schema& element) {
  if (!key.merge) return Plain(patch);
  if (original.empty() && patch.empty()) return original;
  const Json& first = original.empty() ? patch.front() : original.front();
  for (const Json* list : {&original, &patch}) {
    for (const Json& item : *list) {
      if (item.is_array()) return NotApplicable("lists of lists are not supported");
      if (item.is_object() != first.is_object()) {
        return NotApplicable("list element types are not identical");
      }
    }
  }
  if (first.is_object()) {
    if (key.merge_key.empty()) {
      return NotApplicable("cannot merge lists without merge key for type " +
                           (element.type != nullptr ? element.type->name() : "unknown"));
    }
    Json merged = TRY(ListOfObjects(original, patch, key.merge_key, element));
    return Ordered(merged, patch, original, key.merge_key);
  }
  Json merged = Json::array();
  for (const Json* list : {&original, &patch}) {
    for (const Json& item : *list) {
      if (std::find(merged.begin(), merged.end(), item) == merged.end()) merged.push_back(item);
    }
  }
  return Ordered(merged, patch, original, {});
}

Result<Json> Merger::ListOfObjects(Json original, const Json& patch, const std::string& merge_key,
                                   const Schema& element) {
  Json changes = Json::array();
  bool replace = false;
  for (const Json& item : patch) {
    auto directive = item.find(kDirective);
    if (directive == item.end() || *directive == "merge") {
      changes.push_back(item);
      continue;
    }
    if (*directive == "replace") {
      replace = true;
      continue;
    }
    if (*directive != "delete") {
      return Malformed("unknown patch type: " + directive->dump() + " in map: " + item.dump());
    }
    auto identity = item.find(merge_key);
    if (identity == item.end()) return NoMergeKey(item, merge_key);
    for (ptrdiff_t at; (at = IndexOf(original, *identity, merge_key)) >= 0;) {
      original.erase(static_cast<size_t>(at));
    }
  }
  if (replace) return Plain(changes);
  for (const Json& item : changes) {
    auto identity = item.find(merge_key);
    if (identity == item.end()) return NoMergeKey(item, merge_key);
    ptrdiff_t at = IndexOf(original, *identity, merge_key);
    if (at < 0) {
      original.push_back(Plain(item));
    } else {
      TRY(Object(&original[static_cast<size_t>(at)], item, element));
    }
  }
  return original;
}

}  // namespace

Result<std::string> ApplyStrategicMergePatch(std::string_view document, std::string_view patch,
                                             const Descriptor& schema) {
  Json target = TRY(ParseDocument(document, "object"));
  Json changes = TRY(ParseDocument(patch, "patch"));
  if (!target.is_object() || !changes.is_object()) return Malformed("invalid JSON document");
  TRY(Merger().Object(&target, std::move(changes), Schema{&schema, false}));
  return DumpDocument(target);
}

}  // namespace skiff::codec

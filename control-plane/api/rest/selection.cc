#include "control-plane/api/rest/selection.h"

#include <google/protobuf/message.h>

#include <charconv>
#include <map>

#include "proto/codec/meta.h"
#include "proto/k8s/meta/v1/object.pb.h"

namespace skiff::cp {
namespace {

using Fields = std::map<std::string, std::string>;

Fields FieldsOf(const KindInfo& kind, const Message& object) {
  Fields fields;
  if (kind.rules.selectable_fields) fields = kind.rules.selectable_fields(object);
  const auto& meta = codec::MetaOf(object);
  fields["metadata.name"] = meta.name();
  if (kind.namespaced) fields["metadata.namespace"] = meta.namespace_();
  return fields;
}

ApiResult<std::optional<int64_t>> Number(const http::Query& query, std::string_view name) {
  auto text = query.Get(name);
  if (!text || text->empty()) return std::optional<int64_t>();
  int64_t value = 0;
  auto [end, status] = std::from_chars(text->data(), text->data() + text->size(), value);
  if (status != std::errc() || end != text->data() + text->size()) {
    return ApiError::BadRequest("unable to decode query parameter " + std::string(name) +
                                ": invalid number \"" + std::string(*text) + "\"");
  }
  return std::optional(value);
}

ApiResult<std::optional<Revision>> ParseRevision(const http::Query& query) {
  auto text = query.Get("resourceVersion");
  if (!text || text->empty()) return std::optional<Revision>();
  Revision value = 0;
  auto [end, status] = std::from_chars(text->data(), text->data() + text->size(), value);
  if (status != std::errc() || end != text->data() + text->size() || value < 0) {
    return ApiError::BadRequest("Invalid value: \"" + std::string(*text) +
                                "\": invalid resource version");
  }
  return std::optional(value);
}

ApiResult<VersionMatch> ParseMatch(std::string_view text, FieldErrors& errors) {
  if (text.empty()) return VersionMatch::kUnset;
  if (text == "Exact") return VersionMatch::kExact;
  if (text == "NotOlderThan") return VersionMatch::kNotOlderThan;
  errors.NotSupported(FieldPath("resourceVersionMatch"), text, {"Exact", "NotOlderThan"});
  return VersionMatch::kUnset;
}

// Upstream's ValidateListOptions.
void CheckCombination(const ListParameters& list, bool watch, FieldErrors& errors) {
  const FieldPath match("resourceVersionMatch");
  const FieldPath initial("sendInitialEvents");
  const bool matching = list.match != VersionMatch::kUnset;
  if (list.limit < 0) {
    errors.Invalid(FieldPath("limit"), list.limit, "must be greater than or equal to 0");
  }
  if (list.send_initial_events) {
    if (!watch) {
      errors.Forbidden(initial, "sendInitialEvents is forbidden for list");
    } else if (list.match != VersionMatch::kNotOlderThan) {
      errors.Forbidden(match,
                       "sendInitialEvents requires setting resourceVersionMatch to "
                       "NotOlderThan");
    }
    return;
  }
  if (!matching) return;
  if (watch) {
    errors.Forbidden(match,
                     "resourceVersionMatch is forbidden for watch unless sendInitialEvents is "
                     "provided");
    return;
  }
  if (!list.revision) {
    errors.Forbidden(match, "resourceVersionMatch is forbidden unless resourceVersion is provided");
  }
  if (!list.continue_token.empty()) {
    errors.Forbidden(match, "resourceVersionMatch is forbidden when continue is provided");
  }
  if (list.match == VersionMatch::kExact && list.revision == Revision{0}) {
    errors.Forbidden(match,
                     "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"");
  }
}

}  // namespace

ApiResult<ObjectFilter> ObjectFilter::Make(const KindInfo& kind, std::string_view label_selector,
                                           std::string_view field_selector) {
  ObjectFilter filter;
  filter.labels_ = TRY(codec::LabelSelector::Parse(label_selector));
  filter.fields_ = TRY(codec::FieldSelector::Parse(field_selector));
  if (filter.fields_.MatchesEverything()) return filter;
  const Fields known = FieldsOf(kind, *kind.prototype);
  for (const auto& requirement : filter.fields_.requirements()) {
    if (known.contains(requirement.field)) continue;
    if (!kind.rules.selectable_fields) {
      return ApiError::BadRequest("\"" + requirement.field +
                                  "\" is not a known field selector: only \"metadata.name\", "
                                  "\"metadata.namespace\"");
    }
    return ApiError::BadRequest("field label not supported: " + requirement.field);
  }
  return filter;
}

bool ObjectFilter::Matches(const KindInfo& kind, const Message& object) const {
  if (!labels_.MatchesEverything() && !labels_.Matches(codec::MetaOf(object).labels())) {
    return false;
  }
  if (fields_.MatchesEverything()) return true;
  const Fields fields = FieldsOf(kind, object);
  return fields_.Matches([&](std::string_view field) {
    auto found = fields.find(std::string(field));
    return found == fields.end() ? std::string() : found->second;
  });
}

ApiResult<ListParameters> ListParameters::Parse(const KindInfo& kind, const http::Query& query,
                                                bool watch) {
  ListParameters list;
  list.filter =
      TRY(ObjectFilter::Make(kind, query.Value("labelSelector"), query.Value("fieldSelector")));
  list.revision = TRY(ParseRevision(query));
  list.limit = TRY(Number(query, "limit")).value_or(0);
  list.timeout_seconds = TRY(Number(query, "timeoutSeconds"));
  list.continue_token = query.Value("continue");
  list.bookmarks = query.Flag("allowWatchBookmarks");
  if (query.Get("sendInitialEvents")) list.send_initial_events = query.Flag("sendInitialEvents");
  FieldErrors errors;
  list.match = TRY(ParseMatch(query.Value("resourceVersionMatch"), errors));
  CheckCombination(list, watch, errors);
  if (!errors.empty()) {
    KindInfo options;
    options.group = "meta.k8s.io";
    options.kind = "ListOptions";
    return ApiError::Invalid(options, "", errors);
  }
  return list;
}

}  // namespace skiff::cp

// ObjectFilter: label and field selectors of a request, and the paging and version parameters that
// lists and watches share.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/http/message.h"
#include "control-plane/api/kind.h"
#include "control-plane/api/object.h"
#include "control-plane/api/status.h"
#include "proto/codec/selector.h"

namespace skiff::cp {

// Immutable.
class ObjectFilter {
 public:
  // Everything.
  ObjectFilter() = default;
  // 400: a selector that does not parse, or a field the kind does not select by.
  static ApiResult<ObjectFilter> Make(const KindInfo& kind, std::string_view label_selector,
                                      std::string_view field_selector);

  bool Matches(const KindInfo& kind, const Message& object) const;
  bool MatchesEverything() const {
    return labels_.MatchesEverything() && fields_.MatchesEverything();
  }
  // The one name that can match, if the field selector says so.
  std::optional<std::string> Name() const { return fields_.RequiredValue("metadata.name"); }

 private:
  codec::LabelSelector labels_;
  codec::FieldSelector fields_;
};

enum class VersionMatch { kUnset, kExact, kNotOlderThan };

// The query of a list or watch, checked by upstream's rules (422 where they contradict each other).
struct ListParameters {
  ObjectFilter filter;
  std::optional<Revision> revision;  // resourceVersion; unset: the newest
  VersionMatch match = VersionMatch::kUnset;
  int64_t limit = 0;
  std::string continue_token;
  // Watches:
  bool bookmarks = false;
  std::optional<bool> send_initial_events;
  std::optional<int64_t> timeout_seconds;

  static ApiResult<ListParameters> Parse(const KindInfo& kind, const http::Query& query,
                                         bool watch);
};

}  // namespace skiff::cp

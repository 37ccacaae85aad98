// What a transaction means, the same for every backend that applies one by itself.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "base/result.h"
#include "control-plane/store/store.h"

namespace skiff::cp {

// The newest version of a key, if it exists.
using ReadLatest = std::function<Result<std::optional<KeyValue>>(const std::string& key)>;

// succeeded says whether all conditions hold; if not, current is filled. The revision is not set.
Result<TxnResult> Check(const std::vector<Compare>& compares, const ReadLatest& latest);

// The event of the op at the revision. Null when it changes nothing: a deletion of what is not
// there.
std::shared_ptr<Event> EventOf(const Op& op, std::optional<KeyValue> previous, Revision revision);

}  // namespace skiff::cp

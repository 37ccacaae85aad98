// What a node is shown of an object, and whether a change of it matters to the node. Pure.
#pragma once

#include <cstdint>
#include <string>

#include "control-plane/api/client.h"

namespace skiff::cp {

// The kinds a node is told of, in the order in which they are sent: what pods need comes first.
enum class FeedKind { kNode, kConfigMap, kSecret, kService, kEndpointSlice, kPod };
inline constexpr int kFeedKinds = 6;

const char* FeedKindName(FeedKind kind);
const Message& FeedPrototype(FeedKind kind);

struct ObjectView {
  std::string bytes;    // the kind's message without what nodes have no use for
  uint64_t digest = 0;  // equal for views that ask the same of a node
};
// Left out: managedFields; of other nodes and of its own all status but the addresses. The digest
// leaves out what the node itself reports (pod status) and what changes without meaning
// (resourceVersion), so that a report does not come back as an update.
ObjectView ViewOf(FeedKind kind, const Message& object);

}  // namespace skiff::cp

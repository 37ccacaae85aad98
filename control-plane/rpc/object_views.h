// What a node is shown of an object, and whether a change of it matters to the node. Pure.
#pragma once

#include <cstdint>
#include <string>

#include "control-plane/api/client.h"

namespace skiff::cp {

// The kinds a node is told of, in the order in which they are sent: what pods need comes first.
// Policies and address sets are told in messages of our own (policy_feed.h); namespaces only say
// what the policies select.
enum class FeedKind {
  kNode,
  kConfigMap,
  kSecret,
  kRuntimeClass,
  kService,
  kEndpointSlice,
  kAddressSet,
  kNetworkPolicy,
  kPod,
  kNamespace,
};
inline constexpr int kFeedKinds = 10;

const char* FeedKindName(FeedKind kind);
// Of the kinds that are objects of the API: all but kAddressSet.
const Message& FeedPrototype(FeedKind kind);

struct ObjectView {
  std::string bytes;    // the kind's message without what nodes have no use for
  uint64_t digest = 0;  // equal for views that ask the same of a node
};
// Left out: managedFields; of other nodes and of its own all status but the addresses. The digest
// leaves out what the node itself reports (pod status) and what changes without meaning
// (resourceVersion), so that a report does not come back as an update. Not of policies, address
// sets and namespaces.
ObjectView ViewOf(FeedKind kind, const Message& object);
// Of a view's bytes, where all of them count.
uint64_t DigestOf(const std::string& bytes);

}  // namespace skiff::cp

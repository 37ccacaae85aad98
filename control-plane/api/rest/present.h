// Objects as answers: one object, a list, a table or metadata only, in the form negotiated.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/http/message.h"
#include "control-plane/api/kind.h"
#include "control-plane/api/object.h"
#include "control-plane/api/rest/negotiation.h"
#include "control-plane/api/status.h"

namespace k8s::meta::v1 {
class ListMeta;
}

namespace skiff::cp {

// What the client asked to see, as far as presenting goes.
struct View {
  const KindInfo* kind = nullptr;
  Accepted accepted;
  std::string include_object = "Metadata";  // of table rows: None, Metadata, Object
  WallTime now;                             // for ages
};

// The stored object in the kind asked for (KindInfo::view).
ObjectPtr Show(const KindInfo& kind, const ObjectPtr& stored);
// The kind whose objects are stored: the kind itself unless it is a view.
const KindInfo& StoredKind(const Kinds& kinds, const KindInfo& kind);

struct ListMetaText {
  Revision revision = 0;
  std::string continue_token;
  std::optional<int64_t> remaining;
};

// A message of any kind (Status, APIResourceList, ...) as a whole answer.
http::Response AnswerMessage(int status, const Message& message, Format format);
http::Response AnswerError(const ApiError& error, Format format);
http::Response AnswerObject(int status, const View& view, const Message& object);
http::Response AnswerList(const View& view, const std::vector<ObjectPtr>& objects,
                          const ListMetaText& meta);

// The bytes of one object in the view's shape, as a watch sends it inside an event. columns:
// whether a table names its columns.
std::string EncodeShaped(const View& view, const Message& object, bool columns);
// The message in a format.
std::string EncodeMessage(const Message& message, Format format);

}  // namespace skiff::cp

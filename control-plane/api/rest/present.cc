#include "control-plane/api/rest/present.h"

#include <google/protobuf/message.h>

#include "control-plane/api/rest/table.h"
#include "proto/codec/json.h"
#include "proto/codec/meta.h"
#include "proto/codec/wire.h"
#include "proto/k8s/meta/v1/object.pb.h"
#include "proto/k8s/meta/v1/status.pb.h"

namespace skiff::cp {
namespace {

using k8s::meta::v1::ListMeta;
using k8s::meta::v1::PartialObjectMetadata;
using k8s::meta::v1::PartialObjectMetadataList;

http::Response Presented(int status, Format format, std::string body) {
  http::Response response;
  response.status = status;
  response.headers.Set("Content-Type", ContentType(format, false));
  response.headers.Set("Cache-Control", "no-cache, private");
  response.body = std::move(body);
  return response;
}

void FillListMeta(const ListMetaText& text, ListMeta* meta) {
  meta->set_resource_version(std::to_string(text.revision));
  if (!text.continue_token.empty()) meta->set_continue_(text.continue_token);
  if (text.remaining) meta->set_remaining_item_count(*text.remaining);
}

// The items as JSON without their own kind and version, as typed lists upstream have them. Written
// straight from the shared snapshots: no list message is built.
std::string ListJson(const KindInfo& kind, const std::vector<ObjectPtr>& objects,
                     const ListMetaText& meta) {
  ListMeta list_meta;
  FillListMeta(meta, &list_meta);
  std::string text = R"({"kind":")" + kind.kind + R"(List","apiVersion":")" + kind.ApiVersion() +
                     R"(","metadata":)";
  codec::AppendJson(list_meta, &text);
  text += R"(,"items":[)";
  const std::string type =
      R"({"kind":")" + kind.kind + R"(","apiVersion":")" + kind.ApiVersion() + R"(",)";
  for (size_t i = 0; i < objects.size(); ++i) {
    if (i != 0) text += ',';
    size_t at = text.size();
    codec::AppendJson(*objects[i], &text);
    if (text.compare(at, type.size(), type) == 0) text.erase(at + 1, type.size() - 1);
  }
  return text += "]}\n";
}

std::string ListProtobuf(const KindInfo& kind, const std::vector<ObjectPtr>& objects,
                         const ListMetaText& meta) {
  std::unique_ptr<Message> list(kind.list_prototype->New());
  FillListMeta(meta, codec::MutableListMetaOf(list.get()));
  for (const auto& object : objects) codec::AddItem(list.get())->CopyFrom(*object);
  return codec::EncodeWire(*list);
}

// The metadata kinds have v1 in their messages; older clients ask for v1beta1, which is the same.
std::string PartialText(const Message& message, const View& view) {
  std::string text = EncodeMessage(message, view.accepted.format);
  constexpr std::string_view kV1 = R"("apiVersion":"meta.k8s.io/v1")";
  size_t at = text.find(kV1);
  if (view.accepted.shape_version != "v1" && view.accepted.format != Format::kProtobuf &&
      at != text.npos) {
    text.replace(at, kV1.size(),
                 R"("apiVersion":"meta.k8s.io/)" + view.accepted.shape_version + "\"");
  }
  return text;
}

}  // namespace

const KindInfo& StoredKind(const Kinds& kinds, const KindInfo& kind) {
  if (!kind.view) return kind;
  for (const auto& candidate : kinds.all()) {
    if (!candidate->view && candidate->group == kind.view->group &&
        candidate->plural == kind.view->plural) {
      return *candidate;
    }
  }
  CHECK(false);
  return kind;
}

ObjectPtr Show(const KindInfo& kind, const ObjectPtr& stored) {
  if (!kind.view) return stored;
  std::unique_ptr<Message> shown(kind.prototype->New());
  kind.view->from_stored(*stored, *shown);
  return shown;
}

// JSON is YAML (1.2, and 1.1 for what we write): clients that ask for YAML parse it.
std::string EncodeMessage(const Message& message, Format format) {
  if (format == Format::kProtobuf) return codec::EncodeWire(message);
  return codec::EncodeJson(message) += '\n';
}

http::Response AnswerMessage(int status, const Message& message, Format format) {
  return Presented(status, format, EncodeMessage(message, format));
}

http::Response AnswerError(const ApiError& error, Format format) {
  http::Response response = AnswerMessage(error.http_code, error.ToStatus(), format);
  if (error.retry_after_seconds != 0) {
    response.headers.Set("Retry-After", std::to_string(error.retry_after_seconds));
  }
  if (error.http_code == 401) response.headers.Set("WWW-Authenticate", "Bearer");
  return response;
}

std::string EncodeShaped(const View& view, const Message& object, bool columns) {
  switch (view.accepted.shape) {
    case Shape::kTable: return EncodeTable(view, {&object}, nullptr, columns);
    case Shape::kPartialMetadata: {
      PartialObjectMetadata partial;
      *partial.mutable_metadata() = codec::MetaOf(object);
      return PartialText(partial, view);
    }
    case Shape::kObject: return EncodeMessage(object, view.accepted.format);
  }
  return {};
}

http::Response AnswerObject(int status, const View& view, const Message& object) {
  return Presented(status, view.accepted.format, EncodeShaped(view, object, true));
}

http::Response AnswerList(const View& view, const std::vector<ObjectPtr>& objects,
                          const ListMetaText& meta) {
  const Format format = view.accepted.format;
  switch (view.accepted.shape) {
    case Shape::kTable: {
      std::vector<const Message*> rows;
      rows.reserve(objects.size());
      for (const auto& object : objects) rows.push_back(object.get());
      return Presented(200, format, EncodeTable(view, rows, &meta, true));
    }
    case Shape::kPartialMetadata: {
      PartialObjectMetadataList list;
      FillListMeta(meta, list.mutable_metadata());
      for (const auto& object : objects) {
        *list.add_items()->mutable_metadata() = codec::MetaOf(*object);
      }
      return Presented(200, format, PartialText(list, view));
    }
    case Shape::kObject: break;
  }
  return Presented(200, format,
                   format == Format::kProtobuf ? ListProtobuf(*view.kind, objects, meta)
                                               : ListJson(*view.kind, objects, meta));
}

}  // namespace skiff::cp

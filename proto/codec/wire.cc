#include "proto/codec/wire.h"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>
#include <google/protobuf/message.h>

#include "proto/codec/json.h"
#include "proto/codec/meta.h"
#include "proto/k8s/meta/v1/status.pb.h"
#include "proto/k8s/runtime/raw.pb.h"

namespace skiff::codec {
namespace {

using google::protobuf::io::CodedInputStream;

constexpr std::string_view kMagic("k8s\0", 4);
constexpr int kMaxNesting = 200;

// Tags of runtime.Unknown and runtime.TypeMeta: all fields are length-delimited (wire type 2).
constexpr uint32_t Tag(uint32_t number) { return number << 3 | 2; }
constexpr uint32_t kUnknownTypeMeta = Tag(1);
constexpr uint32_t kUnknownRaw = Tag(2);
constexpr uint32_t kUnknownContentEncoding = Tag(3);
constexpr uint32_t kUnknownContentType = Tag(4);
constexpr uint32_t kTypeMetaApiVersion = Tag(1);
constexpr uint32_t kTypeMetaKind = Tag(2);

void AppendVarint(uint64_t value, std::string* out) {
  for (; value >= 0x80; value >>= 7) out->push_back(static_cast<char>(value | 0x80));
  out->push_back(static_cast<char>(value));
}

void AppendField(uint32_t tag, std::string_view value, std::string* out) {
  AppendVarint(tag, out);
  AppendVarint(value.size(), out);
  out->append(value);
}

// Steps through a message's length-delimited fields without copying them. Other fields are refused:
// the envelope has none.
class FieldReader {
 public:
  explicit FieldReader(std::string_view bytes) : rest_(bytes) {}

  // False at the end and after damage; ok() tells which.
  bool Next(uint32_t* tag, std::string_view* value) {
    if (rest_.empty()) return false;
    uint64_t number = 0;
    uint64_t length = 0;
    ok_ = Varint(&number) && (number & 7) == 2 && number <= UINT32_MAX && Varint(&length) &&
          length <= rest_.size();
    if (!ok_) return false;
    *tag = static_cast<uint32_t>(number);
    *value = rest_.substr(0, length);
    rest_.remove_prefix(length);
    return true;
  }
  bool ok() const { return ok_; }

 private:
  bool Varint(uint64_t* value) {
    *value = 0;
    for (unsigned shift = 0; shift < 64 && !rest_.empty(); shift += 7) {
      auto byte = static_cast<unsigned char>(rest_[0]);
      rest_.remove_prefix(1);
      *value |= static_cast<uint64_t>(byte & 0x7F) << shift;
      if (byte < 0x80) return true;
    }
    return false;
  }

  std::string_view rest_;
  bool ok_ = true;
};

Error Damaged() {
  return Error(Code::kInvalidArgument, "the protobuf envelope of the object is damaged");
}

}  // namespace

bool IsWireEnvelope(std::string_view bytes) { return bytes.starts_with(kMagic); }

std::string EncodeWire(const google::protobuf::Message& object) {
  std::string type_meta;
  const GroupVersionKind* gvk = GvkOf(object);
  AppendField(kTypeMetaApiVersion, gvk != nullptr ? gvk->ApiVersion() : "", &type_meta);
  AppendField(kTypeMetaKind, gvk != nullptr ? gvk->kind : "", &type_meta);
  size_t size = object.ByteSizeLong();
  std::string out;
  out.reserve(kMagic.size() + type_meta.size() + size + 24);
  out.append(kMagic);
  AppendField(kUnknownTypeMeta, type_meta, &out);
  AppendVarint(kUnknownRaw, &out);
  AppendVarint(size, &out);
  {
    google::protobuf::io::StringOutputStream stream(&out);
    google::protobuf::io::CodedOutputStream coded(&stream);
    // Equal objects have equal bytes: maps by key, as upstream writes them.
    coded.SetSerializationDeterministic(true);
    object.SerializeWithCachedSizes(&coded);
  }
  // Written although empty, as upstream does.
  AppendField(kUnknownContentEncoding, "", &out);
  AppendField(kUnknownContentType, "", &out);
  return out;
}

Result<WireEnvelope> OpenWireEnvelope(std::string_view bytes) {
  if (!IsWireEnvelope(bytes)) {
    return Error(Code::kInvalidArgument,
                 "provided data does not appear to be a protobuf message, expected prefix "
                 "[107 56 115 0]");
  }
  WireEnvelope envelope;
  std::string_view encoding, type_meta, value;
  uint32_t tag = 0;
  FieldReader fields(bytes.substr(kMagic.size()));
  while (fields.Next(&tag, &value)) {
    if (tag == kUnknownTypeMeta) type_meta = value;
    if (tag == kUnknownRaw) envelope.object = value;
    if (tag == kUnknownContentEncoding) encoding = value;
    if (tag == kUnknownContentType) envelope.content_type = value;
  }
  FieldReader meta(type_meta);
  while (meta.Next(&tag, &value)) {
    if (tag == kTypeMetaApiVersion) envelope.api_version = value;
    if (tag == kTypeMetaKind) envelope.kind = value;
  }
  if (!fields.ok() || !meta.ok()) return Damaged();
  if (!encoding.empty()) {
    return Error(Code::kInvalidArgument,
                 "the content encoding " + std::string(encoding) + " of the object is not known");
  }
  return envelope;
}

Result<> DecodeWire(std::string_view bytes, google::protobuf::Message* object) {
  WireEnvelope envelope = TRY(OpenWireEnvelope(bytes));
  if (!envelope.content_type.empty() &&
      envelope.content_type != "application/vnd.kubernetes.protobuf") {
    return Error(
        Code::kInvalidArgument,
        "the envelope holds " + std::string(envelope.content_type) + " instead of protobuf");
  }
  object->Clear();
  CodedInputStream input(reinterpret_cast<const uint8_t*>(envelope.object.data()),
                         static_cast<int>(envelope.object.size()));
  input.SetRecursionLimit(kMaxNesting);
  if (!object->ParseFromCodedStream(&input) || !input.ConsumedEntireMessage()) return Damaged();
  return Normalize(object);
}

std::string EncodeWatchFrame(std::string_view type, std::string_view envelope) {
  k8s::meta::v1::WatchEvent event;
  event.set_type(std::string(type));
  event.mutable_object()->set_raw(std::string(envelope));
  size_t size = event.ByteSizeLong();
  std::string frame;
  for (int shift = 24; shift >= 0; shift -= 8) {
    frame.push_back(static_cast<char>(size >> shift & 0xFF));
  }
  event.AppendToString(&frame);
  return frame;
}

}  // namespace skiff::codec

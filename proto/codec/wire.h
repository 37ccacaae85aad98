// application/vnd.kubernetes.protobuf: "k8s\0" and a runtime.Unknown around the object's bytes.
//
// Pure functions, any thread.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"

namespace google::protobuf {
class Message;
}

namespace skiff::codec {

// True if the bytes begin as an envelope does.
bool IsWireEnvelope(std::string_view bytes);

// The object in its envelope; apiVersion and kind are those of the message's gvk option.
std::string EncodeWire(const google::protobuf::Message& object);

// The views point into the bytes the envelope was read from.
struct WireEnvelope {
  std::string_view api_version;
  std::string_view kind;
  std::string_view object;        // protobuf, unless content_type says otherwise
  std::string_view content_type;  // empty for protobuf
};

// InvalidArgument: no envelope, or a damaged one.
Result<WireEnvelope> OpenWireEnvelope(std::string_view bytes);

// The object of an envelope into *object, which is cleared first, and normalised (json.h).
// InvalidArgument: damaged bytes, or a content that is not protobuf.
Result<> DecodeWire(std::string_view bytes, google::protobuf::Message* object);

// A frame of a protobuf watch (application/vnd.kubernetes.protobuf;stream=watch): four bytes of
// length, big-endian, and a meta.v1.WatchEvent. `envelope` is EncodeWire of the event's object.
std::string EncodeWatchFrame(std::string_view type, std::string_view envelope);

}  // namespace skiff::codec

// Maps by reflection, in place.
//
// Public reflection gives a map only as repeated entries, for which the message keeps a second copy
// of the whole map from then on. What is needed here is private to it, with friends for bindings of
// other languages; this file is one of those friends and the only place that relies on it
// (google/protobuf/message.h, protobuf 3.21).
#pragma once

#include <google/protobuf/map_field.h>
#include <google/protobuf/message.h>

// The name is given by protobuf's friend declaration.
namespace google::protobuf::expr {

class CelMapReflectionFriend {
 public:
  static int Size(const Message& message, const FieldDescriptor* field) {
    return message.GetReflection()->MapSize(message, field);
  }
  // Iteration does not change the map; only the signature is not const.
  static MapIterator Begin(const Message& message, const FieldDescriptor* field) {
    return message.GetReflection()->MapBegin(const_cast<Message*>(&message), field);
  }
  static MapIterator End(const Message& message, const FieldDescriptor* field) {
    return message.GetReflection()->MapEnd(const_cast<Message*>(&message), field);
  }
  // False if the key was there.
  static bool Insert(Message* message, const FieldDescriptor* field, const MapKey& key,
                     MapValueRef* value) {
    return message->GetReflection()->InsertOrLookupMapValue(message, field, key, value);
  }
};

}  // namespace google::protobuf::expr

namespace skiff::codec {
using MapAccess = google::protobuf::expr::CelMapReflectionFriend;
}

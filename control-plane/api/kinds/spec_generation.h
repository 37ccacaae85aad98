// metadata.generation: raised by one whenever what the user wants changes.
#pragma once

#include <google/protobuf/message.h>

namespace k8s::meta::v1 {
class ObjectMeta;
}

namespace skiff::cp {

// True if two objects say the same, whatever form their bytes came in.
bool SameMessage(const google::protobuf::Message& a, const google::protobuf::Message& b);

// Sets *meta's generation: old_meta's, or one more if the specs differ.
void RaiseGeneration(const google::protobuf::Message& spec,
                     const google::protobuf::Message& old_spec,
                     const k8s::meta::v1::ObjectMeta& old_meta, k8s::meta::v1::ObjectMeta* meta);

}  // namespace skiff::cp

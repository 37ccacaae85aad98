#include "control-plane/api/kinds/spec_generation.h"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>

#include <string>

#include "proto/k8s/meta/v1/object.pb.h"

namespace skiff::cp {
namespace {

// Maps sorted. Objects are normalised when decoded, so equal ones have equal bytes.
std::string Bytes(const google::protobuf::Message& message) {
  std::string bytes;
  google::protobuf::io::StringOutputStream stream(&bytes);
  google::protobuf::io::CodedOutputStream coded(&stream);
  coded.SetSerializationDeterministic(true);
  message.SerializeToCodedStream(&coded);
  coded.Trim();
  return bytes;
}

}  // namespace

bool SameMessage(const google::protobuf::Message& a, const google::protobuf::Message& b) {
  return Bytes(a) == Bytes(b);
}

void RaiseGeneration(const google::protobuf::Message& spec,
                     const google::protobuf::Message& old_spec,
                     const k8s::meta::v1::ObjectMeta& old_meta, k8s::meta::v1::ObjectMeta* meta) {
  int64_t generation = old_meta.generation();
  meta->set_generation(SameMessage(spec, old_spec) ? generation : generation + 1);
}

}  // namespace skiff::cp

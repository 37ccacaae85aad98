// Objects that the tests of the node link begin with.
#pragma once

#include <string>

#include "proto/k8s/core/v1/node.pb.h"

namespace skiff::cp {

inline k8s::core::v1::Node MakeNode(const std::string& name) {
  k8s::core::v1::Node node;
  node.mutable_metadata()->set_name(name);
  return node;
}

}  // namespace skiff::cp

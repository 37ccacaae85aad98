// The objects beside pods that a node is told of, as pods name them.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "proto/k8s/fwd.h"

namespace skiff::agent {

// Thread-safe; what is returned never changes.
class ObjectSource {
 public:
  virtual ~ObjectSource() = default;
  // Null when there is none.
  virtual std::shared_ptr<const k8s::core::v1::ConfigMap> FindConfigMap(
      const std::string& name_space, const std::string& name) const = 0;
  virtual std::shared_ptr<const k8s::core::v1::Secret> FindSecret(
      const std::string& name_space, const std::string& name) const = 0;
  // The handler of a RuntimeClass; nothing when there is no such class.
  virtual std::optional<std::string> FindRuntimeHandler(const std::string& runtime_class) const = 0;
  // Sorted by name.
  virtual std::vector<std::shared_ptr<const k8s::core::v1::Service>> ServicesIn(
      const std::string& name_space) const = 0;
};

}  // namespace skiff::agent

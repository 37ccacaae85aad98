// DesiredState: what the control plane wants of this node, in memory and on disk.
//
// The file is a log of node link messages, appended to at each SyncMark and rewritten when it has
// grown; a node that starts while it is cut off reads it and goes on. Updates between two marks are
// held back: only complete states are seen and stored. What a mark made visible has been written;
// Sync makes it outlive a power cut too, a few milliseconds later: whoever starts a pod does not
// wait for the disk, and a node that loses that much is told again.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "agent/desired/object_source.h"
#include "base/os/unique_fd.h"
#include "base/result.h"
#include "proto/k8s/fwd.h"

namespace google::protobuf {
class Message;
}
namespace skiff::node::v1 {
class ControlMessage;
class ObjectUpdate;
class Welcome;
}  // namespace skiff::node::v1

namespace skiff::agent {

struct ObjectKey {
  // "Pod", "ConfigMap", "Secret", "RuntimeClass", "Service", "EndpointSlice", "Node",
  // "NetworkPolicy", "AddressSet"
  std::string kind;
  std::string name_space;
  std::string name;
  auto operator<=>(const ObjectKey&) const = default;
};

// What a mark made visible.
struct DesiredChange {
  bool full = false;  // everything may have changed; keys are those present now
  std::vector<ObjectKey> changed;
  std::vector<ObjectKey> deleted;
};

// Readers on any thread; Apply on one thread at a time.
class DesiredState : public ObjectSource {
 public:
  // Reads the file (0600, made if absent). A torn end, as a crash leaves it, is dropped; a damaged
  // file is put aside and the node starts with nothing, to be told everything anew.
  static Result<std::unique_ptr<DesiredState>> Open(std::string path);
  ~DesiredState() override;

  // Takes a Welcome, an ObjectUpdate or a SyncMark; others are ignored. The change, at a mark.
  std::optional<DesiredChange> Apply(const skiff::node::v1::ControlMessage& message);

  // True once a complete state is known, from the disk or the link.
  bool complete() const;
  // Whether Sync has something to do.
  bool sync_due() const;
  // Blocks on the disk. On any thread.
  void Sync();
  // For Hello: the last revision that is applied and in the file; 0 for none.
  int64_t resume_revision() const;
  // The last Welcome; empty before any.
  std::unique_ptr<skiff::node::v1::Welcome> welcome() const;

  std::shared_ptr<const k8s::core::v1::ConfigMap> FindConfigMap(
      const std::string& name_space, const std::string& name) const override;
  std::shared_ptr<const k8s::core::v1::Secret> FindSecret(const std::string& name_space,
                                                          const std::string& name) const override;
  std::optional<std::string> FindRuntimeHandler(const std::string& runtime_class) const override;
  std::vector<std::shared_ptr<const k8s::core::v1::Service>> ServicesIn(
      const std::string& name_space) const override;
  std::vector<std::shared_ptr<const k8s::core::v1::Pod>> Pods() const;
  // Null when there is none; the message is of the kind's type.
  std::shared_ptr<const google::protobuf::Message> Find(const ObjectKey& key) const;
  std::vector<ObjectKey> Keys() const;

 private:
  struct Impl;
  explicit DesiredState(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace skiff::agent

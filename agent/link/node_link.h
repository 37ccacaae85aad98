// NodeLink: the node's end of the link to the control plane.
//
// Joins if need be, keeps one Sync open for as long as the node lives, says Hello anew after each
// break, renews the lease and the certificate. What is reported while there is no connection waits,
// the latest for each pod.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "agent/link/credentials.h"
#include "base/result.h"
#include "proto/k8s/fwd.h"

namespace skiff::node::v1 {
class ControlMessage;
class Hello;
class TunnelRequest;
}  // namespace skiff::node::v1

namespace skiff::agent {

// One Tunnel stream. Send from any thread; Receive from one.
class TunnelStream {
 public:
  virtual ~TunnelStream() = default;
  struct Frame {
    uint32_t channel = 0;
    std::string data;
    bool close = false;
    uint32_t port = 0;
  };
  // False when the other side is gone.
  virtual bool Send(Frame frame) = 0;
  // False at the end.
  virtual bool Receive(Frame* frame) = 0;
  // No more frames from here.
  virtual void Finish() = 0;
  // Ends both directions at once; Receive and Send return false. Any thread.
  virtual void Cancel() = 0;
};

struct LinkCallbacks {
  // Fills resume_revision, boot_id and node.
  std::function<void(skiff::node::v1::Hello*)> hello;
  // Welcome, ObjectUpdate, SyncMark: on the link's thread, in order.
  std::function<void(const skiff::node::v1::ControlMessage&)> on_message;
  // A TunnelRequest, on the link's thread: must not block.
  std::function<void(const skiff::node::v1::TunnelRequest&)> on_tunnel;
  // The connection is up (Welcome has come) or down.
  std::function<void(bool)> on_connected;
};

// Thread-safe.
class NodeLink {
 public:
  static std::unique_ptr<NodeLink> Make(JoinOptions options, LinkCallbacks callbacks);
  // Stops.
  virtual ~NodeLink() = default;

  // Runs on threads of its own from here on. Errors of joining are logged and tried again.
  virtual void Start() = 0;
  virtual void Stop() = 0;
  virtual bool connected() const = 0;

  virtual void ReportNode(const k8s::core::v1::Node& node) = 0;
  virtual void ReportPod(const k8s::core::v1::Pod& pod, const k8s::core::v1::PodStatus& status) = 0;
  virtual void ReportGone(const k8s::core::v1::Pod& pod) = 0;
  // Dropped when a thousand wait.
  virtual void ReportEvent(const k8s::core::v1::Event& event) = 0;
  virtual void RefuseTunnel(const std::string& tunnel_id, int http_status,
                            const std::string& reason, const std::string& message) = 0;
  // Opens a tunnel for a request. Unavailable without a connection.
  virtual Result<std::shared_ptr<TunnelStream>> OpenTunnel(const std::string& tunnel_id) = 0;
};

}  // namespace skiff::agent

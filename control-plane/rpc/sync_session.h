// SyncSession: one node's Sync stream. The only part of the link, with tunnel_call and node_link,
// that knows gRPC.
#pragma once

#include <grpcpp/support/server_callback.h>

#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/async/executor.h"
#include "control-plane/rpc/node_feed.h"
#include "control-plane/rpc/node_registry.h"
#include "control-plane/rpc/node_reports.h"
#include "control-plane/rpc/tunnel.h"
#include "proto/skiff/node/v1/node.pb.h"

namespace skiff::cp {

class SyncSession;

// What sessions share. All of it outlives them.
struct LinkContext {
  Client& client;
  Executor& strand;    // the link's own state: feed, sessions
  Executor& blocking;  // API calls
  NodeRegistry& registry;
  NodeFeed& feed;
  TunnelDesk& desk;
  node::v1::ClusterSettings settings;
  // On the strand: a session has been admitted (the one before is ended) or is over.
  std::function<void(const std::shared_ptr<SyncSession>&)> on_admitted;
  // From now on it takes requests for tunnels.
  std::function<void(SyncSession&)> on_welcomed;
  std::function<void(SyncSession&)> on_ended;
};

// State is confined to the strand; the methods of the reactor only post to it. Keeps itself alive
// until gRPC is done with it.
class SyncSession : public grpc::ServerBidiReactor<node::v1::NodeMessage, node::v1::ControlMessage>,
                    public std::enable_shared_from_this<SyncSession> {
 public:
  static constexpr size_t kMaxTunnelRequests = 256;
  static constexpr std::chrono::seconds kHelloTimeout{30};

  static std::shared_ptr<SyncSession> Begin(std::shared_ptr<LinkContext> link,
                                            std::string certificate_pem);

  // On the strand:
  const std::string& node() const { return node_; }
  // Whether it takes requests for tunnels: it has been welcomed, and is not over.
  bool welcomed() const { return welcomed_ && !ended_; }
  // Queues a request; false when the node takes no more.
  bool SendTunnelRequest(const node::v1::TunnelRequest& request);
  // The feed has become ready, or the node's object has changed.
  void NodeChanged();
  // Ends the stream; the node sees the status.
  void End(grpc::Status status);

  void OnReadDone(bool ok) override;
  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;

 private:
  SyncSession(std::shared_ptr<LinkContext> link, std::string certificate_pem);
  void Take(const node::v1::NodeMessage& message);
  void TakeHello(const node::v1::Hello& hello);
  void Admit(Result<std::string> node);
  void WelcomeIfReady();
  void TakeReport(const node::v1::NodeMessage& message);
  void Fail(const Error& error);
  void WriteNext();
  bool FillNext();
  void FinishNow();

  const std::shared_ptr<LinkContext> link_;
  const std::string certificate_pem_;
  std::shared_ptr<SyncSession> self_;
  node::v1::NodeMessage incoming_;
  node::v1::ControlMessage outgoing_;
  Executor::TimerId hello_timer_ = 0;
  bool greeted_ = false;
  bool admitted_ = false;
  bool welcomed_ = false;
  bool writing_ = false;
  bool ended_ = false;
  bool finished_ = false;
  grpc::Status end_status_;
  std::string node_;
  std::vector<std::string> pod_cidrs_;  // as the Welcome said
  int64_t resume_position_ = 0;
  std::unique_ptr<NodeReports> reports_;
  std::deque<node::v1::TunnelRequest> tunnel_requests_;
};

}  // namespace skiff::cp

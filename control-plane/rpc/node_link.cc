#include "control-plane/rpc/node_link.h"

#include <grpcpp/grpcpp.h>
#include <sys/socket.h>

#include <future>
#include <map>
#include <mutex>
#include <set>
#include <thread>

#include "base/async/elastic_pool.h"
#include "base/async/executor.h"
#include "base/grpc/status.h"
#include "base/log.h"
#include "base/net/socket_address.h"
#include "base/os/unique_fd.h"
#include "control-plane/rpc/held_requests.h"
#include "control-plane/rpc/node_feed.h"
#include "control-plane/rpc/node_registry.h"
#include "control-plane/rpc/sync_session.h"
#include "control-plane/rpc/tunnel_call.h"
#include "control-plane/rpc/tunnels.h"
#include "proto/k8s/core/v1/node.pb.h"
#include "proto/skiff/node/v1/node.grpc.pb.h"

namespace skiff::cp {

namespace {

namespace pb = node::v1;

constexpr int kMaxMessageBytes = 16 << 20;
constexpr int kKeepaliveMs = 20'000;
constexpr int kKeepaliveTimeoutMs = 10'000;
constexpr int kMinPeerPingMs = 5'000;
constexpr std::chrono::seconds kRetireGrace{10};

// The client's certificate, which gRPC has verified; empty without one.
std::string PeerCertificate(const grpc::ServerContextBase& context) {
  auto peer = context.auth_context();
  if (peer == nullptr || !peer->IsPeerAuthenticated()) return {};
  auto values = peer->FindPropertyValues(GRPC_X509_PEM_CERT_PROPERTY_NAME);
  return values.empty() ? std::string() : std::string(values[0].data(), values[0].size());
}

grpc::Status NeedsCertificate() {
  return {grpc::StatusCode::UNAUTHENTICATED,
          "a node certificate is needed; join with a token from `skiff token create`"};
}

// The name in a verified node certificate, or empty.
std::string NodeNameOf(const std::string& certificate_pem) {
  constexpr std::string_view kPrefix = "system:node:";
  Result<pki::CertificateInfo> info = pki::ReadCertificate(certificate_pem);
  if (!info.ok() || !info->subject.common_name.starts_with(kPrefix)) return {};
  return info->subject.common_name.substr(kPrefix.size());
}

// A call that ends at once.
template <class Request, class Response>
class RefusedStream : public grpc::ServerBidiReactor<Request, Response> {
 public:
  explicit RefusedStream(const grpc::Status& status) { this->Finish(status); }
  void OnDone() override { delete this; }
};

using ServiceBase = pb::NodeLink::WithCallbackMethod_Join<
    pb::NodeLink::WithCallbackMethod_Sync<pb::NodeLink::WithRawCallbackMethod_Tunnel<
        pb::NodeLink::WithCallbackMethod_Renew<pb::NodeLink::Service>>>>;

class LinkService final : public ServiceBase {
 public:
  LinkService(std::shared_ptr<LinkContext> link, Executor& executor,
              std::function<bool(const std::string&)> is_connected)
      : link_(std::move(link)), executor_(executor), is_connected_(std::move(is_connected)) {}

  grpc::ServerUnaryReactor* Join(grpc::CallbackServerContext* context,
                                 const pb::JoinRequest* request,
                                 pb::JoinResponse* response) override {
    grpc::ServerUnaryReactor* call = context->DefaultReactor();
    link_->blocking.Post([this, call, request, response, peer = context->peer()] {
      Result<JoinOutcome> outcome = link_->registry.Join(request->token(), request->node_name(),
                                                         request->csr_pem(), is_connected_);
      if (!outcome.ok()) {
        log::Warning("join refused",
                     {{"node", request->node_name()}, {"peer", peer}, {"error", outcome.error()}});
        return call->Finish(ToGrpcStatus(outcome.error()));
      }
      response->set_certificate_pem(outcome->certificate_pem);
      response->set_ca_pem(outcome->ca_pem);
      *response->mutable_settings() = link_->settings;
      call->Finish(grpc::Status::OK);
    });
    return call;
  }

  grpc::ServerUnaryReactor* Renew(grpc::CallbackServerContext* context,
                                  const pb::RenewRequest* request,
                                  pb::RenewResponse* response) override {
    grpc::ServerUnaryReactor* call = context->DefaultReactor();
    std::string certificate = PeerCertificate(*context);
    if (certificate.empty()) {
      call->Finish(NeedsCertificate());
      return call;
    }
    link_->blocking.Post([this, call, request, response, certificate] {
      auto renew = [&]() -> Result<JoinOutcome> {
        std::string node = TRY(link_->registry.Authenticate(certificate));
        return link_->registry.Renew(node, request->csr_pem());
      };
      Result<JoinOutcome> outcome = renew();
      if (!outcome.ok()) return call->Finish(ToGrpcStatus(outcome.error()));
      response->set_certificate_pem(outcome->certificate_pem);
      response->set_ca_pem(outcome->ca_pem);
      call->Finish(grpc::Status::OK);
    });
    return call;
  }

  grpc::ServerBidiReactor<pb::NodeMessage, pb::ControlMessage>* Sync(
      grpc::CallbackServerContext* context) override {
    std::string certificate = PeerCertificate(*context);
    if (certificate.empty()) {
      return new RefusedStream<pb::NodeMessage, pb::ControlMessage>(NeedsCertificate());
    }
    return SyncSession::Begin(link_, std::move(certificate)).get();
  }

  grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* Tunnel(
      grpc::CallbackServerContext* context) override {
    std::string node = NodeNameOf(PeerCertificate(*context));
    if (node.empty()) {
      return new RefusedStream<grpc::ByteBuffer, grpc::ByteBuffer>(NeedsCertificate());
    }
    return BeginTunnelCall(executor_, *context,
                           [link = link_, node](const std::string& first,
                                                std::shared_ptr<streaming::Stream> messages) {
                             pb::TunnelFrame frame;
                             return frame.ParseFromString(first) &&
                                    link->desk.Accept(node, frame.tunnel_id(), std::move(messages));
                           });
  }

 private:
  std::shared_ptr<LinkContext> link_;
  Executor& executor_;
  std::function<bool(const std::string&)> is_connected_;
};

// gRPC shares a port with whoever listens on it already (SO_REUSEPORT), which would split the nodes
// between two control planes; so the port is tried without that first.
Result<> CheckPortIsFree(const std::string& listen) {
  if (listen.rfind(':') == std::string::npos) {
    return Error(Code::kInvalidArgument, "node link address \"" + listen + "\" has no port");
  }
  // Names and a port of 0 are left to gRPC's own attempt.
  auto endpoint = net::ParseEndpoint(listen, 0);
  if (!endpoint.ok() || endpoint->port == 0) return {};
  net::SocketAddress address(*endpoint);
  UniqueFd fd(::socket(address.get()->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  int on = 1;
  if (!fd || ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0) {
    return Error::Sys(errno, "socket");
  }
  if (::bind(fd.get(), address.get(), address.size()) != 0 || ::listen(fd.get(), 1) != 0) {
    int error = errno;
    return Error(Code::kUnavailable, "listen on " + listen + ": " + ErrnoText(error));
  }
  return {};
}

class GrpcNodeLink : public NodeLink {
 public:
  GrpcNodeLink()
      : tunnels_(pool_, desk_, [this](const std::string& node, const pb::TunnelRequest& request) {
          SendTunnelRequest(node, request);
        }) {}
  ~GrpcNodeLink() override { Stop(); }

  NodeTunnels& tunnels() override { return tunnels_; }
  Result<> Start(Client& client, NodeLinkOptions options) override;
  int port() const override { return port_; }
  void ReloadServerCertificate(const pki::KeyPair& server) override;
  void Stop() override;
  std::vector<std::string> ConnectedNodes() const override {
    std::lock_guard lock(mutex_);
    return {connected_.begin(), connected_.end()};
  }

 private:
  struct Running {
    std::unique_ptr<LinkService> service;
    std::unique_ptr<grpc::Server> server;
  };
  Result<Running> Listen(const std::string& address);
  void SendTunnelRequest(const std::string& node, const pb::TunnelRequest& request);
  void Send(SyncSession& session, const pb::TunnelRequest& request);
  void OnAdmitted(const std::shared_ptr<SyncSession>& session);
  void OnWelcomed(SyncSession& session);
  void OnEnded(SyncSession& session);
  void OnNode(const std::string& name, const k8s::core::v1::Node* node);
  bool IsConnected(const std::string& node) const {
    std::lock_guard lock(mutex_);
    return connected_.count(node) != 0;
  }
  // Runs on the strand and waits for it.
  void OnStrand(Closure work);

  ThreadPool pool_{"node-link", 2};
  ElasticPool blocking_{"node-link-api", 32, pool_};
  Strand strand_{pool_};
  TunnelDesk desk_{pool_};
  LinkTunnels tunnels_;

  NodeLinkOptions options_;
  std::unique_ptr<NodeRegistry> registry_;
  std::shared_ptr<NodeFeed> feed_;
  std::shared_ptr<LinkContext> link_;
  int port_ = 0;

  mutable std::mutex mutex_;  // a leaf: guards the next three
  std::set<std::string> connected_;
  Running running_;
  std::vector<std::thread> retiring_;
  // On the strand.
  std::map<std::string, std::shared_ptr<SyncSession>> sessions_;
  HeldRequests held_{strand_, desk_};
  bool stopped_ = false;
};

Result<> GrpcNodeLink::Start(Client& client, NodeLinkOptions options) {
  TRY(CheckPortIsFree(options.listen));
  options_ = std::move(options);
  registry_ = std::make_unique<NodeRegistry>(client, options_.ca, pool_.clock());
  std::vector<net::IpAddress> cluster_dns;
  for (const std::string& address : options_.cluster_dns) {
    if (auto ip = net::IpAddress::Parse(address); ip.ok()) cluster_dns.push_back(*ip);
  }
  feed_ = std::make_shared<NodeFeed>(client, strand_, std::move(cluster_dns));
  pb::ClusterSettings settings;
  settings.set_cluster_domain(options_.cluster_domain);
  for (const std::string& address : options_.cluster_dns) settings.add_cluster_dns(address);
  for (const std::string& range : options_.service_cidrs) settings.add_service_cidrs(range);
  for (const std::string& range : options_.cluster_cidrs) settings.add_cluster_cidrs(range);
  settings.set_api_server(options_.api_server);
  link_ = std::make_shared<LinkContext>(
      LinkContext{client, strand_, blocking_, *registry_, *feed_, desk_, std::move(settings),
                  [this](const std::shared_ptr<SyncSession>& session) { OnAdmitted(session); },
                  [this](SyncSession& session) { OnWelcomed(session); },
                  [this](SyncSession& session) { OnEnded(session); }});
  Running running = TRY(Listen(options_.listen));
  {
    std::lock_guard lock(mutex_);
    running_ = std::move(running);
  }
  OnStrand([this] {
    feed_->set_on_ready([this] {
      // A session that ends takes itself out of the map.
      auto sessions = sessions_;
      for (auto& [name, session] : sessions) session->NodeChanged();
    });
    feed_->set_on_node(
        [this](const std::string& name, const k8s::core::v1::Node* node) { OnNode(name, node); });
    feed_->Start();
  });
  return {};
}

Result<GrpcNodeLink::Running> GrpcNodeLink::Listen(const std::string& address) {
  grpc::SslServerCredentialsOptions tls(GRPC_SSL_REQUEST_CLIENT_CERTIFICATE_AND_VERIFY);
  tls.pem_root_certs = options_.ca.certificate_pem;
  // The CA is shown too: a machine that joins has only its hash and takes it from here.
  tls.pem_key_cert_pairs.push_back(
      {options_.server.key_pem, options_.server.certificate_pem + options_.ca.certificate_pem});
  Running running;
  running.service = std::make_unique<LinkService>(
      link_, pool_, [this](const std::string& node) { return IsConnected(node); });
  grpc::ServerBuilder builder;
  int port = 0;
  builder.AddListeningPort(address, grpc::SslServerCredentials(tls), &port);
  builder.RegisterService(running.service.get());
  builder.SetMaxReceiveMessageSize(kMaxMessageBytes);
  // A half-dead connection is found in half a minute. What that means for the node is decided by
  // its lease, not here.
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveTimeoutMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, kMinPeerPingMs);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  running.server = builder.BuildAndStart();
  if (running.server == nullptr || port == 0) {
    return Error(Code::kUnavailable, "node link: cannot listen on " + address);
  }
  port_ = port;
  return running;
}

// The new server shares the port; the old one takes no more connections, and its nodes come back to
// the new one.
void GrpcNodeLink::ReloadServerCertificate(const pki::KeyPair& server) {
  options_.server = server;
  std::string host = options_.listen.substr(0, options_.listen.rfind(':'));
  Result<Running> fresh = Listen(host + ":" + std::to_string(port_));
  if (!fresh.ok()) {
    log::Error("node link keeps its old certificate", {{"error", fresh.error()}});
    return;
  }
  std::lock_guard lock(mutex_);
  Running old = std::exchange(running_, std::move(*fresh));
  retiring_.emplace_back([old = std::move(old)]() mutable {
    old.server->Shutdown(std::chrono::system_clock::now() + kRetireGrace);
    old.server.reset();
  });
}

void GrpcNodeLink::Stop() {
  Running running;
  std::vector<std::thread> retiring;
  {
    std::lock_guard lock(mutex_);
    running = std::move(running_);
    retiring.swap(retiring_);
  }
  if (link_ != nullptr && !stopped_) {
    OnStrand([this] {
      stopped_ = true;
      // Ending a session takes it out of the map.
      auto sessions = sessions_;
      for (auto& [name, session] : sessions) {
        session->End({grpc::StatusCode::UNAVAILABLE, "the control plane is stopping"});
      }
      feed_->Stop();
    });
  }
  if (running.server != nullptr) {
    running.server->Shutdown(std::chrono::system_clock::now() + std::chrono::seconds(2));
    running.server.reset();
  }
  for (std::thread& thread : retiring) thread.join();
  blocking_.Stop();
  pool_.Stop();
}

void GrpcNodeLink::OnStrand(Closure work) {
  std::promise<void> done;
  strand_.Post([&] {
    work();
    done.set_value();
  });
  done.get_future().wait();
}

void GrpcNodeLink::SendTunnelRequest(const std::string& node, const pb::TunnelRequest& request) {
  strand_.Post([this, node, request] {
    auto found = sessions_.find(node);
    if (found == sessions_.end() || !found->second->welcomed()) return held_.Hold(node, request);
    Send(*found->second, request);
  });
}

void GrpcNodeLink::Send(SyncSession& session, const pb::TunnelRequest& request) {
  if (session.SendTunnelRequest(request)) return;
  desk_.Refuse(session.node(), request.tunnel_id(),
               TunnelAnswer::Refused(429, "TooManyRequests",
                                     "too many requests wait for node \"" + session.node() + "\""));
}

void GrpcNodeLink::OnWelcomed(SyncSession& session) {
  for (const pb::TunnelRequest& request : held_.Take(session.node())) Send(session, request);
}

// A node has one session; its newer one ends the older.
void GrpcNodeLink::OnAdmitted(const std::shared_ptr<SyncSession>& session) {
  auto found = sessions_.find(session->node());
  if (found != sessions_.end()) {
    std::shared_ptr<SyncSession> older = found->second;
    older->End({grpc::StatusCode::ABORTED, "the node has connected again"});
  }
  sessions_[session->node()] = session;
  std::lock_guard lock(mutex_);
  connected_.insert(session->node());
}

void GrpcNodeLink::OnEnded(SyncSession& session) {
  auto found = sessions_.find(session.node());
  if (found == sessions_.end() || found->second.get() != &session) return;
  std::shared_ptr<SyncSession> keep = std::move(found->second);
  sessions_.erase(found);
  feed_->Disconnect(session.node());
  desk_.RefuseAll(session.node(),
                  TunnelAnswer::Refused(503, "ServiceUnavailable",
                                        "node \"" + session.node() + "\" has disconnected"));
  std::lock_guard lock(mutex_);
  connected_.erase(session.node());
}

void GrpcNodeLink::OnNode(const std::string& name, const k8s::core::v1::Node* node) {
  auto found = sessions_.find(name);
  if (found == sessions_.end()) return;
  std::shared_ptr<SyncSession> session = found->second;
  if (node != nullptr) return session->NodeChanged();
  session->End({grpc::StatusCode::PERMISSION_DENIED,
                "node \"" + name +
                    "\" has been deleted from the cluster; join again with a token from `skiff "
                    "token create`"});
}

}  // namespace

std::unique_ptr<NodeLink> NodeLink::Make() { return std::make_unique<GrpcNodeLink>(); }

}  // namespace skiff::cp

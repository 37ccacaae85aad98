#include "control-plane/rpc/sync_session.h"

#include "base/grpc/status.h"
#include "base/log.h"
#include "proto/k8s/core/v1/event.pb.h"
#include "proto/k8s/core/v1/node.pb.h"
#include "proto/k8s/core/v1/pod.pb.h"

namespace skiff::cp {

using node::v1::ControlMessage;
using node::v1::NodeMessage;

namespace {

namespace core = k8s::core::v1;

template <class T>
std::optional<T> Parse(const std::string& bytes) {
  T message;
  if (!message.ParseFromString(bytes)) return std::nullopt;
  return message;
}

template <class Report>
PodIdentity IdentityOf(const Report& report) {
  return {report.namespace_(), report.name(), report.uid()};
}

std::vector<std::string> PodCidrsOf(const core::Node& node) {
  if (node.spec().pod_cidrs().empty()) return {node.spec().pod_cidr()};
  return {node.spec().pod_cidrs().begin(), node.spec().pod_cidrs().end()};
}

}  // namespace

SyncSession::SyncSession(std::shared_ptr<LinkContext> link, std::string certificate_pem)
    : link_(std::move(link)), certificate_pem_(std::move(certificate_pem)) {}

std::shared_ptr<SyncSession> SyncSession::Begin(std::shared_ptr<LinkContext> link,
                                                std::string certificate_pem) {
  std::shared_ptr<SyncSession> session(
      new SyncSession(std::move(link), std::move(certificate_pem)));
  session->self_ = session;
  session->link_->strand.Post([session] {
    session->hello_timer_ = session->link_->strand.PostAfter(kHelloTimeout, [session] {
      if (!session->greeted_) {
        session->Fail(Error(Code::kDeadlineExceeded, "no Hello within 30 seconds"));
      }
    });
    session->StartRead(&session->incoming_);
  });
  return session;
}

// ---- gRPC's callbacks ----

void SyncSession::OnReadDone(bool ok) {
  link_->strand.Post([self = shared_from_this(), ok] {
    if (!ok) return self->End(grpc::Status::OK);
    if (self->ended_) return;
    self->Take(self->incoming_);
    self->incoming_.Clear();
    self->StartRead(&self->incoming_);
  });
}

void SyncSession::OnWriteDone(bool ok) {
  link_->strand.Post([self = shared_from_this(), ok] {
    self->writing_ = false;
    if (self->ended_) return self->FinishNow();
    if (!ok) return self->End(grpc::Status::CANCELLED);
    self->WriteNext();
  });
}

void SyncSession::OnCancel() {
  link_->strand.Post([self = shared_from_this()] { self->End(grpc::Status::CANCELLED); });
}

void SyncSession::OnDone() {
  link_->strand.Post([self = shared_from_this()] {
    self->End(grpc::Status::CANCELLED);
    self->self_.reset();
  });
}

// ---- from the node ----

void SyncSession::Take(const NodeMessage& message) {
  if (message.has_hello()) return TakeHello(message.hello());
  if (!admitted_) {
    return Fail(Error(Code::kInvalidArgument, "the first message must be Hello"));
  }
  TakeReport(message);
}

void SyncSession::TakeHello(const node::v1::Hello& hello) {
  if (std::exchange(greeted_, true)) {
    return Fail(Error(Code::kInvalidArgument, "a second Hello"));
  }
  link_->strand.Cancel(hello_timer_);
  std::optional<core::Node> said = Parse<core::Node>(hello.node());
  if (!said) return Fail(Error(Code::kInvalidArgument, "Hello.node is not a k8s.core.v1.Node"));
  resume_position_ = hello.resume_revision();
  link_->blocking.Post(
      [self = shared_from_this(), said = std::move(*said), name = hello.node_name()] {
        NodeRegistry& registry = self->link_->registry;
        Result<std::string> node = registry.Authenticate(self->certificate_pem_);
        if (node.ok() && *node != name) {
          node = Error(Code::kPermissionDenied,
                       "the certificate is for node \"" + *node + "\", not \"" + name + "\"");
        }
        if (node.ok()) {
          if (Result<> done = registry.Register(*node, self->certificate_pem_, said); !done.ok()) {
            node = std::move(done).error().With("register node");
          }
        }
        self->link_->strand.Post(
            [self, node = std::move(node)]() mutable { self->Admit(std::move(node)); });
      });
}

void SyncSession::Admit(Result<std::string> node) {
  if (ended_) return;
  if (!node.ok()) {
    log::Warning("node not admitted", {{"error", node.error()}});
    return Fail(node.error());
  }
  node_ = std::move(*node);
  admitted_ = true;
  reports_ = std::make_unique<NodeReports>(link_->client, link_->blocking, node_);
  link_->on_admitted(shared_from_this());
  log::Info("node connected", {{"node", node_}});
  WelcomeIfReady();
}

// A Welcome says what holds for the whole session. A cluster gets a second address family seldom
// enough for a new session.
void SyncSession::NodeChanged() {
  if (!welcomed_) return WelcomeIfReady();
  std::shared_ptr<const core::Node> object = link_->feed.FindNode(node_);
  if (ended_ || object == nullptr || PodCidrsOf(*object) == pod_cidrs_) return;
  End({grpc::StatusCode::ABORTED, "the node's pod ranges have changed"});
}

// The Welcome waits until the node's address range is allocated.
void SyncSession::WelcomeIfReady() {
  if (!admitted_ || welcomed_ || ended_ || !link_->feed.ready()) return;
  std::shared_ptr<const core::Node> object = link_->feed.FindNode(node_);
  if (object == nullptr || object->spec().pod_cidr().empty()) return;
  welcomed_ = true;
  pod_cidrs_ = PodCidrsOf(*object);
  node::v1::Welcome& welcome = *outgoing_.mutable_welcome();
  *welcome.mutable_settings() = link_->settings;
  for (const std::string& range : pod_cidrs_) welcome.add_pod_cidrs(range);
  welcome.set_full(link_->feed.Connect(node_, resume_position_, [weak = weak_from_this()] {
    if (auto self = weak.lock()) self->WriteNext();
  }));
  writing_ = true;
  StartWrite(&outgoing_);
  link_->on_welcomed(*this);
}

void SyncSession::TakeReport(const NodeMessage& message) {
  switch (message.message_case()) {
    case NodeMessage::kNode:
      if (auto node = Parse<core::Node>(message.node().node())) {
        reports_->ReportNode(std::move(*node));
      }
      return;
    case NodeMessage::kPod:
      if (auto status = Parse<core::PodStatus>(message.pod().status())) {
        reports_->ReportPod(IdentityOf(message.pod()), std::move(*status));
      }
      return;
    case NodeMessage::kPodGone: return reports_->ReportPodGone(IdentityOf(message.pod_gone()));
    case NodeMessage::kEvent:
      if (auto event = Parse<core::Event>(message.event().event())) {
        reports_->ReportEvent(std::move(*event));
      }
      return;
    case NodeMessage::kLease: return reports_->RenewLease(message.lease().lease_duration_seconds());
    case NodeMessage::kTunnelRefused: {
      const node::v1::TunnelRefused& refused = message.tunnel_refused();
      int code =
          refused.http_status() >= 400 && refused.http_status() < 600 ? refused.http_status() : 500;
      return link_->desk.Refuse(node_, refused.tunnel_id(),
                                TunnelAnswer::Refused(code, refused.reason(), refused.message()));
    }
    case NodeMessage::kHello:
    case NodeMessage::MESSAGE_NOT_SET: return;  // of a newer node
  }
}

// ---- to the node ----

bool SyncSession::SendTunnelRequest(const node::v1::TunnelRequest& request) {
  if (!welcomed() || tunnel_requests_.size() >= kMaxTunnelRequests) return false;
  tunnel_requests_.push_back(request);
  WriteNext();
  return true;
}

bool SyncSession::FillNext() {
  outgoing_.Clear();
  // People wait for tunnels; state can wait for the next turn.
  if (!tunnel_requests_.empty()) {
    *outgoing_.mutable_tunnel() = std::move(tunnel_requests_.front());
    tunnel_requests_.pop_front();
    return true;
  }
  if (std::optional<FeedItem> item = link_->feed.Next(node_)) {
    node::v1::ObjectUpdate& update = *outgoing_.mutable_update();
    update.set_kind(FeedKindName(item->kind));
    update.set_namespace_(item->ns);
    update.set_name(item->name);
    update.set_uid(item->uid);
    update.set_revision(item->revision);
    update.set_deleted(item->deleted);
    update.set_object(std::move(item->bytes));
    return true;
  }
  if (std::optional<int64_t> position = link_->feed.NextMark(node_)) {
    outgoing_.mutable_mark()->set_revision(*position);
    return true;
  }
  return false;
}

void SyncSession::WriteNext() {
  if (writing_ || ended_ || !welcomed_ || !FillNext()) return;
  writing_ = true;
  StartWrite(&outgoing_);
}

// ---- the end ----

void SyncSession::Fail(const Error& error) { End(ToGrpcStatus(error)); }

void SyncSession::End(grpc::Status status) {
  if (std::exchange(ended_, true)) return;
  link_->strand.Cancel(hello_timer_);
  end_status_ = std::move(status);
  if (admitted_) {
    log::Info("node disconnected", {{"node", node_}, {"reason", end_status_.error_message()}});
    link_->on_ended(*this);
  }
  reports_.reset();
  tunnel_requests_.clear();
  FinishNow();
}

// gRPC takes the status once no write is under way.
void SyncSession::FinishNow() {
  if (writing_ || std::exchange(finished_, true)) return;
  Finish(end_status_);
}

}  // namespace skiff::cp

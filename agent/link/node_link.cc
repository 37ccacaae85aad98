#include "agent/link/node_link.h"

#include <grpcpp/grpcpp.h>
#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <optional>
#include <thread>

#include "agent/link/channel.h"
#include "base/log.h"
#include "base/random.h"
#include "proto/k8s/core/v1/event.pb.h"
#include "proto/k8s/core/v1/node.pb.h"
#include "proto/k8s/core/v1/pod.pb.h"
#include "proto/skiff/node/v1/node.grpc.pb.h"

namespace skiff::agent {
namespace {

namespace link = skiff::node::v1;
using std::chrono::milliseconds;
using std::chrono::seconds;
using Steady = std::chrono::steady_clock;

constexpr seconds kLeasePeriod{10};
constexpr int kLeaseSeconds = 40;
constexpr size_t kMaxEvents = 1000;
constexpr std::chrono::minutes kRenewalRetry{30};
constexpr milliseconds kMinBackOff{500};
constexpr milliseconds kMaxBackOff{15'000};

using Stub = link::NodeLink::Stub;

class GrpcTunnel : public TunnelStream {
 public:
  GrpcTunnel(std::shared_ptr<Stub> stub, std::string tunnel_id)
      : stub_(std::move(stub)),
        tunnel_id_(std::move(tunnel_id)),
        stream_(stub_->Tunnel(&context_)) {}
  ~GrpcTunnel() override {
    context_.TryCancel();
    // Whoever reads has returned by now; the status must be taken before the stream goes.
    (void)stream_->Finish();
  }

  bool Send(Frame frame) override {
    link::TunnelFrame message;
    message.set_channel(frame.channel);
    message.set_data(std::move(frame.data));
    message.set_close(frame.close);
    std::lock_guard lock(write_mutex_);
    if (finished_) return false;
    if (!tunnel_id_.empty()) message.set_tunnel_id(std::exchange(tunnel_id_, std::string()));
    return stream_->Write(message);
  }
  bool Receive(Frame* frame) override {
    link::TunnelFrame message;
    if (!stream_->Read(&message)) return false;
    *frame = {message.channel(), std::move(*message.mutable_data()), message.close(),
              message.port()};
    return true;
  }
  void Finish() override {
    std::lock_guard lock(write_mutex_);
    if (!std::exchange(finished_, true)) stream_->WritesDone();
  }
  void Cancel() override { context_.TryCancel(); }

 private:
  std::shared_ptr<Stub> stub_;
  std::string tunnel_id_;
  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReaderWriter<link::TunnelFrame, link::TunnelFrame>> stream_;
  std::mutex write_mutex_;
  bool finished_ = false;
};

class GrpcLink : public NodeLink {
 public:
  GrpcLink(JoinOptions options, LinkCallbacks callbacks)
      : options_(std::move(options)), callbacks_(std::move(callbacks)) {}
  ~GrpcLink() override { Stop(); }

  void Start() override {
    thread_ = std::thread([this] { Run(); });
    ::pthread_setname_np(thread_.native_handle(), "link");
  }

  void Stop() override {
    {
      std::lock_guard lock(mutex_);
      stopping_ = true;
      if (sync_ != nullptr) sync_->TryCancel();
      wake_.notify_all();
    }
    if (thread_.joinable()) thread_.join();
  }

  bool connected() const override { return connected_; }

  void ReportNode(const k8s::core::v1::Node& node) override {
    link::NodeMessage message;
    message.mutable_node()->set_node(node.SerializeAsString());
    std::lock_guard lock(mutex_);
    node_ = std::move(message);
    wake_.notify_all();
  }

  void ReportPod(const k8s::core::v1::Pod& pod, const k8s::core::v1::PodStatus& status) override {
    link::NodeMessage message;
    auto* report = message.mutable_pod();
    report->set_namespace_(pod.metadata().namespace_());
    report->set_name(pod.metadata().name());
    report->set_uid(pod.metadata().uid());
    report->set_status(status.SerializeAsString());
    std::lock_guard lock(mutex_);
    pods_[pod.metadata().uid()] = std::move(message);
    wake_.notify_all();
  }

  void ReportGone(const k8s::core::v1::Pod& pod) override {
    link::NodeMessage message;
    auto* gone = message.mutable_pod_gone();
    gone->set_namespace_(pod.metadata().namespace_());
    gone->set_name(pod.metadata().name());
    gone->set_uid(pod.metadata().uid());
    std::lock_guard lock(mutex_);
    gone_[pod.metadata().uid()] = std::move(message);
    wake_.notify_all();
  }

  void ReportEvent(const k8s::core::v1::Event& event) override {
    link::NodeMessage message;
    message.mutable_event()->set_event(event.SerializeAsString());
    std::lock_guard lock(mutex_);
    if (events_.size() >= kMaxEvents) events_.pop_front();
    events_.push_back(std::move(message));
    wake_.notify_all();
  }

  void RefuseTunnel(const std::string& tunnel_id, int http_status, const std::string& reason,
                    const std::string& message_text) override {
    link::NodeMessage message;
    auto* refused = message.mutable_tunnel_refused();
    refused->set_tunnel_id(tunnel_id);
    refused->set_http_status(http_status);
    refused->set_reason(reason);
    refused->set_message(message_text);
    std::lock_guard lock(mutex_);
    refused_.push_back(std::move(message));
    wake_.notify_all();
  }

  Result<std::shared_ptr<TunnelStream>> OpenTunnel(const std::string& tunnel_id) override {
    std::shared_ptr<Stub> stub;
    {
      std::lock_guard lock(mutex_);
      stub = stub_;
    }
    if (stub == nullptr) return Error(Code::kUnavailable, "the node link is down");
    return std::shared_ptr<TunnelStream>(std::make_shared<GrpcTunnel>(stub, tunnel_id));
  }

 private:
  using SyncStream = grpc::ClientReaderWriter<link::NodeMessage, link::ControlMessage>;

  // False when it is time to stop.
  bool Sleep(milliseconds time) {
    std::unique_lock lock(mutex_);
    return !wake_.wait_for(lock, time, [this] { return stopping_; });
  }

  void Run() {
    milliseconds back_off = kMinBackOff;
    std::string last_error;
    while (Sleep(milliseconds(0))) {
      auto ended = RunOnce(&back_off);
      {
        std::lock_guard lock(mutex_);
        if (stopping_) return;
      }
      std::string error = ended.ok() ? "the control plane closed it" : ended.error().message();
      // A long outage is one line, not one for each attempt.
      if (error != last_error) {
        log::Warning("the node link is down; pods go on, trying again",
                     {{"server", options_.server}, {"error", error}});
      }
      last_error = error;
      // Spread, so that a thousand nodes do not come back in the same moment.
      auto jitter = static_cast<unsigned char>(RandomBytes(1)[0]);
      if (!Sleep(back_off * (256 + jitter) / 512)) return;
      back_off = std::min(back_off * 2, kMaxBackOff);
    }
  }

  Result<> RunOnce(milliseconds* back_off) {
    if (!credentials_) credentials_ = TRY(LoadOrJoin(options_));
    RenewIfDue();
    auto channel = MakeLinkChannel(options_.server, credentials_->ca_pem, &credentials_->node);
    auto stub = std::shared_ptr<Stub>(link::NodeLink::NewStub(channel));
    grpc::ClientContext context;
    {
      std::lock_guard lock(mutex_);
      if (stopping_) return {};
      sync_ = &context;
      stub_ = stub;
    }
    auto stream = stub->Sync(&context);
    link::NodeMessage hello;
    hello.mutable_hello()->set_node_name(options_.node_name);
    hello.mutable_hello()->set_agent_version(options_.agent_version);
    callbacks_.hello(hello.mutable_hello());
    bool greeted = stream->Write(hello);
    std::thread writer;
    if (greeted) {
      session_over_ = false;
      writer = std::thread([this, raw = stream.get(), &context] { WriteLoop(*raw, context); });
      ::pthread_setname_np(writer.native_handle(), "link-write");
      ReadLoop(*stream, back_off);
    }
    {
      std::lock_guard lock(mutex_);
      session_over_ = true;
      stub_ = nullptr;
      wake_.notify_all();
    }
    // Not cancelled here: the server has ended the call, and cancelling would hide its reason. A
    // write that is under way fails with the call.
    if (writer.joinable()) writer.join();
    grpc::Status status = stream->Finish();
    {
      std::lock_guard lock(mutex_);
      sync_ = nullptr;
    }
    if (connected_.exchange(false)) callbacks_.on_connected(false);
    if (status.ok() || status.error_code() == grpc::StatusCode::CANCELLED) return {};
    return Error(Code::kUnavailable, status.error_message());
  }

  void ReadLoop(SyncStream& stream, milliseconds* back_off) {
    link::ControlMessage message;
    while (stream.Read(&message)) {
      if (message.has_tunnel()) {
        callbacks_.on_tunnel(message.tunnel());
        continue;
      }
      bool first = message.has_welcome() && !connected_.exchange(true);
      callbacks_.on_message(message);
      if (first) {
        *back_off = kMinBackOff;
        log::Info("the node link is up", {{"server", options_.server}});
        callbacks_.on_connected(true);
        std::lock_guard lock(mutex_);
        lease_due_ = Steady::now();
        wake_.notify_all();
      }
    }
  }

  // The next message to send; the caller has the lock.
  std::optional<link::NodeMessage> TakeNext() {
    if (Steady::now() >= lease_due_) {
      lease_due_ = Steady::now() + kLeasePeriod;
      link::NodeMessage message;
      message.mutable_lease()->set_lease_duration_seconds(kLeaseSeconds);
      return message;
    }
    auto take = [](auto& queue) {
      auto message = std::move(queue.front());
      queue.pop_front();
      return message;
    };
    if (!refused_.empty()) return take(refused_);
    if (node_) return std::exchange(node_, std::nullopt);
    for (auto* map : {&pods_, &gone_}) {
      if (map->empty()) continue;
      auto message = std::move(map->begin()->second);
      map->erase(map->begin());
      return message;
    }
    if (!events_.empty()) return take(events_);
    return std::nullopt;
  }

  void WriteLoop(SyncStream& stream, grpc::ClientContext& context) {
    auto renewal = RenewalDue();
    std::unique_lock lock(mutex_);
    while (!session_over_ && !stopping_) {
      if (!connected_) {
        wake_.wait(lock);
        continue;
      }
      if (std::chrono::system_clock::now() >= renewal) {
        context.TryCancel();  // the next session begins with the renewal
        return;
      }
      auto message = TakeNext();
      if (!message) {
        wake_.wait_until(lock, lease_due_);
        continue;
      }
      lock.unlock();
      bool written = stream.Write(*message);
      lock.lock();
      if (!written) {
        context.TryCancel();
        return;
      }
    }
  }

  WallTime RenewalDue() const {
    auto info = pki::ReadCertificate(credentials_->node.certificate_pem);
    if (!info.ok()) return WallTime::max();
    return std::max(pki::RenewalTime(*info), renewal_retry_);
  }

  void RenewIfDue() {
    if (std::chrono::system_clock::now() < RenewalDue()) return;
    auto renewed = Renew(options_, *credentials_);
    if (renewed.ok()) {
      credentials_ = *std::move(renewed);
      log::Info("the node's certificate is renewed");
    } else {
      renewal_retry_ = std::chrono::system_clock::now() + kRenewalRetry;
      log::Warning("cannot renew the node's certificate; going on with the present one",
                   {{"error", renewed.error()}});
    }
  }

  const JoinOptions options_;
  const LinkCallbacks callbacks_;
  std::optional<NodeCredentials> credentials_;  // of the link's thread
  WallTime renewal_retry_;                      // likewise: after a renewal that failed
  std::thread thread_;
  std::atomic<bool> connected_ = false;

  std::mutex mutex_;
  std::condition_variable wake_;
  bool stopping_ = false;
  bool session_over_ = true;
  grpc::ClientContext* sync_ = nullptr;
  std::shared_ptr<Stub> stub_;
  Steady::time_point lease_due_;
  std::optional<link::NodeMessage> node_;
  std::map<std::string, link::NodeMessage> pods_;  // the latest by uid
  std::map<std::string, link::NodeMessage> gone_;  // by uid; sent after the last status
  std::deque<link::NodeMessage> events_;
  std::deque<link::NodeMessage> refused_;
};

}  // namespace

std::unique_ptr<NodeLink> NodeLink::Make(JoinOptions options, LinkCallbacks callbacks) {
  return std::make_unique<GrpcLink>(std::move(options), std::move(callbacks));
}

}  // namespace skiff::agent

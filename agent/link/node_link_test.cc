// The link against a control plane in this process, over TLS on loopback.
#include "agent/link/node_link.h"

#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <condition_variable>
#include <future>
#include <mutex>

#include "base/os/files.h"
#include "proto/k8s/core/v1/node.pb.h"
#include "proto/k8s/core/v1/pod.pb.h"
#include "proto/skiff/node/v1/node.grpc.pb.h"

namespace skiff::agent {
namespace {

namespace link = skiff::node::v1;
using std::chrono::seconds;

constexpr char kToken[] = "abcdef.0123456789abcdef";

class FakeControlPlane : public link::NodeLink::Service {
 public:
  FakeControlPlane() {
    WallTime now = Clock::Real().WallNow();
    ca = pki::MakeCa("test", now).value();
    server_pair =
        pki::MakeLeaf(ca, {{"server", {}}, pki::Usage::kServer, {"127.0.0.1"}}, now).value();
    Listen(0);
  }
  ~FakeControlPlane() override { StopServing(); }

  void Listen(int at) {
    grpc::SslServerCredentialsOptions tls(GRPC_SSL_REQUEST_CLIENT_CERTIFICATE_AND_VERIFY);
    tls.pem_root_certs = ca.certificate_pem;
    tls.pem_key_cert_pairs.push_back(
        {server_pair.key_pem, server_pair.certificate_pem + ca.certificate_pem});
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:" + std::to_string(at), grpc::SslServerCredentials(tls),
                             &port);
    builder.RegisterService(this);
    server = builder.BuildAndStart();
  }
  void StopServing() {
    if (server == nullptr) return;
    server->Shutdown(std::chrono::system_clock::now());
    server.reset();
  }

  grpc::Status Join(grpc::ServerContext*, const link::JoinRequest* request,
                    link::JoinResponse* response) override {
    if (request->token() != kToken) {
      return grpc::Status(grpc::StatusCode::UNAUTHENTICATED, "unknown token");
    }
    auto certificate = pki::SignRequest(
        ca, request->csr_pem(), {pki::NodeSubject(request->node_name())}, Clock::Real().WallNow());
    response->set_certificate_pem(certificate.value());
    response->set_ca_pem(ca.certificate_pem);
    ++joins;
    return grpc::Status::OK;
  }

  grpc::Status Sync(
      grpc::ServerContext* context,
      grpc::ServerReaderWriter<link::ControlMessage, link::NodeMessage>* stream) override {
    if (context->auth_context()->GetPeerIdentity().empty()) {
      return grpc::Status(grpc::StatusCode::UNAUTHENTICATED, "no certificate");
    }
    link::NodeMessage message;
    if (!stream->Read(&message) || !message.has_hello()) return grpc::Status::CANCELLED;
    Received(message);
    link::ControlMessage welcome;
    welcome.mutable_welcome()->set_full(message.hello().resume_revision() == 0);
    welcome.mutable_welcome()->add_pod_cidrs("10.244.1.0/24");
    stream->Write(welcome);
    if (!tunnel_to_request.empty()) {
      link::ControlMessage request;
      request.mutable_tunnel()->set_tunnel_id(tunnel_to_request);
      stream->Write(request);
    }
    while (stream->Read(&message)) Received(message);
    return grpc::Status::OK;
  }

  grpc::Status Tunnel(
      grpc::ServerContext*,
      grpc::ServerReaderWriter<link::TunnelFrame, link::TunnelFrame>* stream) override {
    link::TunnelFrame frame;
    if (!stream->Read(&frame)) return grpc::Status::CANCELLED;
    link::TunnelFrame answer;
    answer.set_channel(0);
    answer.set_data("for " + frame.tunnel_id());
    stream->Write(answer);
    while (stream->Read(&frame)) {
    }
    return grpc::Status::OK;
  }

  void Received(const link::NodeMessage& message) {
    std::lock_guard lock(mutex);
    messages.push_back(message);
    wake.notify_all();
  }
  // Waits for a message that the predicate takes; a default one after ten seconds.
  link::NodeMessage Await(const std::function<bool(const link::NodeMessage&)>& wanted) {
    std::unique_lock lock(mutex);
    link::NodeMessage found;
    (void)wake.wait_for(lock, seconds(10), [&] {
      for (const auto& message : messages) {
        if (!wanted(message)) continue;
        found = message;
        return true;
      }
      return false;
    });
    return found;
  }
  void Clear() {
    std::lock_guard lock(mutex);
    messages.clear();
  }

  pki::KeyPair ca;
  pki::KeyPair server_pair;
  int port = 0;
  int joins = 0;
  std::string tunnel_to_request;
  std::unique_ptr<grpc::Server> server;
  std::mutex mutex;
  std::condition_variable wake;
  std::vector<link::NodeMessage> messages;
};

class NodeLinkTest : public ::testing::Test {
 protected:
  JoinOptions Options() {
    return {"127.0.0.1:" + std::to_string(control.port),
            "node-1",
            kToken,
            pki::PublicKeyHash(control.ca.certificate_pem).value(),
            "",
            directory.path() + "/pki",
            "v1"};
  }
  LinkCallbacks Callbacks() {
    LinkCallbacks callbacks;
    callbacks.hello = [this](link::Hello* hello) { hello->set_resume_revision(resume_revision); };
    callbacks.on_message = [](const link::ControlMessage&) {};
    callbacks.on_tunnel = [this](const link::TunnelRequest& request) {
      tunnel_requested.set_value(request.tunnel_id());
    };
    callbacks.on_connected = [](bool) {};
    return callbacks;
  }
  static k8s::core::v1::Pod Pod(const std::string& name) {
    k8s::core::v1::Pod pod;
    pod.mutable_metadata()->set_name(name);
    pod.mutable_metadata()->set_namespace_("default");
    pod.mutable_metadata()->set_uid("uid-" + name);
    return pod;
  }
  static bool IsHello(const link::NodeMessage& message) { return message.has_hello(); }
  static bool IsPod(const link::NodeMessage& message) { return message.has_pod(); }
  static bool IsGone(const link::NodeMessage& message) { return message.has_pod_gone(); }
  static bool IsLease(const link::NodeMessage& message) { return message.has_lease(); }

  TempDir directory = TempDir::Make().value();
  FakeControlPlane control;
  int64_t resume_revision = 0;
  std::promise<std::string> tunnel_requested;
};

TEST_F(NodeLinkTest, JoinsWithAPinAndReports) {
  auto node = NodeLink::Make(Options(), Callbacks());
  k8s::core::v1::PodStatus status;
  status.set_phase("Pending");
  node->ReportPod(Pod("a"), status);  // waits for the connection
  status.set_phase("Running");
  node->ReportPod(Pod("a"), status);
  node->ReportGone(Pod("b"));
  node->Start();
  EXPECT_EQ(control.Await(IsHello).hello().node_name(), "node-1");
  k8s::core::v1::PodStatus reported;
  ASSERT_TRUE(reported.ParseFromString(control.Await(IsPod).pod().status()));
  EXPECT_EQ(reported.phase(), "Running") << "only the latest counts";
  EXPECT_EQ(control.Await(IsGone).pod_gone().uid(), "uid-b");
  EXPECT_EQ(control.Await(IsLease).lease().lease_duration_seconds(), 40);
  EXPECT_TRUE(node->connected());
}

TEST_F(NodeLinkTest, ComesBackWithItsCertificateAfterABreak) {
  auto node = NodeLink::Make(Options(), Callbacks());
  node->Start();
  (void)control.Await(IsHello);
  int port = control.port;
  control.StopServing();
  control.Clear();
  resume_revision = 41;
  control.Listen(port);
  EXPECT_EQ(control.Await(IsHello).hello().resume_revision(), 41);
  EXPECT_EQ(control.joins, 1);
  node->Stop();
  // The next process has the identity on disk and needs no token.
  control.Clear();
  JoinOptions options = Options();
  options.token.clear();
  auto next = NodeLink::Make(options, Callbacks());
  next->Start();
  EXPECT_TRUE(control.Await(IsHello).has_hello());
  EXPECT_EQ(control.joins, 1);
}

TEST_F(NodeLinkTest, TunnelsCarryFrames) {
  control.tunnel_to_request = "t-1";
  auto node = NodeLink::Make(Options(), Callbacks());
  node->Start();
  auto requested = tunnel_requested.get_future();
  ASSERT_EQ(requested.wait_for(seconds(10)), std::future_status::ready);
  auto tunnel = node->OpenTunnel(requested.get());
  ASSERT_TRUE(tunnel.ok());
  ASSERT_TRUE((*tunnel)->Send({0, "", false, 0}));
  TunnelStream::Frame frame;
  ASSERT_TRUE((*tunnel)->Receive(&frame));
  EXPECT_EQ(frame.data, "for t-1");
  (*tunnel)->Finish();
  EXPECT_FALSE((*tunnel)->Receive(&frame));
}

TEST_F(NodeLinkTest, RefusesAForeignControlPlane) {
  JoinOptions options = Options();
  options.ca_hash = "sha256:" + std::string(64, '0');
  auto joined = LoadOrJoin(options);
  ASSERT_FALSE(joined.ok());
  EXPECT_EQ(joined.error().code(), Code::kUnauthenticated);
  EXPECT_THAT(joined.error().message(), ::testing::HasSubstr("does not belong to the cluster"));
  EXPECT_EQ(control.joins, 0) << "the token must not be shown to a stranger";
}

TEST_F(NodeLinkTest, SaysWhatToDoAboutAWrongToken) {
  JoinOptions options = Options();
  options.token = "wrong1.0123456789abcdef";
  auto joined = LoadOrJoin(options);
  ASSERT_FALSE(joined.ok());
  EXPECT_EQ(joined.error().code(), Code::kUnauthenticated);
  EXPECT_THAT(joined.error().message(), ::testing::HasSubstr("skiff token create"));
  options.token.clear();
  EXPECT_EQ(LoadOrJoin(options).error().code(), Code::kFailedPrecondition);
}

TEST_F(NodeLinkTest, AnIdentityIsForOneName) {
  ASSERT_TRUE(LoadOrJoin(Options()).ok());
  JoinOptions options = Options();
  options.node_name = "node-2";
  auto other = LoadOrJoin(options);
  ASSERT_FALSE(other.ok());
  EXPECT_EQ(other.error().code(), Code::kFailedPrecondition);
}

}  // namespace
}  // namespace skiff::agent

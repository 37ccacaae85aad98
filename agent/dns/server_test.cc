#include "agent/dns/server.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>

#include <atomic>
#include <thread>

#include "agent/dns/message.h"
#include "base/os/unique_fd.h"
#include "proto/k8s/core/v1/service.pb.h"
#include "proto/k8s/discovery/v1/discovery.pb.h"

namespace skiff::agent::dns {
namespace {

const net::IpAddress kLoopback = net::IpAddress::V4(127, 0, 0, 1);

sockaddr_in Endpoint(uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

bool Readable(int fd, int milliseconds) {
  pollfd entry{fd, POLLIN, 0};
  return poll(&entry, 1, milliseconds) == 1;
}

std::string AskUdp(uint16_t port, const std::string& query, int milliseconds = 5000) {
  UniqueFd fd(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  sockaddr_in to = Endpoint(port);
  sendto(fd.get(), query.data(), query.size(), 0, reinterpret_cast<sockaddr*>(&to), sizeof to);
  std::string answer(kMaxMessageBytes, '\0');
  if (!Readable(fd.get(), milliseconds)) return {};
  ssize_t size = recv(fd.get(), answer.data(), answer.size(), 0);
  answer.resize(size < 0 ? 0 : static_cast<size_t>(size));
  return answer;
}

std::string AskTcp(uint16_t port, const std::string& query) {
  UniqueFd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in to = Endpoint(port);
  if (connect(fd.get(), reinterpret_cast<sockaddr*>(&to), sizeof to) != 0) return {};
  std::string framed = {static_cast<char>(query.size() >> 8), static_cast<char>(query.size())};
  framed += query;
  send(fd.get(), framed.data(), framed.size(), MSG_NOSIGNAL);
  std::string answer;
  char buffer[4096];
  while (Readable(fd.get(), 5000)) {
    ssize_t size = recv(fd.get(), buffer, sizeof buffer, 0);
    if (size <= 0) break;
    answer.append(buffer, static_cast<size_t>(size));
    size_t want =
        answer.size() < 2
            ? 2
            : 2 + (static_cast<uint8_t>(answer[0]) << 8 | static_cast<uint8_t>(answer[1]));
    if (answer.size() >= want && want > 2) return answer.substr(2);
  }
  return {};
}

// A name server on loopback that answers every question with one address, or as it is told.
class FakeUpstream {
 public:
  FakeUpstream() : udp_(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address = Endpoint(0);
    socklen_t size = sizeof address;
    EXPECT_EQ(bind(udp_.get(), reinterpret_cast<sockaddr*>(&address), size), 0);
    EXPECT_EQ(getsockname(udp_.get(), reinterpret_cast<sockaddr*>(&address), &size), 0);
    port_ = ntohs(address.sin_port);
    thread_ = std::thread([this] { Run(); });
  }
  ~FakeUpstream() {
    stop_ = true;
    shutdown(udp_.get(), SHUT_RDWR);
    AskUdp(port_, "stop", 0);
    thread_.join();
  }
  uint16_t port() const { return port_; }

  std::atomic<int> asked = 0;
  std::atomic<bool> silent = false, forged = false;
  std::atomic<Rcode> rcode = Rcode::kNoError;
  std::atomic<uint32_t> ttl = 60;

 private:
  void Run() {
    while (!stop_) {
      char buffer[2048];
      sockaddr_in peer{};
      socklen_t peer_size = sizeof peer;
      ssize_t size = recvfrom(udp_.get(), buffer, sizeof buffer, 0,
                              reinterpret_cast<sockaddr*>(&peer), &peer_size);
      if (size <= 4) continue;
      auto parsed = ParseQuery({buffer, static_cast<size_t>(size)});
      if (!parsed) continue;
      ++asked;
      if (silent) continue;
      auto send_answer = [&](const Query& query) {
        Answer answer;
        answer.rcode = rcode;
        if (answer.rcode == Rcode::kNoError) {
          answer.answers = {AddressRecord(query.name, net::IpAddress::V4(192, 0, 2, 1), ttl)};
        }
        std::string bytes = WriteResponse(query, answer, kMaxUdpBytes);
        sendto(udp_.get(), bytes.data(), bytes.size(), 0, reinterpret_cast<sockaddr*>(&peer),
               peer_size);
      };
      if (forged) {
        Query other = parsed->query;
        other.id ^= 1;
        send_answer(other);
      }
      send_answer(parsed->query);
    }
  }

  UniqueFd udp_;
  uint16_t port_ = 0;
  std::atomic<bool> stop_ = false;
  std::thread thread_;
};

class DnsServerTest : public testing::Test {
 protected:
  void Start(std::vector<Upstream> upstreams) {
    ServerConfig config;
    config.addresses = {kLoopback};
    config.port = 0;
    config.forward.resolv_conf.clear();
    config.forward.upstreams = std::move(upstreams);
    config.max_connections = 4;
    auto server = DnsServer::Start(std::move(config));
    ASSERT_TRUE(server.ok()) << server.error().ToString();
    server_ = *std::move(server);
  }
  void AddWeb(int addresses = 1) {
    k8s::core::v1::Service service;
    service.mutable_metadata()->set_namespace_("shop");
    service.mutable_metadata()->set_name("web");
    service.mutable_spec()->set_cluster_ip("None");
    server_->SetService(service);
    k8s::discovery::v1::EndpointSlice slice;
    slice.mutable_metadata()->set_namespace_("shop");
    slice.mutable_metadata()->set_name("web-1");
    (*slice.mutable_metadata()->mutable_labels())["kubernetes.io/service-name"] = "web";
    for (int i = 0; i < addresses; ++i) {
      slice.add_endpoints()->add_addresses("10.244." + std::to_string(i / 250) + "." +
                                           std::to_string(i % 250 + 1));
    }
    server_->SetEndpointSlice(slice);
  }
  std::string Query(const std::string& name, uint16_t type = kA) {
    return WriteQuery(7, *ParseName(name), type, false, false);
  }
  std::optional<Response> Ask(const std::string& name, uint16_t type = kA) {
    return ParseResponse(AskUdp(server_->port(), Query(name, type)));
  }

  std::unique_ptr<DnsServer> server_;
};

constexpr char kWeb[] = "web.shop.svc.cluster.local";

TEST_F(DnsServerTest, AnswersOnceTheListingIsComplete) {
  Start({});
  EXPECT_EQ(Ask(kWeb)->rcode, Rcode::kServFail);
  server_->BeginReplace();
  AddWeb();
  server_->SyncDone();
  auto response = Ask(kWeb);
  ASSERT_TRUE(response);
  EXPECT_EQ(response->answers.size(), 1u);

  server_->BeginReplace();
  EXPECT_EQ(Ask(kWeb)->answers.size(), 1u) << "a new listing does not show before it is complete";
  server_->SyncDone();
  EXPECT_EQ(Ask(kWeb)->rcode, Rcode::kNxDomain);
}

TEST_F(DnsServerTest, AnswersFollowTheNamesWhateverWasAskedBefore) {
  Start({});
  AddWeb();
  server_->SyncDone();
  for (int i = 0; i < 3; ++i) EXPECT_EQ(Ask(kWeb)->answers.size(), 1u);
  AddWeb(2);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(Ask(kWeb)->answers.size(), 2u);
  EXPECT_EQ(ParseResponse(AskTcp(server_->port(), Query(kWeb)))->answers.size(), 2u);
  server_->DeleteEndpointSlice("shop", "web-1");
  for (int i = 0; i < 3; ++i) EXPECT_EQ(Ask(kWeb)->rcode, Rcode::kNxDomain);
  server_->DeleteService("shop", "web");
  EXPECT_EQ(Ask(kWeb)->rcode, Rcode::kNxDomain);
  EXPECT_EQ(server_->GetStats().queries, 11u);
}

TEST_F(DnsServerTest, LongAnswersOverTcp) {
  Start({});
  AddWeb(1000);
  server_->SyncDone();
  EXPECT_TRUE(Ask(kWeb)->truncated);
  auto response = ParseResponse(AskTcp(server_->port(), Query(kWeb)));
  ASSERT_TRUE(response);
  EXPECT_EQ(response->answers.size(), 1000u);
}

TEST_F(DnsServerTest, OldConnectionsGoForNewOnes) {
  Start({});
  AddWeb();
  server_->SyncDone();
  std::vector<UniqueFd> idle;
  for (int i = 0; i < 10; ++i) {
    idle.emplace_back(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in to = Endpoint(server_->port());
    ASSERT_EQ(connect(idle.back().get(), reinterpret_cast<sockaddr*>(&to), sizeof to), 0);
  }
  EXPECT_TRUE(ParseResponse(AskTcp(server_->port(), Query(kWeb))));
  EXPECT_TRUE(Readable(idle.front().get(), 5000)) << "closed";
}

TEST_F(DnsServerTest, ForwardsAndRemembers) {
  FakeUpstream upstream;
  upstream.forged = true;
  Start({{kLoopback, upstream.port()}});
  server_->SyncDone();
  for (int i = 0; i < 3; ++i) {
    auto response = Ask("www.example.com");
    ASSERT_TRUE(response);
    ASSERT_EQ(response->answers.size(), 1u);
  }
  EXPECT_EQ(upstream.asked, 1);
  EXPECT_EQ(server_->GetStats().forward.hits, 2u);
}

TEST_F(DnsServerTest, ASilentServerIsPassedOver) {
  FakeUpstream dead, alive;
  dead.silent = true;
  Start({{kLoopback, dead.port()}, {kLoopback, alive.port()}});
  server_->SyncDone();
  EXPECT_EQ(Ask("www.example.com")->answers.size(), 1u);
}

TEST_F(DnsServerTest, AFailureIsToldWhenEveryServerFails) {
  FakeUpstream upstream;
  upstream.rcode = Rcode::kRefused;
  Start({{kLoopback, upstream.port()}});
  server_->SyncDone();
  EXPECT_EQ(Ask("www.example.com")->rcode, Rcode::kRefused);
}

TEST_F(DnsServerTest, NoServersAtAll) {
  Start({});
  server_->SyncDone();
  EXPECT_EQ(Ask("www.example.com")->rcode, Rcode::kServFail);
}

TEST_F(DnsServerTest, ExternalNamesAreFollowed) {
  FakeUpstream upstream;
  Start({{kLoopback, upstream.port()}});
  k8s::core::v1::Service service;
  service.mutable_metadata()->set_namespace_("shop");
  service.mutable_metadata()->set_name("out");
  service.mutable_spec()->set_type("ExternalName");
  service.mutable_spec()->set_external_name("www.example.com");
  server_->SetService(service);
  server_->SyncDone();
  auto response = Ask("out.shop.svc.cluster.local");
  ASSERT_TRUE(response);
  ASSERT_EQ(response->answers.size(), 2u);
  EXPECT_EQ(response->answers[0].type, kCname);
  EXPECT_EQ(response->answers[1].type, kA);
  EXPECT_EQ(NameText(response->answers[1].name), "www.example.com");
}

TEST_F(DnsServerTest, NonsenseIsAnsweredOrDropped) {
  Start({});
  server_->SyncDone();
  EXPECT_EQ(AskUdp(server_->port(), "abc", 50), "");
  std::string half = Query(kWeb).substr(0, 20);
  EXPECT_EQ(AskUdp(server_->port(), half).size(), kHeaderBytes);
  EXPECT_EQ(server_->GetStats().malformed, 2u);
  EXPECT_EQ(Ask(kWeb)->rcode, Rcode::kNxDomain) << "and it goes on";
}

}  // namespace
}  // namespace skiff::agent::dns

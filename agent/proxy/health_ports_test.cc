#include "agent/proxy/health_ports.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/os/unique_fd.h"

namespace skiff::agent::proxy {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

const ObjectKey kWeb{"ns1", "web"};

UniqueFd LoopbackSocket(uint16_t* port, bool listening) {
  UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (listening) {
    EXPECT_EQ(::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    EXPECT_EQ(::listen(fd.get(), 1), 0);
    socklen_t size = sizeof address;
    ::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &size);
    *port = ntohs(address.sin_port);
    return fd;
  }
  address.sin_port = htons(*port);
  if (::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) return {};
  return fd;
}

std::string AskPort(uint16_t port) {
  UniqueFd fd = LoopbackSocket(&port, /*listening=*/false);
  if (!fd.valid()) return "refused";
  const std::string_view request = "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
  EXPECT_EQ(::send(fd.get(), request.data(), request.size(), MSG_NOSIGNAL),
            static_cast<ssize_t>(request.size()));
  std::string answer;
  char buffer[1024];
  for (ssize_t got; (got = ::recv(fd.get(), buffer, sizeof buffer, 0)) > 0;) {
    answer.append(buffer, static_cast<size_t>(got));
  }
  return answer;
}

std::shared_ptr<ServiceState> State(uint16_t port, const std::vector<Endpoint>& endpoints) {
  auto state = std::make_shared<ServiceState>();
  state->service.health_check_node_port = port;
  state->endpoints[{"http", Transport::kTcp}] = endpoints;
  state->endpoints[{"https", Transport::kTcp}] = endpoints;
  return state;
}

Endpoint Local(uint8_t last, bool ready = true) {
  return {.address = net::IpAddress::V4(10, 0, 0, last),
          .port = 80,
          .local = true,
          .ready = ready,
          .serving = true};
}

TEST(HealthPorts, CountReadyPodsOfThisNode) {
  Endpoint other = Local(3);
  other.local = false;
  EXPECT_EQ(CountLocalEndpoints(*State(1, {Local(1), Local(2), other, Local(4, false)})), 2u);
}

TEST(HealthPorts, AnswerAsKubeProxy) {
  http::Response answer = HealthAnswer(kWeb, 2, true);
  EXPECT_EQ(answer.status, 200);
  EXPECT_EQ(answer.headers.Get("Content-Type"), "application/json");
  EXPECT_EQ(answer.headers.Get("X-Load-Balancing-Endpoint-Weight"), "2");
  EXPECT_EQ(answer.body,
            "{\n\t\"service\": {\n\t\t\"namespace\": \"ns1\",\n\t\t\"name\": \"web\"\n\t},\n"
            "\t\"localEndpoints\": 2,\n\t\"serviceProxyHealthy\": true\n}");
  EXPECT_EQ(HealthAnswer(kWeb, 0, true).status, 503);
  EXPECT_EQ(HealthAnswer(kWeb, 2, false).status, 503);
  EXPECT_THAT(HealthAnswer(kWeb, 2, false).body, HasSubstr("\"serviceProxyHealthy\": false"));
}

class HealthPortsTest : public ::testing::Test {
 protected:
  ~HealthPortsTest() override { workers_.Stop(); }
  ThreadPool workers_{"test", 1};
  std::vector<std::string> failures_;
  HealthPorts ports_{{.workers = workers_,
                      .healthy = [] { return true; },
                      .address = "127.0.0.1",
                      .failed = [this](const ObjectKey& service, uint16_t,
                                       const Error&) { failures_.push_back(service.ToString()); }}};
};

TEST_F(HealthPortsTest, AreOpenWhileAServiceHasThem) {
  uint16_t port = 0;
  LoopbackSocket(&port, /*listening=*/true).Reset();
  ports_.Set(kWeb, State(port, {Local(1)}).get());
  EXPECT_THAT(AskPort(port), StartsWith("HTTP/1.1 200 OK"));
  ports_.Set(kWeb, State(port, {}).get());
  EXPECT_THAT(AskPort(port), StartsWith("HTTP/1.1 503"));
  ports_.Set(kWeb, State(0, {}).get());
  EXPECT_EQ(AskPort(port), "refused");
  ports_.Replace({{kWeb, State(port, {Local(1)})}});
  EXPECT_THAT(AskPort(port), StartsWith("HTTP/1.1 200"));
  ports_.Replace({});
  EXPECT_EQ(AskPort(port), "refused");
}

TEST_F(HealthPortsTest, APortOfAnotherProgramIsTakenWhenItIsFree) {
  uint16_t port = 0;
  UniqueFd taken = LoopbackSocket(&port, /*listening=*/true);
  ports_.Set(kWeb, State(port, {Local(1)}).get());
  ports_.Retry();
  EXPECT_EQ(failures_, std::vector<std::string>{"ns1/web"}) << "told once";
  taken.Reset();
  EXPECT_EQ(AskPort(port), "refused");
  ports_.Retry();
  EXPECT_THAT(AskPort(port), StartsWith("HTTP/1.1 200"));
}

}  // namespace
}  // namespace skiff::agent::proxy

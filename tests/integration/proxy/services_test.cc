// How Services behave, on the kernel: every case of service_cases.cc in every mode of the proxy,
// what a change does to connections, and what a stranger's changes do to the rules.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>
#include <functional>
#include <iterator>
#include <map>
#include <memory>
#include <set>
#include <sstream>

#include "base/os/files.h"
#include "tests/integration/proxy/service_cases.h"
#include "tests/integration/proxy/service_lab.h"
#include "tests/support/needs.h"

namespace skiff::agent::proxy {
namespace {

using ::testing::Combine;
using ::testing::Range;
using ::testing::ValuesIn;

// Enough for three endpoints to be chosen at least once: one is missed with a chance of 1e-14.
constexpr int kMostAsks = 80;
constexpr int kAffinityAsks = 12;
constexpr auto kPatience = std::chrono::milliseconds(500);  // with what is dropped
// A refusal that comes while connect() still holds the socket counts at the next SYN, 1 s later.
constexpr auto kRefusal = std::chrono::seconds(10);

const std::vector<std::string>& Modes() {
  static const auto& modes = *new std::vector<std::string>{"iptables", "nftables"};
  return modes;
}

// One lab for the cases of a mode, as making it takes longer than a case.
ServiceLab& Lab(const std::string& mode) {
  static std::string present;
  static std::unique_ptr<ServiceLab> lab;
  struct AtTheEnd : ::testing::Environment {
    void TearDown() override { lab.reset(); }
  };
  static auto* environment = ::testing::AddGlobalTestEnvironment(new AtTheEnd);
  (void)environment;
  if (lab == nullptr || present != mode) {
    lab.reset();
    lab = std::make_unique<ServiceLab>(mode);
    present = mode;
  }
  return *lab;
}

std::set<std::string> Words(std::string_view text) {
  std::istringstream stream{std::string(text)};
  return {std::istream_iterator<std::string>(stream), {}};
}

class ServicesTest : public ::testing::TestWithParam<std::tuple<std::string, size_t>> {
 protected:
  void SetUp() override {
    SKIFF_NEEDS(test::Need::kRoot, test::Need::kIptables, test::Need::kIpv6, test::Need::kConntrack,
                test::Need::kNftables);
    lab_ = &Lab(std::get<0>(GetParam()));
    case_ = ServiceCases()[std::get<1>(GetParam())];
    lab_->Apply(case_);
  }

  void ExpectSource(const test::Answer& answer) {
    const bool itself = case_.from == From::kItself && answer.server == "a";
    if (case_.seen == Seen::kClient && !itself) {
      EXPECT_TRUE(lab_->IsClient(case_, answer.peer)) << answer.server << " saw " << answer.peer;
    } else {
      EXPECT_TRUE(lab_->IsNode(answer.peer)) << answer.server << " saw " << answer.peer;
    }
  }

  ServiceLab* lab_ = nullptr;
  ServiceCase case_;
};

TEST_P(ServicesTest, Behaves) {
  if (case_.transport == test::Transport::kSctp) {
    // The rules at least were accepted.
    std::string missing = test::FirstMissing({test::Need::kSctp});
    if (!missing.empty()) GTEST_SKIP() << "needs " << missing;
  }
  if (case_.answers == "refused" || case_.answers == "dropped") {
    const bool refused = case_.answers == "refused";
    test::Answer answer = lab_->Ask(case_, refused ? kRefusal : kPatience);
    EXPECT_EQ(answer.error, refused ? ECONNREFUSED : ETIMEDOUT) << answer.server << " answered";
    return;
  }
  const std::set<std::string> expected = Words(case_.answers);
  std::set<std::string> seen;
  const int asks = case_.affinity ? kAffinityAsks : kMostAsks;
  for (int i = 0; i < asks && (case_.affinity || seen != expected); ++i) {
    test::Answer answer = lab_->Ask(case_);
    ASSERT_EQ(answer.error, 0);
    ASSERT_TRUE(expected.contains(answer.server) || case_.affinity) << answer.server;
    ExpectSource(answer);
    seen.insert(answer.server);
  }
  if (case_.affinity) {
    EXPECT_EQ(seen.size(), 1u) << "a client stays with one endpoint";
  } else {
    EXPECT_EQ(seen, expected);
  }
}

std::string CaseName(const ::testing::TestParamInfo<ServicesTest::ParamType>& param) {
  const auto& [mode, index] = param.param;
  return mode + "_" + ServiceCases()[index].TestName(index);
}

INSTANTIATE_TEST_SUITE_P(Services, ServicesTest,
                         Combine(ValuesIn(Modes()), Range(size_t{0}, ServiceCases().size())),
                         CaseName);

// ---- changes, by mode ----

class ServiceChangesTest : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    SKIFF_NEEDS(test::Need::kRoot, test::Need::kIptables, test::Need::kIpv6, test::Need::kConntrack,
                test::Need::kNftables);
    lab_ = &Lab(GetParam());
  }
  // Asks over UDP from the node, from this port: the same connection each time.
  std::string AskFrom(uint16_t local_port) {
    test::Answer answer;
    lab_->here().Run([&] {
      answer = test::Ask(test::Transport::kUdp, net::IpAddress::V4(10, 202, 0, 10), kServicePort,
                         kPatience, local_port);
    });
    return answer.server;
  }
  // Whether it answers after some time, once the condition holds.
  bool AnswersAgain(const ServiceCase& c, const std::function<bool()>& condition) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    while (lab_->Ask(c, kPatience).server.empty() || !condition()) {
      if (std::chrono::steady_clock::now() > deadline) return false;
    }
    return true;
  }
  // The node's UDP connections to the Service: local port -> who answers.
  std::map<uint16_t, std::string> Connections() {
    std::map<uint16_t, std::string> connections;
    lab_->here().Run([&] {
      auto flows =
          lab_->conntrack().List(net::IpFamily::kV4, net::kProtocolUdp, [](const net::Flow& flow) {
            return flow.original.destination == net::IpAddress::V4(10, 202, 0, 10);
          });
      ASSERT_TRUE(flows.ok());
      for (const net::Flow& flow : *flows) {
        connections[flow.original.source_port] = flow.reply.source.ToString();
      }
    });
    return connections;
  }
  ServiceLab* lab_ = nullptr;
};

TEST_P(ServiceChangesTest, OnlyConnectionsOfAnEndpointThatGoesAreForgotten) {
  const ServiceCase both{.endpoints = "a c", .transport = test::Transport::kUdp};
  lab_->Apply(both);
  std::map<uint16_t, std::string> servers;
  for (uint16_t port = 42000; port < 42016; ++port) servers[port] = AskFrom(port);
  const auto before = Connections();
  const std::string address_of_c = lab_->AddressOf("c", net::IpFamily::kV4);
  std::map<uint16_t, std::string> to_c;
  for (const auto& [port, address] : before) {
    if (address == address_of_c) to_c[port] = address;
  }
  ASSERT_EQ(before.size(), 16u);
  ASSERT_FALSE(to_c.empty());
  ASSERT_LT(to_c.size(), before.size());
  // While it only leaves, it keeps what it has.
  lab_->Apply(ServiceCase{.endpoints = "a/leaving c", .transport = test::Transport::kUdp});
  EXPECT_EQ(Connections(), before);
  lab_->Apply(ServiceCase{.endpoints = "a/gone c", .transport = test::Transport::kUdp});
  EXPECT_EQ(Connections(), to_c);
  for (const auto& [port, server] : servers) EXPECT_EQ(AskFrom(port), "c") << server;
  EXPECT_EQ(Connections().size(), 16u);
}

TEST_P(ServiceChangesTest, RulesSurviveAStrangersFlush) {
  const ServiceCase web{.from = From::kNode, .endpoints = "a", .answers = "a"};
  lab_->Apply(web);
  ASSERT_EQ(lab_->Ask(web).server, "a");
  const std::map<std::string, std::vector<const char*>> flushes = {
      {"iptables",
       {"iptables -t nat -F; iptables -F", "iptables -t nat -F; iptables -t nat -X; iptables -F",
        "nft flush ruleset"}},
      {"nftables",
       {"nft flush ruleset", "nft delete table ip skiff-proxy", "nft flush table ip skiff-proxy"}}};
  for (const char* flush : flushes.at(GetParam())) {
    const uint64_t full_syncs = lab_->proxy_here().GetStatus().full_syncs;
    lab_->here().Shell(flush);
    // It may answer before the flush has taken everything, and before the write has ended.
    EXPECT_TRUE(AnswersAgain(web, [&] {
      return lab_->proxy_here().GetStatus().full_syncs > full_syncs;
    })) << flush;
  }
}

TEST_P(ServiceChangesTest, AffinityLeavesAnEndpointThatGoes) {
  ServiceCase web{.from = From::kNode, .endpoints = "a b c", .affinity = true};
  lab_->Apply(web);
  const std::string first = lab_->Ask(web).server;
  // Others may come and go.
  web.endpoints = first == "a" ? "a b" : first == "b" ? "b c" : "a c";
  lab_->Apply(web);
  for (int i = 0; i < kAffinityAsks; ++i) EXPECT_EQ(lab_->Ask(web).server, first);
  web.endpoints = first == "a" ? "b c" : first == "b" ? "a c" : "a b";
  lab_->Apply(web);
  std::set<std::string> then;
  for (int i = 0; i < kAffinityAsks; ++i) then.insert(lab_->Ask(web).server);
  EXPECT_EQ(then.size(), 1u);
  EXPECT_FALSE(then.contains(first));
  EXPECT_FALSE(then.contains(""));
}

TEST_P(ServiceChangesTest, SeveralPortsOfOneService) {
  auto service = ServiceLab::MakeService({});
  service.mutable_spec()->mutable_ports(0)->set_name("web");
  auto& dns = *service.mutable_spec()->add_ports();
  dns.set_name("dns");
  dns.set_protocol("UDP");
  dns.set_port(kServicePort);  // the same number under another protocol
  auto slice = lab_->MakeSlices({.endpoints = "a"})[0];
  slice.mutable_ports(0)->set_name("web");
  auto& port = *slice.add_ports();
  port.set_name("dns");
  port.set_protocol("UDP");
  port.set_port(kDatagramPort);
  lab_->Apply(service, {slice});
  EXPECT_EQ(lab_->Ask({.from = From::kNode}).server, "a");
  EXPECT_EQ(lab_->Ask({.from = From::kNode, .transport = test::Transport::kUdp}).server, "a");
}

INSTANTIATE_TEST_SUITE_P(Changes, ServiceChangesTest, ValuesIn(Modes()));

TEST(ServiceTable, IsInTheDocs) {
  const std::string path = SKIFF_SOURCE_DIR "/docs/services.md";
  constexpr std::string_view kBegin = "<!-- the table: services_kernel_test -->\n";
  constexpr std::string_view kEnd = "<!-- end of the table -->\n";
  std::string text = ReadFile(path).value();
  size_t begin = text.find(kBegin), end = text.find(kEnd);
  ASSERT_NE(begin, std::string::npos);
  ASSERT_NE(end, std::string::npos);
  begin += kBegin.size();
  const std::string table = ServiceTable(Modes());
  if (std::getenv("UPDATE_GOLDEN") != nullptr) {
    text.replace(begin, end - begin, table);
    ASSERT_TRUE(WriteFileAtomic(path, text).ok());
    return;
  }
  EXPECT_EQ(text.substr(begin, end - begin), table) << "run this test with UPDATE_GOLDEN=1";
}

}  // namespace
}  // namespace skiff::agent::proxy

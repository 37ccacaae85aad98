// skiff-proxy-bench: how long service rules take to write beside many others, and the first packet
// of a connection through them, in network namespaces of its own. As root.
//
//   skiff-proxy-bench --mode nftables --services 1000 --services 10000 --endpoints 10 --json
#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <future>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "agent/proxy/proxy.h"
#include "agent/proxy/testing.h"
#include "base/net/conntrack.h"
#include "base/net/iptables.h"
#include "base/net/nft.h"
#include "tests/support/netns.h"
#include "tests/support/traffic.h"

namespace skiff::agent::proxy {
namespace {

using testing::MakeService;
using testing::MakeSlice;

constexpr int kRounds = 11;  // of each change; the median counts
constexpr int kPackets = 300;
constexpr uint16_t kEchoPort = 8080;

struct Options {
  Mode mode = Mode::kIptables;
  int endpoints = 2;
  bool json = false;
};

std::string AddressOf(int network, int number) {
  return "10." + std::to_string(network + number / 65000) + "." +
         std::to_string(number % 65000 / 250) + "." + std::to_string(number % 250 + 1);
}

class Bench {
 public:
  explicit Bench(const Options& options)
      : options_(options),
        node_(test::TestNode::Make("bench")),
        peer_(test::TestNode::Make("peer")) {
    Connect(*node_, {"10.63.0.1/24"}, *peer_, {"10.63.0.2/24"});
    node_->Shell("ip route add default via 10.63.0.2");
    echo_ = std::make_unique<test::EchoServer>(peer_->netns(), test::Transport::kUdp,
                                               net::IpAddress::V4(10, 63, 0, 2), kEchoPort, "peer");
    node_->Run([this] {
      iptables_ = net::SystemIptables::Open().value();
      blocking_ = std::make_unique<ThreadPool>("blocking", 1);
      Config config{.mode = options_.mode,
                    .node_name = "bench",
                    .cluster_cidrs = {net::IpPrefix::Parse("10.128.0.0/9").value()},
                    .health_ports = false};
      proxy_ = ServiceProxy::Start(config, {*blocking_, *iptables_, conntrack_, &nft_}).value();
    });
  }

  void Add(int number) {
    std::string name = "svc" + std::to_string(number);
    proxy_->SetService(MakeService(name, AddressOf(64, number), "TCP", "http", 80));
    SetEndpoints(number, options_.endpoints);
  }
  void SetEndpoints(int number, int count) {
    std::vector<testing::EndpointSpec> endpoints;
    for (int i = 0; i < count; ++i) endpoints.push_back({AddressOf(128 + i, number)});
    proxy_->SetEndpointSlice(
        MakeSlice("svc" + std::to_string(number), endpoints, "TCP", "http", 8080));
  }
  void Remove(int number) {
    proxy_->DeleteService("ns1", "svc" + std::to_string(number));
    proxy_->DeleteEndpointSlice("ns1", "svc" + std::to_string(number) + "-1");
  }
  void SyncDone() { proxy_->SyncDone(); }
  // Milliseconds of the write that brings everything told so far into force.
  double Write() {
    std::promise<void> synced;
    proxy_->WhenSynced([&] { synced.set_value(); });
    synced.get_future().wait();
    CHECK(proxy_->GetStatus().synced);
    return std::chrono::duration<double, std::milli>(proxy_->GetStatus().last_duration).count();
  }
  // A service that answers, beside those of numbers below this one.
  void AddEcho(int number) {
    std::string name = "svc" + std::to_string(number);
    proxy_->SetService(MakeService(name, AddressOf(64, number), "UDP", "echo", kEchoPort));
    proxy_->SetEndpointSlice(MakeSlice(name, {{"10.63.0.2"}}, "UDP", "echo", kEchoPort));
  }
  // Microseconds of a question and its answer, each from a port of its own.
  double FirstPacket(const net::IpAddress& address) {
    std::vector<double> times;
    node_->Run([&] {
      for (int i = 0; i < kPackets; ++i) {
        auto start = std::chrono::steady_clock::now();
        CHECK(test::Ask(test::Transport::kUdp, address, kEchoPort).server == "peer");
        times.push_back(
            std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - start)
                .count());
      }
    });
    std::nth_element(times.begin(), times.begin() + kPackets / 2, times.end());
    return times[kPackets / 2];
  }
  uint64_t rules() const { return proxy_->GetStatus().rules; }

 private:
  const Options options_;
  std::unique_ptr<test::TestNode> node_, peer_;
  std::unique_ptr<test::EchoServer> echo_;
  net::SystemNft nft_;
  net::SystemConntrack conntrack_;
  std::unique_ptr<net::SystemIptables> iptables_;
  std::unique_ptr<ThreadPool> blocking_;
  std::unique_ptr<ServiceProxy> proxy_;
};

double Median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + values.size() / 2, values.end());
  return values[values.size() / 2];
}

void Report(bool json, const std::string& name, double value, const std::string& unit) {
  value = std::round(value * 100) / 100;
  if (json) {
    printf("%s\n", nlohmann::json{{"name", name}, {"value", value}, {"unit", unit}}.dump().c_str());
  } else {
    printf("%-60s %10.2f %s\n", name.c_str(), value, unit.c_str());
  }
  fflush(stdout);
}

void Measure(int services, const Options& options) {
  Bench bench(options);
  const bool json = options.json;
  for (int i = 0; i < services; ++i) bench.Add(i);
  bench.SyncDone();
  const std::string mode = options.mode == Mode::kNftables ? "nftables: " : "";
  const std::string beside = ", beside " + std::to_string(services);
  Report(json, mode + "all rules written, " + std::to_string(services) + " services", bench.Write(),
         "ms");
  Report(json, mode + "rules, " + std::to_string(services) + " services",
         static_cast<double>(bench.rules()), "rules");
  std::vector<double> added, changed, removed;
  for (int round = 0; round < kRounds; ++round) {
    bench.Add(services);
    added.push_back(bench.Write());
    bench.SetEndpoints(services, options.endpoints + 1);
    changed.push_back(bench.Write());
    bench.Remove(services);
    removed.push_back(bench.Write());
  }
  Report(json, mode + "service added" + beside, Median(added), "ms");
  Report(json, mode + "endpoint added" + beside, Median(changed), "ms");
  Report(json, mode + "service removed" + beside, Median(removed), "ms");
  bench.AddEcho(services);
  bench.Write();
  Report(json, mode + "first packet and answer" + beside,
         bench.FirstPacket(net::IpAddress::Parse(AddressOf(64, services)).value()), "us");
  Report(json, mode + "the same without a service" + beside,
         bench.FirstPacket(net::IpAddress::V4(10, 63, 0, 2)), "us");
}

}  // namespace
}  // namespace skiff::agent::proxy

int main(int argc, char** argv) {
  using skiff::agent::proxy::Mode;
  std::vector<int> services = {1000, 10000};
  skiff::agent::proxy::Options options;
  CLI::App app{"Measures how long service rules take to write, and to use"};
  app.add_option("--services", services, "how many are there already");
  app.add_option("--endpoints", options.endpoints, "how many each of them has");
  app.add_option("--mode", options.mode, "iptables or nftables")
      ->transform(CLI::CheckedTransformer(std::map<std::string, Mode>{
          {"iptables", Mode::kIptables}, {"nftables", Mode::kNftables}}));
  app.add_flag("--json", options.json, "one JSON object a figure");
  CLI11_PARSE(app, argc, argv);
  for (int count : services) skiff::agent::proxy::Measure(count, options);
  return 0;
}

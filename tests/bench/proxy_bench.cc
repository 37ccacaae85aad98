// skiff-proxy-bench: how long service rules take to write beside many others, in a network
// namespace of its own. As root.
//
//   skiff-proxy-bench --services 1000 --services 10000 --json
#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <future>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "agent/proxy/proxy.h"
#include "agent/proxy/testing.h"
#include "base/net/conntrack.h"
#include "base/net/iptables.h"
#include "tests/support/netns.h"

namespace skiff::agent::proxy {
namespace {

using testing::MakeService;
using testing::MakeSlice;

constexpr int kRounds = 11;  // of each change; the median counts

std::string AddressOf(int network, int number) {
  return "10." + std::to_string(network + number / 65000) + "." +
         std::to_string(number % 65000 / 250) + "." + std::to_string(number % 250 + 1);
}

class Bench {
 public:
  Bench() : node_(test::TestNode::Make("bench")) {
    node_->Run([this] {
      iptables_ = net::SystemIptables::Open().value();
      blocking_ = std::make_unique<ThreadPool>("blocking", 1);
      Config config{.node_name = "bench",
                    .cluster_cidrs = {net::IpPrefix::Parse("10.128.0.0/9").value()}};
      proxy_ = ServiceProxy::Start(config, {*blocking_, *iptables_, conntrack_}).value();
    });
  }

  void Add(int number) {
    std::string name = "svc" + std::to_string(number);
    proxy_->SetService(MakeService(name, AddressOf(64, number), "TCP", "http", 80));
    SetEndpoints(number, 2);
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
  uint64_t rules() const { return proxy_->GetStatus().rules; }

 private:
  std::unique_ptr<test::TestNode> node_;
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

void Measure(int services, bool json) {
  Bench bench;
  for (int i = 0; i < services; ++i) bench.Add(i);
  bench.SyncDone();
  const std::string beside = ", beside " + std::to_string(services);
  Report(json, "all rules written, " + std::to_string(services) + " services", bench.Write(), "ms");
  Report(json, "rules, " + std::to_string(services) + " services",
         static_cast<double>(bench.rules()), "rules");
  std::vector<double> added, changed, removed;
  for (int round = 0; round < kRounds; ++round) {
    bench.Add(services);
    added.push_back(bench.Write());
    bench.SetEndpoints(services, 3);
    changed.push_back(bench.Write());
    bench.Remove(services);
    removed.push_back(bench.Write());
  }
  Report(json, "service added" + beside, Median(added), "ms");
  Report(json, "endpoint added" + beside, Median(changed), "ms");
  Report(json, "service removed" + beside, Median(removed), "ms");
}

}  // namespace
}  // namespace skiff::agent::proxy

int main(int argc, char** argv) {
  std::vector<int> services = {1000, 10000};
  bool json = false;
  CLI::App app{"Measures how long service rules take to write"};
  app.add_option("--services", services, "how many are there already");
  app.add_flag("--json", json, "one JSON object a figure");
  CLI11_PARSE(app, argc, argv);
  for (int count : services) skiff::agent::proxy::Measure(count, json);
  return 0;
}

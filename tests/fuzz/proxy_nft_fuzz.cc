// The nftables mode's plan: whatever services come, change and go, the model of the kernel accepts
// each change, and what is in force then is what a full write makes of the same services.
#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "agent/proxy/nft_plan.h"
#include "base/net/fake_nft.h"

namespace {

using namespace skiff::agent::proxy;
using skiff::net::FakeNft;
using skiff::net::IpAddress;
using skiff::net::IpFamily;
using skiff::net::IpPrefix;

// Bytes of the input, then zeros.
class Input {
 public:
  Input(const uint8_t* data, size_t size) : data_(data), left_(size) {}
  bool empty() const { return left_ == 0; }
  uint8_t Byte() {
    if (left_ == 0) return 0;
    --left_;
    return *data_++;
  }

 private:
  const uint8_t* data_;
  size_t left_;
};

IpAddress SomeAddress(uint8_t last, bool v6) {
  if (!v6) return IpAddress::V4(10, 0, 0, last);
  uint8_t bytes[16] = {0xfd};
  bytes[15] = last;
  return IpAddress::FromBytes(IpFamily::kV6, bytes);
}

ServicePort SomePort(Input& input) {
  uint8_t bits = input.Byte();
  return {.name = bits & 1 ? "a" : "",
          .transport = static_cast<Transport>((bits >> 1) % 3),
          .port = static_cast<uint16_t>(1 + (bits >> 3) % 3),
          .node_port = static_cast<uint16_t>(bits & 0x40 ? 30000 + (bits & 3) : 0)};
}

// Few addresses and ports, so that services want the same.
std::shared_ptr<const ServiceState> SomeState(Input& input) {
  uint8_t bits = input.Byte(), counts = input.Byte();
  if (bits == 0) return nullptr;
  auto state = std::make_shared<ServiceState>();
  Service& service = state->service;
  service.cluster_ips = {SomeAddress(bits & 3, bits & 4)};
  if (bits & 8) service.external_ips = {SomeAddress(bits & 7, false)};
  if (bits & 16) service.load_balancer_ips = {SomeAddress(bits & 1, false)};
  if (bits & 32) {
    service.source_ranges = {IpPrefix::Of(SomeAddress(counts, bits & 64), counts % 33)};
  }
  service.affinity_seconds = bits & 64 ? 1 + counts % 2 : 0;
  service.external_local = bits & 128;
  service.internal_local = counts & 128;
  for (int i = counts % 3; i >= 0; --i) service.ports.push_back(SomePort(input));
  for (const ServicePort& port : service.ports) {
    auto& endpoints = state->endpoints[{port.name, port.transport}];
    for (int i = counts / 3 % 6; i > 0; --i) {
      uint8_t endpoint = input.Byte();
      endpoints.push_back({.address = SomeAddress(endpoint & 7, bits & 4),
                           .port = 80,
                           .local = (endpoint & 8) != 0,
                           .ready = (endpoint & 16) == 0,
                           .serving = (endpoint & 32) == 0,
                           .terminating = (endpoint & 64) != 0});
    }
    std::sort(endpoints.begin(), endpoints.end());
  }
  return state;
}

void CheckSame(FakeNft& a, FakeNft& b, const NftRules& rules) {
  auto by_chain = [](const auto& x, const auto& y) { return x.chain < y.chain; };
  auto one = a.List(rules.table()).value(), other = b.List(rules.table()).value();
  for (auto* info : {&one, &other}) {
    std::stable_sort(info->rules.begin(), info->rules.end(), by_chain);
  }
  CHECK(one == other);
  for (const auto& set : one.sets) {
    CHECK(a.ListElements(rules.table(), set.name).value() ==
          b.ListElements(rules.table(), set.name).value());
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Input input(data, std::min<size_t>(size, 4096));
  PlanContext context{.family = input.Byte() & 1 ? IpFamily::kV6 : IpFamily::kV4, .mark = "0x4000"};
  NftRules rules(context);
  FakeNft nft;
  States states;
  CHECK(nft.Commit(rules.PlanAll(states, nullptr)).ok());
  while (!input.empty()) {
    std::vector<Change> changes;
    for (int count = input.Byte() % 3; count >= 0; --count) {
      ObjectKey key{"ns", std::string(1, static_cast<char>('a' + input.Byte() % 5))};
      auto same = [&](const Change& change) { return change.key == key; };
      if (std::any_of(changes.begin(), changes.end(), same)) continue;
      auto before = states.find(key);
      changes.push_back({.key = key,
                         .before = before == states.end() ? nullptr : before->second,
                         .after = SomeState(input)});
    }
    for (const Change& change : changes) {
      if (change.after) {
        states[change.key] = change.after;
      } else {
        states.erase(change.key);
      }
    }
    auto committed = nft.Commit(rules.PlanChanges(changes, states));
    CHECK(committed.ok());
  }
  FakeNft fresh;
  NftRules again(context);
  CHECK(fresh.Commit(again.PlanAll(states, nullptr)).ok());
  CheckSame(nft, fresh, rules);
  // Over what is there.
  auto existing = nft.List(rules.table()).value();
  CHECK(nft.Commit(rules.PlanAll(states, &existing)).ok());
  CheckSame(nft, fresh, rules);
  return 0;
}

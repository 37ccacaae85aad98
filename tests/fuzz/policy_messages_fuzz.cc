// Network policies and address sets as a node is told of them: any bytes are read without harm, and
// what is read can be planned and written.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

#include "agent/policy/plan.h"
#include "agent/policy/rule_writer.h"
#include "base/net/fake_nft.h"
#include "proto/k8s/core/v1/pod.pb.h"
#include "proto/skiff/node/v1/policy.pb.h"

namespace {

// The first byte says how many of the others are the set; the rest is the policy.
constexpr size_t kLargest = 1 << 16;

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace skiff;
  using namespace skiff::agent::policy;
  if (size == 0 || size > kLargest) return 0;
  size_t split = std::min<size_t>(data[0], size - 1);
  MemberSets members;
  node::v1::AddressSetPart part;
  if (part.ParseFromArray(data + 1, static_cast<int>(split))) {
    if (auto read = ReadPart(part); read.ok()) members.SetPart("A.0", *read);
  }
  node::v1::NetworkPolicy message;
  if (!message.ParseFromArray(data + 1 + split, static_cast<int>(size - 1 - split))) return 0;
  auto policy = ReadPolicy("ns", message);
  if (!policy.ok()) return 0;
  Policies policies;
  policies["ns/p"] = *policy;
  auto pod = std::make_shared<k8s::core::v1::Pod>();
  pod->mutable_metadata()->set_namespace_("ns");
  LocalPod local{pod, {net::IpAddress::V4(10, 0, 0, 1), *net::IpAddress::Parse("fd00::1")}};
  PlanInput input;
  input.policies = &policies;
  input.pods = {&local};
  net::FakeNft nft;
  RuleWriter writer(nft);
  auto plan = [&] {
    return std::array<TablePlan, 2>{PlanTable(net::IpFamily::kV4, input),
                                    PlanTable(net::IpFamily::kV6, input)};
  };
  // A name of a set may be one that no kernel takes; then nothing is written, and later all.
  (void)writer.Write(plan(), members, members.TakeTouched());
  policies.clear();
  CHECK(writer.Write(plan(), members, {}).ok());
  return 0;
}

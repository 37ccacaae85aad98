#include "control-plane/api/kinds/testing_kinds.h"
#include "proto/k8s/networking/v1/networking.pb.h"

namespace skiff::cp {
namespace {

const KindInfo& NetworkPolicies() { return Kind("networking.k8s.io", "networkpolicies"); }

TEST(NetworkPolicyTest, HasUpstreamsDefaults) {
  auto read = [](std::string_view yaml) {
    MessagePtr object = Read(NetworkPolicies(), yaml);
    return static_cast<const k8s::networking::v1::NetworkPolicy&>(*object);
  };
  auto types = [&](std::string_view yaml) {
    auto policy = read(yaml);
    return std::vector<std::string>(policy.spec().policy_types().begin(),
                                    policy.spec().policy_types().end());
  };
  EXPECT_EQ(types("spec: {podSelector: {}}"), std::vector<std::string>{"Ingress"});
  EXPECT_EQ(types("spec: {podSelector: {}, egress: [{}]}"),
            (std::vector<std::string>{"Ingress", "Egress"}));
  EXPECT_EQ(types("spec: {podSelector: {}, egress: [{}], policyTypes: [Egress]}"),
            std::vector<std::string>{"Egress"});
  auto policy = read(
      "spec: {podSelector: {}, ingress: [{ports: [{port: 80}]}], egress: [{ports: [{}, {protocol: "
      "UDP, port: dns}]}]}");
  EXPECT_EQ(policy.spec().ingress(0).ports(0).protocol(), "TCP");
  EXPECT_EQ(policy.spec().egress(0).ports(0).protocol(), "TCP");
  EXPECT_EQ(policy.spec().egress(0).ports(1).protocol(), "UDP");
}

struct PolicyCase {
  const char* spec;
  Errors errors;
};

TEST(NetworkPolicyTest, ValidatesAsUpstream) {
  const PolicyCase cases[] = {
      {"podSelector: {matchLabels: {a: b}}", {}},
      {"podSelector: {matchExpressions: [{key: a, operator: In}]}",
       {"spec.podSelector.matchExpressions[0].values: Required value: must be specified when "
        "`operator` is 'In' or 'NotIn'"}},
      {"podSelector: {}, ingress: [{ports: [{port: 80, endPort: 90}, {port: http}], from: "
       "[{podSelector: {}, namespaceSelector: {}}, {ipBlock: {cidr: 10.0.0.1/8, except: "
       "[10.1.0.0/16]}}]}]",
       {}},
      {"podSelector: {}, ingress: [{ports: [{protocol: ICMP, port: 0}]}]",
       {"spec.ingress[0].ports[0].protocol: Unsupported value: \"ICMP\": supported values: "
        "\"SCTP\", \"TCP\", \"UDP\"",
        "spec.ingress[0].ports[0].port: Invalid value: 0: must be between 1 and 65535, "
        "inclusive"}},
      {"podSelector: {}, egress: [{ports: [{port: 80, endPort: 79}, {port: a_b}, {endPort: 9}, "
       "{port: http, endPort: 90}, {port: 80, endPort: 70000}]}]",
       {"spec.egress[0].ports[0].endPort: Invalid value: 80: must be greater than or equal to "
        "`port`",
        "spec.egress[0].ports[1].port: Invalid value: \"a_b\": must contain only alpha-numeric "
        "characters (a-z, 0-9), and hyphens (-)",
        "spec.egress[0].ports[2].endPort: Invalid value: 9: may not be specified when `port` is "
        "not specified",
        "spec.egress[0].ports[3].endPort: Invalid value: 90: may not be specified when `port` is "
        "non-numeric",
        "spec.egress[0].ports[4].endPort: Invalid value: 70000: must be between 1 and 65535, "
        "inclusive"}},
      {"podSelector: {}, egress: [{to: [{}, {podSelector: {}, ipBlock: {cidr: 10.0.0.0/8}}, "
       "{ipBlock: {cidr: ''}}, {ipBlock: {cidr: 10.0.0.0/33}}, {ipBlock: {cidr: 10.0.0.0/8, "
       "except: [11.0.0.0/9, 10.0.0.0/8, x, 'fd00::/16']}}]}]",
       {"spec.egress[0].to[0]: Required value: must specify a peer",
        "spec.egress[0].to[1]: Forbidden: may not specify both ipBlock and another peer",
        "spec.egress[0].to[2].ipBlock.cidr: Required value",
        "spec.egress[0].to[3].ipBlock.cidr: Invalid value: \"10.0.0.0/33\": must be a valid CIDR "
        "value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
        "spec.egress[0].to[4].ipBlock.except[0]: Invalid value: \"11.0.0.0/9\": must be a strict "
        "subset of `cidr`",
        "spec.egress[0].to[4].ipBlock.except[1]: Invalid value: \"10.0.0.0/8\": must be a strict "
        "subset of `cidr`",
        "spec.egress[0].to[4].ipBlock.except[2]: Invalid value: \"x\": must be a valid CIDR "
        "value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
        "spec.egress[0].to[4].ipBlock.except[3]: Invalid value: \"fd00::/16\": must be a strict "
        "subset of `cidr`"}},
      {"podSelector: {}, policyTypes: [Ingress, ingress]",
       {"spec.policyTypes[1]: Unsupported value: \"ingress\": supported values: \"Egress\", "
        "\"Ingress\""}},
      {"podSelector: {}, policyTypes: [Ingress, Egress, Ingress]",
       {"spec.policyTypes: Invalid value: [\"Ingress\",\"Egress\",\"Ingress\"]: may not specify "
        "more than two policyTypes"}},
  };
  for (const PolicyCase& c : cases) {
    EXPECT_EQ(Validate(NetworkPolicies(), "spec: {" + std::string(c.spec) + "}"), c.errors)
        << c.spec;
  }
}

TEST(NetworkPolicyTest, PrintsItsColumns) {
  const std::string meta = "metadata: {name: p, creationTimestamp: 2020-01-01T00:00:00Z}\nspec: ";
  EXPECT_EQ(Row(NetworkPolicies(), meta + "{podSelector: {}}"), "p | <none> | 2m5s");
  EXPECT_EQ(Row(NetworkPolicies(), meta + "{podSelector: {matchLabels: {b: c}, matchExpressions: "
                                          "[{key: a, operator: In, values: [s, t]}]}}"),
            "p | a in (s,t),b=c | 2m5s");
}

}  // namespace
}  // namespace skiff::cp

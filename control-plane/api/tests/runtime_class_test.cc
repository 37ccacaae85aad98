// RuntimeClasses and what they do to pods, over REST.
#include "control-plane/api/tests/api_fixture.h"

namespace skiff::cp {
namespace {

constexpr const char* kClasses = "/apis/node.k8s.io/v1/runtimeclasses";
constexpr const char* kPods = "/api/v1/namespaces/default/pods";

class RuntimeClassAdmissionTest : public ApiFixture {
 protected:
  void SetUp() override {
    const Json sandboxed = {{"metadata", {{"name", "sandboxed"}}},
                            {"handler", "crun"},
                            {"overhead", {{"podFixed", {{"cpu", "250m"}, {"memory", "64Mi"}}}}},
                            {"scheduling",
                             {{"nodeSelector", {{"isolation", "strong"}}},
                              {"tolerations", {{{"key", "isolated"}, {"operator", "Exists"}}}}}}};
    ASSERT_EQ(Ask("POST", kClasses, sandboxed).status, 201);
    ASSERT_EQ(
        Ask("POST", kClasses, Json{{"metadata", {{"name", "plain"}}}, {"handler", "runc"}}).status,
        201);
  }

  Reply CreatePod(Json spec, const char* runtime_class) {
    spec["containers"] = {{{"name", "a"}, {"image", "b"}}};
    if (runtime_class != nullptr) spec["runtimeClassName"] = runtime_class;
    return Ask("POST", kPods, Json{{"metadata", {{"name", "p"}}}, {"spec", spec}});
  }
  void ExpectRefused(const Reply& reply, const std::string& why) {
    EXPECT_EQ(reply.status, 403);
    EXPECT_EQ(reply.json().value("message", reply.body), "pods \"p\" is forbidden: " + why);
  }
};

TEST_F(RuntimeClassAdmissionTest, APodGetsWhatItsClassSays) {
  Json spec = CreatePod({{"nodeSelector", {{"disk", "fast"}}},
                         {"tolerations",
                          {{{"key", "isolated"}, {"operator", "Equal"}, {"value", "x"}},
                           {{"key", "other"}, {"operator", "Exists"}}}}},
                        "sandboxed")
                  .json()["spec"];
  EXPECT_EQ(spec["overhead"], (Json{{"cpu", "250m"}, {"memory", "64Mi"}}));
  EXPECT_EQ(spec["nodeSelector"], (Json{{"disk", "fast"}, {"isolation", "strong"}}));
  Json keys = Json::array();
  for (const Json& toleration : spec["tolerations"]) keys.push_back(toleration["key"]);
  // Of "isolated" what tolerates more.
  EXPECT_EQ(keys, (Json{"other", "node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable",
                        "isolated"}));
}

TEST_F(RuntimeClassAdmissionTest, TheSameAmountsInOtherWordsAreTheSame) {
  EXPECT_EQ(CreatePod({{"overhead", {{"cpu", "0.25"}, {"memory", "65536Ki"}}}}, "sandboxed").status,
            201);
}

TEST_F(RuntimeClassAdmissionTest, WhatDoesNotFitIsRefused) {
  ExpectRefused(CreatePod(Json::object(), "absent"),
                "pod rejected: RuntimeClass \"absent\" not found");
  const Json overhead = {{"overhead", {{"cpu", "1"}}}};
  ExpectRefused(CreatePod(overhead, "sandboxed"),
                "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead");
  const char* kNone =
      "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead";
  ExpectRefused(CreatePod(overhead, "plain"), kNone);
  ExpectRefused(CreatePod(overhead, nullptr), kNone);
  ExpectRefused(CreatePod({{"nodeSelector", {{"isolation", "weak"}}}}, "sandboxed"),
                "conflict: runtimeClass.scheduling.nodeSelector[isolation] = strong; "
                "pod.spec.nodeSelector[isolation] = weak");
  EXPECT_EQ(CreatePod(Json::object(), "plain").status, 201);
}

}  // namespace
}  // namespace skiff::cp

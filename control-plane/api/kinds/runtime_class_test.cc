#include "control-plane/api/kinds/testing_kinds.h"

namespace skiff::cp {
namespace {

const KindInfo& RuntimeClasses() { return Kind("node.k8s.io", "runtimeclasses"); }

TEST(RuntimeClassTest, ValidatesAsUpstream) {
  struct {
    const char* yaml;
    Errors errors;
  } cases[] = {
      {"{handler: runc, overhead: {podFixed: {cpu: 250m, memory: 64Mi}}, scheduling: "
       "{nodeSelector: "
       "{a: b}, tolerations: [{key: k, operator: Exists}, {key: k, operator: Exists, effect: "
       "NoExecute}]}}",
       {}},
      {"{handler: run_c}",
       {"handler: Invalid value: \"run_c\": a lowercase RFC 1123 label must consist of lower case "
        "alphanumeric characters or '-', and must start and end with an alphanumeric character "
        "(e.g. 'my-name',  or '123-abc', regex used for validation is "
        "'[a-z0-9]([-a-z0-9]*[a-z0-9])?')"}},
      {"{handler: a, overhead: {podFixed: {cpu: \"-1\"}}}",
       {"overhead.limits[cpu]: Invalid value: \"-1\": must be greater than or equal to 0"}},
      {"{handler: a, scheduling: {tolerations: [{key: k, operator: Exists}, {key: k, operator: "
       "Exists, tolerationSeconds: 3}, {key: l, operator: X}]}}",
       {"scheduling.tolerations[1].effect: Invalid value: \"\": effect must be 'NoExecute' when "
        "`tolerationSeconds` is set",
        "scheduling.tolerations[1]: Duplicate value: "
        "{\"key\":\"k\",\"operator\":\"Exists\",\"tolerationSeconds\":3}",
        "scheduling.tolerations[2].operator: Unsupported value: \"X\": supported values: "
        "\"Equal\", \"Exists\""}},
  };
  for (const auto& c : cases) EXPECT_EQ(Validate(RuntimeClasses(), c.yaml), c.errors) << c.yaml;
}

TEST(RuntimeClassTest, TheHandlerStays) {
  EXPECT_EQ(ValidateUpdate(RuntimeClasses(), "{handler: a}", "{handler: b}"),
            Errors{"handler: Invalid value: \"b\": field is immutable"});
  EXPECT_EQ(ValidateUpdate(RuntimeClasses(), "{handler: a}",
                           "{handler: a, overhead: {podFixed: {cpu: 1}}}"),
            Errors{});
}

}  // namespace
}  // namespace skiff::cp

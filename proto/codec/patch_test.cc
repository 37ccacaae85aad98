#include "proto/codec/patch.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "proto/k8s/apps/v1/apps.pb.h"
#include "proto/k8s/core/v1/pod.pb.h"

namespace skiff::codec {
namespace {

using Json = nlohmann::json;

struct PatchCase {
  const char* what;
  const char* document;
  const char* patch;
  const char* result;  // JSON, or the code's name
};

std::string Outcome(const Result<std::string>& result) {
  return result.ok() ? Json::parse(*result).dump() : std::string(CodeName(result.error().code()));
}
std::string Wanted(const char* result) {
  Json json = Json::parse(result, nullptr, false);
  return json.is_discarded() ? result : json.dump();
}

TEST(JsonPatchTest, FollowsRfc6902) {
  const PatchCase cases[] = {
      {"add", R"({"a":1})", R"([{"op":"add","path":"/b","value":[1]}])", R"({"a":1,"b":[1]})"},
      {"insert", R"({"a":[1,3]})", R"([{"op":"add","path":"/a/1","value":2}])", R"({"a":[1,2,3]})"},
      {"append", R"({"a":[1]})", R"([{"op":"add","path":"/a/-","value":2}])", R"({"a":[1,2]})"},
      {"remove", R"({"a":[1,2]})", R"([{"op":"remove","path":"/a/0"}])", R"({"a":[2]})"},
      {"replace", R"({"a":1})", R"([{"op":"replace","path":"/a","value":2}])", R"({"a":2})"},
      {"move", R"({"a":1})", R"([{"op":"move","from":"/a","path":"/b"}])", R"({"b":1})"},
      {"copy", R"({"a":1})", R"([{"op":"copy","from":"/a","path":"/b"}])", R"({"a":1,"b":1})"},
      {"escapes", R"({"a/b":{"~":1}})", R"([{"op":"remove","path":"/a~1b/~0"}])", R"({"a/b":{}})"},
      {"test", R"({"a":1})", R"([{"op":"test","path":"/a","value":1}])", R"({"a":1})"},
      {"test fails", R"({"a":1})", R"([{"op":"test","path":"/a","value":2}])",
       "FailedPrecondition"},
      {"missing", R"({"a":1})", R"([{"op":"remove","path":"/b"}])", "FailedPrecondition"},
      {"no parent", "{}", R"([{"op":"add","path":"/a/b","value":1}])", "FailedPrecondition"},
      {"out of bounds", R"({"a":[]})", R"([{"op":"add","path":"/a/1","value":1}])",
       "FailedPrecondition"},
      {"leading zero", R"({"a":[1,2]})", R"([{"op":"remove","path":"/a/01"}])",
       "FailedPrecondition"},
      {"into itself", R"({"a":{}})", R"([{"op":"move","from":"/a","path":"/a/b"}])",
       "FailedPrecondition"},
      {"no array", "{}", R"({"op":"add"})", "InvalidArgument"},
      {"no value", "{}", R"([{"op":"add","path":"/a"}])", "InvalidArgument"},
      {"no op", "{}", R"([{"path":"/a"}])", "InvalidArgument"},
      {"unknown op", "{}", R"([{"op":"x","path":"/a"}])", "InvalidArgument"},
      {"no JSON", "{}", "[", "InvalidArgument"},
      {"bad pointer", "{}", R"([{"op":"remove","path":"a"}])", "InvalidArgument"},
  };
  for (const PatchCase& c : cases) {
    EXPECT_EQ(Outcome(ApplyJsonPatch(c.document, c.patch)), Wanted(c.result)) << c.what;
  }
}

TEST(JsonPatchTest, BoundsWhatCopiesGrowTo) {
  Json patch = Json::array();
  for (int i = 0; i < 60; ++i) {
    patch.push_back({{"op", "copy"}, {"from", "/a"}, {"path", "/a/-"}});
  }
  auto result = ApplyJsonPatch(R"({"a":["xxxxxxxxxxxxxxxxxxxxxxxxxx"]})", patch.dump());
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().code(), Code::kResourceExhausted);
}

TEST(MergePatchTest, FollowsRfc7386) {
  const PatchCase cases[] = {
      {"replace", R"({"a":"b"})", R"({"a":"c"})", R"({"a":"c"})"},
      {"delete", R"({"a":"b","c":1})", R"({"a":null})", R"({"c":1})"},
      {"list", R"({"a":["b"]})", R"({"a":"c"})", R"({"a":"c"})"},
      {"nested", R"({"a":{"b":"c"}})", R"({"a":{"b":"d","c":null}})", R"({"a":{"b":"d"}})"},
      {"nulls of new objects", R"({})", R"({"a":{"bb":{"ccc":null}}})", R"({"a":{"bb":{}}})"},
      {"no object", "{}", "[]", "InvalidArgument"},
  };
  for (const PatchCase& c : cases) {
    EXPECT_EQ(Outcome(ApplyMergePatch(c.document, c.patch)), Wanted(c.result)) << c.what;
  }
}

TEST(StrategicMergePatchTest, FollowsTheSchema) {
  const PatchCase cases[] = {
      {"containers by name", R"({"spec":{"containers":[{"name":"a","image":"1"},{"name":"b"}]}})",
       R"({"spec":{"containers":[{"name":"a","image":"2"}]}})",
       R"({"spec":{"containers":[{"name":"a","image":"2"},{"name":"b"}]}})"},
      {"a new container goes where the patch says", R"({"spec":{"containers":[{"name":"a"}]}})",
       R"({"spec":{"containers":[{"name":"b"}]}})",
       R"({"spec":{"containers":[{"name":"b"},{"name":"a"}]}})"},
      {"delete an element", R"({"spec":{"containers":[{"name":"a"},{"name":"b"}]}})",
       R"({"spec":{"containers":[{"name":"a","$patch":"delete"}]}})",
       R"({"spec":{"containers":[{"name":"b"}]}})"},
      {"replace a list", R"({"spec":{"containers":[{"name":"a"},{"name":"b"}]}})",
       R"({"spec":{"containers":[{"name":"c"},{"$patch":"replace"}]}})",
       R"({"spec":{"containers":[{"name":"c"}]}})"},
      {"replace a map", R"({"metadata":{"labels":{"a":"1","b":"2"}}})",
       R"({"metadata":{"labels":{"c":"3","$patch":"replace"}}})",
       R"({"metadata":{"labels":{"c":"3"}}})"},
      {"delete a map", R"({"spec":{"securityContext":{"runAsUser":1}}})",
       R"({"spec":{"securityContext":{"$patch":"delete"}}})", R"({"spec":{"securityContext":{}}})"},
      {"labels", R"({"metadata":{"labels":{"a":"1","b":"2"}}})",
       R"({"metadata":{"labels":{"a":null,"c":"3"}}})",
       R"({"metadata":{"labels":{"b":"2","c":"3"}}})"},
      {"atomic list", R"({"spec":{"tolerations":[{"key":"a"}]}})",
       R"({"spec":{"tolerations":[{"key":"b"}]}})", R"({"spec":{"tolerations":[{"key":"b"}]}})"},
      {"primitive list", R"({"metadata":{"finalizers":["a","b"]}})",
       R"({"metadata":{"finalizers":["c","a"]}})", R"({"metadata":{"finalizers":["c","a","b"]}})"},
      {"delete from primitives", R"({"metadata":{"finalizers":["a","b","c"]}})",
       R"({"metadata":{"$deleteFromPrimitiveList/finalizers":["b"]}})",
       R"({"metadata":{"finalizers":["a","c"]}})"},
      {"element order, b keeps its place before c",
       R"({"spec":{"containers":[{"name":"a"},{"name":"b"},{"name":"c"}]}})",
       R"({"spec":{"$setElementOrder/containers":[{"name":"c"},{"name":"a"}]}})",
       R"({"spec":{"containers":[{"name":"b"},{"name":"c"},{"name":"a"}]}})"},
      {"order with changes", R"({"spec":{"containers":[{"name":"a"},{"name":"b"}]}})",
       R"({"spec":{"$setElementOrder/containers":[{"name":"c"},{"name":"a"}],
           "containers":[{"name":"c","image":"i"},{"name":"b","$patch":"delete"}]}})",
       R"({"spec":{"containers":[{"name":"c","image":"i"},{"name":"a"}]}})"},
      {"order that misses a change", R"({"spec":{"containers":[{"name":"a"}]}})",
       R"({"spec":{"$setElementOrder/containers":[{"name":"a"}],"containers":[{"name":"z"}]}})",
       "InvalidArgument"},
      {"retained keys", R"({"spec":{"volumes":[{"name":"v","emptyDir":{}}]}})",
       R"({"spec":{"volumes":[{"name":"v","$retainKeys":["name","hostPath"],
           "hostPath":{"path":"/x"}}]}})",
       R"({"spec":{"volumes":[{"name":"v","hostPath":{"path":"/x"}}]}})"},
      {"retained keys miss a change", R"({"spec":{"volumes":[{"name":"v"}]}})",
       R"({"spec":{"volumes":[{"name":"v","$retainKeys":["name"],"emptyDir":{}}]}})",
       "InvalidArgument"},
      {"no merge key", R"({"spec":{"containers":[{"name":"a"}]}})",
       R"({"spec":{"containers":[{"image":"x"}]}})", "FailedPrecondition"},
      {"unknown directive", R"({"spec":{"containers":[{"name":"a"}]}})",
       R"({"spec":{"containers":[{"name":"a","$patch":"x"}]}})", "InvalidArgument"},
      {"nulls of what is new", "{}", R"({"metadata":{"labels":{"a":null,"b":"1"}}})",
       R"({"metadata":{"labels":{"b":"1"}}})"},
      {"a whole new list", "{}", R"({"spec":{"containers":[{"name":"a","$patch":"delete"},
           {"name":"b"}]}})",
       R"({"spec":{"containers":[{"name":"b"}]}})"},
      {"nested lists", R"({"spec":{"containers":[{"name":"a","env":[{"name":"x","value":"1"}]}]}})",
       R"({"spec":{"containers":[{"name":"a","env":[{"name":"y","value":"2"}]}]}})",
       R"({"spec":{"containers":[{"name":"a","env":[{"name":"y","value":"2"},
           {"name":"x","value":"1"}]}]}})"},
      {"type change", R"({"spec":{"containers":[]}})", R"({"spec":"x"})", R"({"spec":"x"})"},
      {"scalars", R"({"spec":{"nodeName":"a"}})", R"({"spec":{"nodeName":"b"}})",
       R"({"spec":{"nodeName":"b"}})"},
  };
  for (const PatchCase& c : cases) {
    auto result = ApplyStrategicMergePatch(c.document, c.patch, *k8s::core::v1::Pod::descriptor());
    EXPECT_EQ(Outcome(result), Wanted(c.result)) << c.what;
  }
}

TEST(StrategicMergePatchTest, RetainsTheStrategyOfADeployment) {
  auto result = ApplyStrategicMergePatch(
      R"({"spec":{"strategy":{"type":"RollingUpdate","rollingUpdate":{"maxSurge":1}}}})",
      R"({"spec":{"strategy":{"$retainKeys":["type"],"type":"Recreate"}}})",
      *k8s::apps::v1::Deployment::descriptor());
  EXPECT_EQ(Outcome(result), R"({"spec":{"strategy":{"type":"Recreate"}}})");
}

}  // namespace
}  // namespace skiff::codec

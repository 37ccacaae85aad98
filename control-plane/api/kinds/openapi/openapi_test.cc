#include "control-plane/api/kinds/openapi/openapi.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>

#include "base/http/message.h"

namespace skiff::cp {
namespace {

using Json = nlohmann::json;

const OpenApi& Documents() {
  static const auto& documents = *new OpenApi(BuiltinKinds());
  return documents;
}

Json V2() { return Json::parse(Documents().v2_json()); }
Json V3(const std::string& path) { return Json::parse(Documents().v3().at(path)); }

http::Request Get(const std::string& path, const std::string& accept = "") {
  http::Request request;
  request.method = "GET";
  request.path = path;
  if (!accept.empty()) request.headers.Add("Accept", accept);
  return request;
}

TEST(OpenApiTest, DescribesAKind) {
  Json pod = V2()["definitions"]["io.k8s.api.core.v1.Pod"];
  EXPECT_EQ(pod["type"], "object");
  EXPECT_EQ(pod["properties"]["spec"]["$ref"], "#/definitions/io.k8s.api.core.v1.PodSpec");
  EXPECT_EQ(pod["properties"]["apiVersion"]["type"], "string");
  Json gvk = {{"group", ""}, {"version", "v1"}, {"kind", "Pod"}};
  EXPECT_EQ(pod["x-kubernetes-group-version-kind"], Json::array({gvk}));
}

TEST(OpenApiTest, CarriesWhatPatchesNeed) {
  Json spec = V2()["definitions"]["io.k8s.api.core.v1.PodSpec"];
  Json containers = spec["properties"]["containers"];
  EXPECT_EQ(containers["type"], "array");
  EXPECT_EQ(containers["items"]["$ref"], "#/definitions/io.k8s.api.core.v1.Container");
  EXPECT_EQ(containers["x-kubernetes-patch-strategy"], "merge");
  EXPECT_EQ(containers["x-kubernetes-patch-merge-key"], "name");
  EXPECT_EQ(containers["x-kubernetes-list-map-keys"], Json::array({"name"}));
  EXPECT_EQ(spec["required"], Json::array({"containers"}));
}

TEST(OpenApiTest, PutsInlinedFieldsInTheirParent) {
  Json volume = V2()["definitions"]["io.k8s.api.core.v1.Volume"];
  EXPECT_TRUE(volume["properties"].contains("emptyDir"));
  EXPECT_FALSE(volume["properties"].contains("volumeSource"));
  EXPECT_EQ(volume["required"], Json::array({"name"}));
}

TEST(OpenApiTest, KnowsTheTypesThatAreNoObjects) {
  Json definitions = V2()["definitions"];
  EXPECT_EQ(definitions["io.k8s.apimachinery.pkg.apis.meta.v1.Time"]["format"], "date-time");
  EXPECT_EQ(definitions["io.k8s.apimachinery.pkg.util.intstr.IntOrString"]["format"],
            "int-or-string");
  EXPECT_EQ(definitions["io.k8s.apimachinery.pkg.api.resource.Quantity"]["type"], "string");
  Json secret = definitions["io.k8s.api.core.v1.Secret"];
  EXPECT_EQ(secret["properties"]["data"]["additionalProperties"]["format"], "byte");
}

TEST(OpenApiTest, ResolvesEveryReference) {
  for (const auto& [path, text] : Documents().v3()) {
    Json document = Json::parse(text);
    std::vector<const Json*> open{&document};
    while (!open.empty()) {
      const Json* node = open.back();
      open.pop_back();
      if (node->is_object() && node->contains("$ref")) {
        std::string name =
            (*node)["$ref"].get<std::string>().substr(strlen("#/components/schemas/"));
        EXPECT_TRUE(document["components"]["schemas"].contains(name)) << path << ": " << name;
      }
      for (const Json& child : *node) {
        if (child.is_structured()) open.push_back(&child);
      }
    }
  }
}

TEST(OpenApiTest, PatchTakesFieldValidation) {
  Json patch = V3(
      "apis/apps/v1")["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"];
  EXPECT_EQ(patch["x-kubernetes-group-version-kind"]["kind"], "Deployment");
  std::vector<std::string> names;
  for (const Json& parameter : patch["parameters"]) names.push_back(parameter["name"]);
  EXPECT_NE(std::find(names.begin(), names.end(), "fieldValidation"), names.end());
  EXPECT_NE(std::find(names.begin(), names.end(), "dryRun"), names.end());
}

TEST(OpenApiTest, AnswersTheThreePaths) {
  auto v2 = Documents().Handle(Get("/openapi/v2"));
  ASSERT_TRUE(v2);
  EXPECT_EQ(v2->headers.Get("Content-Type"), "application/json");
  auto protobuf = Documents().Handle(
      Get("/openapi/v2", "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"));
  ASSERT_TRUE(protobuf);
  EXPECT_EQ(protobuf->body.substr(0, 5), std::string("\x0a\x03") + "2.0");
  auto index = Documents().Handle(Get("/openapi/v3"));
  ASSERT_TRUE(index);
  EXPECT_TRUE(Json::parse(index->body)["paths"].contains("apis/apps/v1"));
  EXPECT_TRUE(Documents().Handle(Get("/openapi/v3/apis/apps/v1")));
  EXPECT_FALSE(Documents().Handle(Get("/openapi/v3/apis/none/v1")));
  EXPECT_FALSE(Documents().Handle(Get("/openapi/v4")));
}

TEST(OpenApiTest, SaysWhatDidNotChange) {
  http::Request request = Get("/openapi/v2");
  auto first = Documents().Handle(request);
  ASSERT_TRUE(first);
  request.headers.Add("If-None-Match", first->headers.Get("ETag"));
  auto second = Documents().Handle(request);
  ASSERT_TRUE(second);
  EXPECT_EQ(second->status, 304);
  EXPECT_EQ(second->body, "");
}

}  // namespace
}  // namespace skiff::cp

// Creating, changing and deleting objects over REST.

#include <algorithm>

#include "control-plane/api/tests/api_fixture.h"
#include "proto/codec/wire.h"
#include "proto/k8s/core/v1/config.pb.h"

namespace skiff::cp {
namespace {

class ObjectsTest : public ApiFixture {};

std::string MessageOf(const Reply& reply) { return reply.json().value("message", reply.body); }

TEST_F(ObjectsTest, CreateSetsWhatTheServerOwns) {
  Reply created = Ask("POST", kConfigMaps, ConfigMapJson("a", {{"k", "v"}}));
  ASSERT_EQ(created.status, 201) << created.body;
  Json meta = created.json()["metadata"];
  EXPECT_EQ(meta["namespace"], "default");
  EXPECT_EQ(meta["uid"].get<std::string>().size(), 36u);
  EXPECT_TRUE(meta.contains("creationTimestamp"));
  Reply got = Ask("GET", std::string(kConfigMaps) + "/a");
  EXPECT_EQ(got.json(), created.json());
  Reply again = Ask("POST", kConfigMaps, ConfigMapJson("a"));
  EXPECT_EQ(again.status, 409);
  EXPECT_EQ(again.json()["reason"], "AlreadyExists");
  EXPECT_EQ(MessageOf(again), "configmaps \"a\" already exists");
}

TEST_F(ObjectsTest, GenerateNameMakesDistinctNames) {
  Json body = {{"metadata", {{"generateName", "x-"}}}};
  std::string first = Ask("POST", kConfigMaps, body).json()["metadata"]["name"];
  std::string second = Ask("POST", kConfigMaps, body).json()["metadata"]["name"];
  EXPECT_TRUE(first.starts_with("x-") && first.size() == 7) << first;
  EXPECT_NE(first, second);
}

TEST_F(ObjectsTest, UpdateIsOptimistic) {
  Json object = Ask("POST", kConfigMaps, ConfigMapJson("a")).json();
  object["data"]["k"] = "1";
  Reply updated = Ask("PUT", std::string(kConfigMaps) + "/a", object);
  ASSERT_EQ(updated.status, 200) << updated.body;
  EXPECT_NE(updated.json()["metadata"]["resourceVersion"], object["metadata"]["resourceVersion"]);
  Reply stale = Ask("PUT", std::string(kConfigMaps) + "/a", object);
  EXPECT_EQ(stale.status, 409);
  EXPECT_EQ(stale.json()["reason"], "Conflict");
  object["metadata"].erase("resourceVersion");
  EXPECT_EQ(Ask("PUT", std::string(kConfigMaps) + "/a", object).status, 200) << "unconditional";
}

TEST_F(ObjectsTest, WritingTheSameChangesNothing) {
  Json object = Ask("POST", kConfigMaps, ConfigMapJson("a", {{"k", "v"}})).json();
  Revision before = store_->CurrentRevision();
  Reply same = Ask("PUT", std::string(kConfigMaps) + "/a", object);
  EXPECT_EQ(same.json(), object);
  EXPECT_EQ(store_->CurrentRevision(), before);
}

TEST_F(ObjectsTest, WhatTheServerOwnsCannotBeChanged) {
  Json object = Ask("POST", kConfigMaps, ConfigMapJson("a")).json();
  Json changed = object;
  changed["metadata"]["creationTimestamp"] = "2001-01-01T00:00:00Z";
  changed["metadata"]["deletionTimestamp"] = "2001-01-01T00:00:00Z";
  Json stored = Ask("PUT", std::string(kConfigMaps) + "/a", changed).json();
  EXPECT_EQ(stored["metadata"]["creationTimestamp"], object["metadata"]["creationTimestamp"]);
  EXPECT_FALSE(stored["metadata"].contains("deletionTimestamp"));
  changed["metadata"]["uid"] = "other";
  EXPECT_EQ(Ask("PUT", std::string(kConfigMaps) + "/a", changed).status, 409);
}

TEST_F(ObjectsTest, PutCreatesOnlyWhereTheKindAllowsIt) {
  EXPECT_EQ(Ask("PUT", std::string(kConfigMaps) + "/none", ConfigMapJson("none")).status, 404);
  Json lease = {{"metadata", {{"name", "n"}}}, {"spec", {{"holderIdentity", "me"}}}};
  EXPECT_EQ(Ask("PUT", "/apis/coordination.k8s.io/v1/namespaces/default/leases/n", lease).status,
            201);
}

TEST_F(ObjectsTest, PatchesOfAllThreeKinds) {
  ASSERT_EQ(Ask("POST", kDeployments, DeploymentJson("d", 1)).status, 201);
  const std::string path = std::string(kDeployments) + "/d";
  Json merged = Patch(path, "application/merge-patch+json", R"({"spec":{"replicas":2}})").json();
  EXPECT_EQ(merged["spec"]["replicas"], 2);
  EXPECT_EQ(merged["metadata"]["generation"], 2);
  Json listed = Patch(path, "application/strategic-merge-patch+json",
                      R"({"spec":{"template":{"spec":{"containers":[{"name":"e","image":"f"}]}}}})")
                    .json();
  EXPECT_EQ(listed["spec"]["template"]["spec"]["containers"].size(), 2u);
  Json edited = Patch(path, "application/json-patch+json",
                      R"([{"op":"replace","path":"/spec/replicas","value":5}])")
                    .json();
  EXPECT_EQ(edited["spec"]["replicas"], 5);
  EXPECT_EQ(
      Patch(path, "application/json-patch+json", R"([{"op":"test","path":"/kind","value":1}])")
          .status,
      422);
  EXPECT_EQ(Patch(path, "application/merge-patch+json", R"({"spec":{"replicas":"x"}})").status,
            422);
  EXPECT_EQ(Patch(path, "text/plain", "{}").status, 415);
  EXPECT_EQ(
      Patch(path, "application/merge-patch+json", R"({"metadata":{"resourceVersion":"1"}})").status,
      409);
}

TEST_F(ObjectsTest, StatusAndSpecAreChangedApart) {
  ASSERT_EQ(Ask("POST", kDeployments, DeploymentJson("d", 1)).status, 201);
  const std::string path = std::string(kDeployments) + "/d";
  Json object = Ask("GET", path).json();
  object["status"]["replicas"] = 7;
  object["spec"]["replicas"] = 3;
  Json by_main = Ask("PUT", path, object).json();
  EXPECT_EQ(by_main["spec"]["replicas"], 3);
  EXPECT_NE(by_main["status"].value("replicas", 0), 7);
  by_main["status"]["replicas"] = 8;
  by_main["spec"]["replicas"] = 4;
  Json by_status = Ask("PUT", path + "/status", by_main).json();
  EXPECT_EQ(by_status["spec"]["replicas"], 3);
  EXPECT_EQ(by_status["status"]["replicas"], 8);
  EXPECT_EQ(by_status["metadata"]["generation"], 2);
}

TEST_F(ObjectsTest, ScaleReadsAndSetsReplicas) {
  ASSERT_EQ(Ask("POST", kDeployments, DeploymentJson("d", 1)).status, 201);
  const std::string path = std::string(kDeployments) + "/d/scale";
  Json scale = Ask("GET", path).json();
  EXPECT_EQ(scale["kind"], "Scale");
  EXPECT_EQ(scale["spec"]["replicas"], 1);
  EXPECT_EQ(scale["status"]["selector"], "app=d");
  scale["spec"]["replicas"] = 4;
  EXPECT_EQ(Ask("PUT", path, scale).json()["spec"]["replicas"], 4);
  EXPECT_EQ(Ask("PUT", path, scale).status, 409) << "the version is an old one now";
  EXPECT_EQ(Patch(path, "application/merge-patch+json", R"({"spec":{"replicas":0}})")
                .json()["spec"]
                .value("replicas", 0),
            0);
  EXPECT_EQ(Patch(path, "application/merge-patch+json", R"({"spec":{"replicas":-1}})").status, 422);
  EXPECT_EQ(Ask("GET", std::string(kDeployments) + "/d").json()["spec"]["replicas"], 0);
}

TEST_F(ObjectsTest, ScaleTellsTheSelectorOfAReplicationController) {
  const std::string path = "/api/v1/namespaces/default/replicationcontrollers";
  const Json pods = {{"metadata", {{"labels", {{"b", "c"}, {"a", "b"}}}}},
                     {"spec", {{"containers", {{{"name", "c"}, {"image", "i"}}}}}}};
  const Json controller = {{"metadata", {{"name", "r"}}}, {"spec", {{"template", pods}}}};
  ASSERT_EQ(Ask("POST", path, controller).status, 201);
  Json scale = Ask("GET", path + "/r/scale").json();
  EXPECT_EQ(scale["status"]["selector"], "a=b,b=c");
  scale["spec"]["replicas"] = 2;
  EXPECT_EQ(Ask("PUT", path + "/r/scale", scale).json()["spec"]["replicas"], 2);
  EXPECT_EQ(Ask("GET", path + "/r").json()["spec"]["replicas"], 2);
  // Old clients, who do not say what is to become of the pods, keep them.
  EXPECT_EQ(Ask("DELETE", path + "/r").json()["metadata"]["finalizers"], Json::array({"orphan"}));
}

TEST_F(ObjectsTest, OlderVersionsAreViewsOfTheSameObjects) {
  const std::string old = "/apis/extensions/v1beta1/namespaces/default/deployments";
  Json manifest = DeploymentJson("d", 1);
  manifest["apiVersion"] = "extensions/v1beta1";
  manifest["spec"].erase("selector");
  Json created = Ask("POST", old, manifest).json();
  EXPECT_EQ(created["apiVersion"], "extensions/v1beta1");
  Json today = Ask("GET", std::string(kDeployments) + "/d").json();
  EXPECT_EQ(today["apiVersion"], "apps/v1");
  EXPECT_EQ(today["metadata"]["uid"], created["metadata"]["uid"]);
  EXPECT_EQ(today["spec"]["selector"]["matchLabels"],
            today["spec"]["template"]["metadata"]["labels"]);
  Reply patched =
      Patch(old + "/d", "application/strategic-merge-patch+json", R"({"spec":{"replicas":2}})");
  EXPECT_EQ(patched.json()["spec"]["replicas"], 2);
  for (const char* version : {"apps/v1beta1", "apps/v1beta2"}) {
    Json list = Ask("GET", "/apis/" + std::string(version) + "/deployments").json();
    EXPECT_EQ(list["apiVersion"], version);
    ASSERT_EQ(list["items"].size(), 1u);
    EXPECT_EQ(list["items"][0]["spec"]["replicas"], 2);
  }
  EXPECT_EQ(Ask("DELETE", old + "/d").status, 200);
  EXPECT_EQ(Ask("GET", std::string(kDeployments) + "/d").status, 404);
}

TEST_F(ObjectsTest, TodaysVersionIsPreferred) {
  Json groups = Ask("GET", "/apis").json()["groups"];
  std::vector<std::string> names;
  for (const Json& group : groups) {
    names.push_back(group["name"]);
    if (group["name"] != "apps") continue;
    EXPECT_EQ(group["preferredVersion"]["groupVersion"], "apps/v1");
  }
  EXPECT_LT(std::ranges::find(names, "apps"), std::ranges::find(names, "extensions"));
  const Json resources = Ask("GET", "/apis/extensions/v1beta1").json()["resources"];
  EXPECT_FALSE(resources.empty());
  for (const Json& resource : resources) {
    EXPECT_FALSE(resource.contains("shortNames")) << resource;
    EXPECT_FALSE(resource.contains("categories")) << resource;
  }
}

TEST_F(ObjectsTest, DryRunStoresNothing) {
  Reply reply = Ask("POST", std::string(kConfigMaps) + "?dryRun=All", ConfigMapJson("a"));
  EXPECT_EQ(reply.status, 201);
  EXPECT_EQ(Ask("GET", std::string(kConfigMaps) + "/a").status, 404);
  ASSERT_EQ(Ask("POST", kConfigMaps, ConfigMapJson("a")).status, 201);
  EXPECT_EQ(Ask("DELETE", std::string(kConfigMaps) + "/a?dryRun=All").status, 200);
  EXPECT_EQ(Ask("GET", std::string(kConfigMaps) + "/a").status, 200);
  EXPECT_EQ(Ask("POST", std::string(kConfigMaps) + "?dryRun=Some", ConfigMapJson("b")).status, 422);
}

TEST_F(ObjectsTest, UnknownFieldsAreTreatedAsAsked) {
  Json object = ConfigMapJson("a");
  object["bogus"] = 1;
  Reply strict = Ask("POST", std::string(kConfigMaps) + "?fieldValidation=Strict", object);
  EXPECT_EQ(strict.status, 400);
  EXPECT_EQ(MessageOf(strict),
            "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: strict decoding error: "
            "unknown field \"bogus\"");
  Reply warned = Ask("POST", std::string(kConfigMaps) + "?dryRun=All", object);
  EXPECT_EQ(warned.status, 201);
  EXPECT_EQ(warned.headers.Get("Warning"), R"(299 - "unknown field \"bogus\"")");
  Reply ignored = Ask("POST", std::string(kConfigMaps) + "?fieldValidation=Ignore", object);
  EXPECT_EQ(ignored.status, 201);
  EXPECT_FALSE(ignored.headers.Has("Warning"));
}

TEST_F(ObjectsTest, InvalidObjectsSayWhichFields) {
  Json bad = DeploymentJson("Bad_Name", -1);
  Reply reply = Ask("POST", kDeployments, bad);
  EXPECT_EQ(reply.status, 422);
  EXPECT_EQ(reply.json()["reason"], "Invalid");
  std::set<std::string> fields;
  const Json causes = reply.json()["details"]["causes"];
  for (const auto& cause : causes) fields.insert(cause["field"]);
  EXPECT_TRUE(fields.contains("metadata.name"));
  EXPECT_TRUE(fields.contains("spec.replicas"));
}

TEST_F(ObjectsTest, BodiesThatAreNoObjects) {
  for (const char* body : {"", "[]", "{", "null", "{\"metadata\":5}", "\x01\x02"}) {
    EXPECT_EQ(Ask("POST", kConfigMaps, std::string(body)).status, 400) << body;
  }
  std::string deep;
  for (int i = 0; i < 100'000; ++i) deep += R"({"a":)";
  EXPECT_EQ(Ask("POST", kConfigMaps, deep).status, 400);
  std::string bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n";
  for (char c = 'b'; c < 'j'; ++c) {
    std::string before(1, static_cast<char>(c - 1));
    bomb += std::string(1, c) + ": &" + c + " [*" + before + ",*" + before + ",*" + before + ",*" +
            before + ",*" + before + ",*" + before + ",*" + before + ",*" + before + "]\n";
  }
  Reply reply = Ask("POST", kConfigMaps, bomb, {{"Content-Type", "application/yaml"}});
  EXPECT_TRUE(reply.status == 400 || reply.status == 413) << reply.status;
  EXPECT_EQ(Ask("POST", kConfigMaps, DeploymentJson("d", 1)).status, 400) << "another kind";
}

TEST_F(ObjectsTest, YamlAndProtobufWork) {
  Reply yaml = Ask("POST", kConfigMaps, "metadata:\n  name: yaml\ndata:\n  k: v\n",
                   {{"Content-Type", "application/yaml"}});
  EXPECT_EQ(yaml.status, 201) << yaml.body;
  k8s::core::v1::ConfigMap map;
  map.mutable_metadata()->set_name("p");
  (*map.mutable_data())["k"] = "v";
  const char kProtobuf[] = "application/vnd.kubernetes.protobuf";
  Reply reply = Ask("POST", kConfigMaps, codec::EncodeWire(map),
                    {{"Content-Type", kProtobuf}, {"Accept", kProtobuf}});
  ASSERT_EQ(reply.status, 201);
  EXPECT_EQ(reply.headers.Get("Content-Type"), kProtobuf);
  k8s::core::v1::ConfigMap stored;
  ASSERT_TRUE(codec::DecodeWire(reply.body, &stored).ok());
  EXPECT_EQ(stored.data().at("k"), "v");
  EXPECT_FALSE(stored.metadata().uid().empty());
  EXPECT_EQ(Ask("GET", kConfigMaps, "", {{"Accept", "image/png"}}).status, 406);
  EXPECT_EQ(Ask("POST", kConfigMaps, "x", {{"Content-Type", "image/png"}}).status, 415);
}

TEST_F(ObjectsTest, EventsAreOneKindUnderTwoGroups) {
  Json event = {{"metadata", {{"name", "e"}}},
                {"involvedObject", {{"kind", "Pod"}, {"name", "p"}, {"namespace", "default"}}},
                {"reason", "Started"},
                {"message", "it began"},
                {"type", "Normal"}};
  ASSERT_EQ(Ask("POST", "/api/v1/namespaces/default/events", event).status, 201);
  Json seen = Ask("GET", "/apis/events.k8s.io/v1/namespaces/default/events/e").json();
  EXPECT_EQ(seen["apiVersion"], "events.k8s.io/v1");
  EXPECT_EQ(seen["note"], "it began");
  EXPECT_EQ(seen["regarding"]["name"], "p");
  Json listed =
      Ask("GET", "/api/v1/namespaces/default/events?fieldSelector=involvedObject.name%3Dp").json();
  EXPECT_EQ(listed["items"].size(), 1u);
}

TEST_F(ObjectsTest, PathsAndVerbsThatAreNotThere) {
  EXPECT_EQ(Ask("GET", "/api/v1/unicorns").status, 404);
  EXPECT_EQ(Ask("GET", "/apis/none/v1/things").status, 404);
  EXPECT_EQ(Ask("GET", "/api/v1/namespaces/default/nodes").status, 404);
  EXPECT_EQ(Ask("GET", std::string(kPods) + "/p/unicorn").status, 404);
  EXPECT_EQ(Ask("POST", "/api/v1/pods", PodJson("p")).status, 405);
  EXPECT_EQ(Ask("PUT", kConfigMaps, ConfigMapJson("a")).status, 405);
  Reply missing = Ask("POST", "/api/v1/namespaces/none/configmaps", ConfigMapJson("a"));
  EXPECT_EQ(missing.status, 404);
  EXPECT_EQ(MessageOf(missing), "namespaces \"none\" not found");
}

TEST_F(ObjectsTest, OnlyTheAdministratorMay) {
  http::Peer nobody{.address = "test", .tls = true};
  EXPECT_EQ(AskAs(nobody, "GET", "/healthz").status, 200);
  EXPECT_EQ(AskAs(nobody, "GET", "/version").status, 200);
  EXPECT_EQ(AskAs(nobody, "GET", kPods).status, 403);
  EXPECT_EQ(AskAs(nobody, "GET", "/metrics").status, 403);
  http::Peer user = nobody;
  user.certificate = true;
  user.common_name = "jane";
  EXPECT_EQ(AskAs(user, "GET", "/api").status, 200);
  Reply refused = AskAs(user, "DELETE", std::string(kPods) + "/p");
  EXPECT_EQ(refused.status, 403);
  EXPECT_EQ(MessageOf(refused),
            "pods \"p\" is forbidden: User \"jane\" cannot delete resource \"pods\" in API group "
            "\"\" in the namespace \"default\"");
  Json review = {{"spec", {{"resourceAttributes", {{"verb", "get"}, {"resource", "pods"}}}}}};
  const char kReviews[] = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
  EXPECT_EQ(AskAs(user, "POST", kReviews, review.dump()).json()["status"]["allowed"], false);
  EXPECT_EQ(Ask("POST", kReviews, review).json()["status"]["allowed"], true);
  http::Peer expired = nobody;
  expired.certificate_error = "certificate has expired";
  EXPECT_EQ(AskAs(expired, "GET", kPods).status, 401);
  EXPECT_EQ(AskAs(nobody, "GET", kPods, "", {{"Authorization", "Bearer x"}}).status, 401);
}

}  // namespace
}  // namespace skiff::cp

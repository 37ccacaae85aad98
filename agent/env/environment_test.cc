#include "agent/testing/world.h"

// After world.h, which says why.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "agent/env/environment.h"
#include "agent/env/fields.h"

namespace skiff::agent {
namespace {

namespace core = k8s::core::v1;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::Not;
using ::testing::Pair;
using testing::World;

class EnvironmentTest : public ::testing::Test {
 protected:
  EnvironmentTest() {
    auto map = std::make_shared<core::ConfigMap>();
    (*map->mutable_data())["a"] = "1";
    (*map->mutable_data())["b"] = "2";
    objects.config_maps["default/map"] = map;
    auto secret = std::make_shared<core::Secret>();
    (*secret->mutable_data())["password"] = "s3cret";
    objects.secrets["default/secret"] = secret;
  }
  Result<EnvList> Make(const std::string& container, const std::string& pod_more = "") {
    auto pod = World::MakePod("metadata { labels { key: \"app\" value: \"shop\" } } spec { " +
                              pod_more + " containers { name: \"c\" " + container + " } }");
    return MakeEnvironment(*pod, pod->spec().containers(0), objects, node, {"10.0.0.9"});
  }
  void AddService(const std::string& name_space, const std::string& text) {
    auto service = std::make_shared<core::Service>();
    ASSERT_TRUE(google::protobuf::TextFormat::ParseFromString(text, service.get()));
    objects.services[name_space].push_back(service);
  }
  testing::FakeObjects objects;
  NodeContext node;
};

TEST_F(EnvironmentTest, LaterSourcesWinAndReferencesExpand) {
  auto env = Make(R"(env_from { config_map_ref { local_object_reference { name: "map" } } }
                     env_from { prefix: "P_"
                                secret_ref { local_object_reference { name: "secret" } } }
                     env { name: "b" value: "own" }
                     env { name: "c" value: "$(a)$(b) $$(a) $(none) $" })");
  ASSERT_TRUE(env.ok());
  EXPECT_THAT(*env, ElementsAre(Pair("a", "1"), Pair("b", "own"), Pair("P_password", "s3cret"),
                                Pair("c", "1own $(a) $(none) $")));
}

TEST_F(EnvironmentTest, SourcesOfSingleValues) {
  auto env = Make(
      R"(env { name: "K" value_from { config_map_key_ref {
                 local_object_reference { name: "map" } key: "a" } } }
         env { name: "S" value_from { secret_key_ref {
                 local_object_reference { name: "secret" } key: "password" } } }
         env { name: "O" value_from { secret_key_ref {
                 local_object_reference { name: "none" } key: "x" optional: true } } }
         env { name: "IP" value_from { field_ref { field_path: "status.podIP" } } }
         env { name: "L" value_from { field_ref { field_path: "metadata.labels['app']" } } }
         env { name: "CPU" value_from { resource_field_ref { resource: "limits.cpu" } } }
         env { name: "MEM" value_from { resource_field_ref { resource: "requests.memory"
                 divisor { string: "1Mi" } } } }
         resources { limits { key: "cpu" value { string: "1500m" } }
                     requests { key: "memory" value { string: "64Mi" } } })");
  ASSERT_TRUE(env.ok()) << env.error().message();
  EXPECT_THAT(*env, ElementsAre(Pair("K", "1"), Pair("S", "s3cret"), Pair("IP", "10.0.0.9"),
                                Pair("L", "shop"), Pair("CPU", "2"), Pair("MEM", "64")));
}

TEST_F(EnvironmentTest, WhatIsMissingIsNamedInKubeletsWords) {
  EXPECT_EQ(Make(R"(env_from { config_map_ref { local_object_reference { name: "no" } } })")
                .error()
                .message(),
            "configmap \"no\" not found");
  EXPECT_EQ(Make(R"(env { name: "S" value_from { secret_key_ref {
                      local_object_reference { name: "secret" } key: "no" } } })")
                .error()
                .message(),
            "couldn't find key no in Secret default/secret");
  EXPECT_FALSE(
      Make(R"(env { name: "F" value_from { field_ref { field_path: "spec.nope" } } })").ok());
}

TEST_F(EnvironmentTest, ServicesInBothForms) {
  AddService("default", R"(metadata { name: "my-db" } spec { cluster_ip: "10.96.1.1"
      ports { name: "main" port: 5432 protocol: "TCP" } ports { name: "m2" port: 99 protocol: "UDP" } })");
  AddService("default",
             R"(metadata { name: "headless" } spec { cluster_ip: "None" ports { port: 1 } })");
  auto env = Make(
      "env { name: \"MY_DB_SERVICE_PORT\" value: \"own\" } "
      "env { name: \"URL\" value: \"db:$(MY_DB_SERVICE_HOST)\" }");
  ASSERT_TRUE(env.ok());
  EXPECT_THAT(*env, Contains(Pair("MY_DB_SERVICE_HOST", "10.96.1.1")));
  EXPECT_THAT(*env, Contains(Pair("MY_DB_SERVICE_PORT", "own")));
  EXPECT_THAT(*env, Contains(Pair("MY_DB_SERVICE_PORT_MAIN", "5432")));
  EXPECT_THAT(*env, Contains(Pair("MY_DB_PORT", "tcp://10.96.1.1:5432")));
  EXPECT_THAT(*env, Contains(Pair("MY_DB_PORT_99_UDP", "udp://10.96.1.1:99")));
  EXPECT_THAT(*env, Contains(Pair("MY_DB_PORT_5432_TCP_ADDR", "10.96.1.1")));
  EXPECT_THAT(*env, Contains(Pair("URL", "db:10.96.1.1")));
  EXPECT_THAT(*env, Not(Contains(Pair("HEADLESS_SERVICE_HOST", ::testing::_))));
}

TEST_F(EnvironmentTest, TheApiIsKnownEvenWithoutServiceLinks) {
  AddService("default", R"(metadata { name: "kubernetes" } spec { cluster_ip: "10.96.0.1"
      ports { name: "https" port: 443 protocol: "TCP" } })");
  AddService("default",
             R"(metadata { name: "other" } spec { cluster_ip: "10.96.0.7" ports { port: 1 } })");
  auto env = Make("", "enable_service_links: false");
  ASSERT_TRUE(env.ok());
  EXPECT_THAT(*env, Contains(Pair("KUBERNETES_SERVICE_HOST", "10.96.0.1")));
  EXPECT_THAT(*env, Not(Contains(Pair("OTHER_SERVICE_HOST", ::testing::_))));
}

TEST(FieldsTest, MapsAreSortedAndQuoted) {
  EXPECT_EQ(FormatMap({{"b", "x\"y"}, {"a", "line\nend"}}), "a=\"line\\nend\"\nb=\"x\\\"y\"");
}

}  // namespace
}  // namespace skiff::agent

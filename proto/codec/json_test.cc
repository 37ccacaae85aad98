#include "proto/codec/json.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "proto/codec/meta.h"
#include "proto/codec/wire.h"
#include "proto/k8s/apps/v1/apps.pb.h"
#include "proto/k8s/core/v1/config.pb.h"
#include "proto/k8s/core/v1/event.pb.h"
#include "proto/k8s/core/v1/pod.pb.h"
#include "proto/k8s/core/v1/service.pb.h"
#include "proto/k8s/discovery/v1/discovery.pb.h"
#include "proto/k8s/meta/v1/status.pb.h"

namespace skiff::codec {
namespace {

namespace core = k8s::core::v1;
using k8s::apps::v1::Deployment;

template <class T>
T Decoded(std::string_view json) {
  T message;
  auto result = DecodeJson(json, {}, &message);
  EXPECT_TRUE(result.ok()) << result.error().message();
  return message;
}

// The error of decoding, or "" for success.
template <class T>
std::string ErrorOf(std::string_view json, FieldValidation validation = FieldValidation::kStrict) {
  T message;
  DecodeOptions options;
  options.field_validation = validation;
  auto result = DecodeJson(json, options, &message);
  return result.ok() ? "" : result.error().message();
}

TEST(EncodeTest, WritesWhatGoWrites) {
  core::Pod pod;
  pod.mutable_metadata()->set_name("a");
  auto& container = *pod.mutable_spec()->add_containers();
  container.set_name("c");
  // Structs are always there; empty pointers, lists and texts are not.
  EXPECT_EQ(EncodeJson(pod), R"({"kind":"Pod","apiVersion":"v1","metadata":{"name":"a"},)"
                             R"("spec":{"containers":[{"name":"c","resources":{}}]},"status":{}})");
}

TEST(EncodeTest, WritesEmptyListsAsNullAndItemsAsEmpty) {
  k8s::discovery::v1::EndpointSlice slice;
  auto json = nlohmann::json::parse(EncodeJson(slice));
  EXPECT_TRUE(json["endpoints"].is_null());
  EXPECT_TRUE(json["ports"].is_null());
  EXPECT_EQ(json["addressType"], "");
  EXPECT_EQ(EncodeJson(core::PodList()),
            R"({"kind":"PodList","apiVersion":"v1","metadata":{},"items":[]})");
}

TEST(EncodeTest, LeavesOutTheTypeOfItems) {
  core::PodList list;
  list.add_items()->mutable_metadata()->set_name("a");
  auto item = nlohmann::json::parse(EncodeJson(list))["items"][0];
  EXPECT_FALSE(item.contains("kind"));
}

TEST(EncodeTest, WritesUnsetTimesAsNull) {
  core::Event event;
  auto json = nlohmann::json::parse(EncodeJson(event));
  EXPECT_TRUE(json["eventTime"].is_null());
  EXPECT_TRUE(json["firstTimestamp"].is_null());
  EXPECT_FALSE(json["metadata"].contains("creationTimestamp"));
}

TEST(EncodeTest, SortsMapsAndEscapesText) {
  core::ConfigMap map;
  (*map.mutable_data())["b"] = "line\n\"quoted\" \x01 \xE2\x82\xAC \xFF";
  (*map.mutable_data())["a"] = "1";
  (*map.mutable_binary_data())["k"] = std::string("\0\xFF", 2);
  EXPECT_EQ(
      EncodeJson(map),
      "{\"kind\":\"ConfigMap\",\"apiVersion\":\"v1\",\"metadata\":{},"
      "\"data\":{\"a\":\"1\",\"b\":\"line\\n\\\"quoted\\\" \\u0001 \xE2\x82\xAC \xEF\xBF\xBD\"},"
      "\"binaryData\":{\"k\":\"AP8=\"}}");
}

TEST(EncodeTest, ShowsEnvelopesInRawExtensionsAsJson) {
  core::ConfigMap map;
  map.mutable_metadata()->set_name("m");
  k8s::meta::v1::WatchEvent event;
  event.set_type("ADDED");
  event.mutable_object()->set_raw(EncodeWire(map));
  EXPECT_EQ(
      EncodeJson(event),
      R"({"type":"ADDED","object":{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"m"}}})");
}

TEST(DecodeTest, KeepsPresenceOfPointersOnly) {
  auto pod = Decoded<core::Pod>(
      R"({"spec":{"hostNetwork":false,"enableServiceLinks":false,"nodeName":"",
          "securityContext":{},"volumes":[{"name":"v","emptyDir":{}}]},"status":{}})");
  EXPECT_FALSE(pod.spec().has_host_network());
  EXPECT_TRUE(pod.spec().has_enable_service_links());
  EXPECT_FALSE(pod.spec().has_node_name());
  EXPECT_TRUE(pod.spec().has_security_context());
  EXPECT_TRUE(pod.spec().volumes(0).volume_source().has_empty_dir());
  EXPECT_FALSE(pod.has_status());
}

TEST(DecodeTest, TakesNullAsAbsent) {
  auto pod = Decoded<core::Pod>(
      R"({"metadata":{"creationTimestamp":null,"labels":null},"spec":{"containers":null}})");
  EXPECT_FALSE(pod.metadata().has_creation_timestamp());
  EXPECT_EQ(pod.spec().containers_size(), 0);
}

TEST(DecodeTest, ReadsQuantitiesAsNumberAndText) {
  auto pod = Decoded<core::Pod>(
      R"({"spec":{"containers":[{"resources":{"limits":{"cpu":0.5,"memory":"1024Mi","x/y":2}}}]}})");
  const auto& limits = pod.spec().containers(0).resources().limits();
  EXPECT_EQ(limits.at("cpu").string(), "500m");
  EXPECT_EQ(limits.at("memory").string(), "1Gi");
  EXPECT_EQ(limits.at("x/y").string(), "2");
}

TEST(DecodeTest, ReadsIntOrString) {
  auto service = Decoded<core::Service>(
      R"({"spec":{"ports":[{"port":80,"targetPort":8080},{"port":81,"targetPort":"http"}]}})");
  EXPECT_EQ(service.spec().ports(0).target_port().int_val(), 8080);
  EXPECT_EQ(service.spec().ports(1).target_port().str_val(), "http");
}

TEST(DecodeTest, ReadsTimesWithOffsetAndFraction) {
  auto event = Decoded<core::Event>(
      R"({"firstTimestamp":"2020-01-01T02:00:00.75+02:00",
          "eventTime":"2020-01-01T00:00:00.1234567Z"})");
  EXPECT_EQ(event.first_timestamp().seconds(), 1577836800);
  EXPECT_EQ(event.first_timestamp().nanos(), 0);
  EXPECT_EQ(event.event_time().nanos(), 123456000);
}

TEST(DecodeTest, TakesTheLastOfRepeatedKeys) {
  auto map = Decoded<core::ConfigMap>(R"({"data":{"a":"1"},"data":{"b":"2"},"immutable":true,
                                          "immutable":false})");
  EXPECT_EQ(map.data_size(), 1);
  EXPECT_TRUE(map.has_immutable());
  EXPECT_FALSE(map.immutable());
}

TEST(DecodeTest, UnescapesText) {
  auto map = Decoded<core::ConfigMap>(R"({"data":{"\u0061":"\ud83d\ude00 \ud800 \t\/"}})");
  EXPECT_EQ(map.data().at("a"), "\xF0\x9F\x98\x80 \xEF\xBF\xBD \t/");
}

struct ErrorCase {
  const char* json;
  const char* error;
};

TEST(DecodeTest, NamesUnknownAndRepeatedFields) {
  const ErrorCase cases[] = {
      {R"({"spec":{"foo":1}})", R"(strict decoding error: unknown field "spec.foo")"},
      {R"({"Spec":{}})", R"(strict decoding error: unknown field "Spec")"},
      {R"({"spec":{"template":{"spec":{"containers":[{"name":"a"},{"imag":"b"}]}}}})",
       R"(strict decoding error: unknown field "spec.template.spec.containers[1].imag")"},
      {R"({"spec":{"replicas":1,"replicas":2},"x":{}})",
       R"(strict decoding error: duplicate field "spec.replicas", unknown field "x")"},
      {R"({"metadata":{"labels":{"a":"1","a":"2"}}})",
       R"(strict decoding error: duplicate field "metadata.labels.a")"},
      {R"({"apiVersion":"apps/v1","kind":"Deployment"})", ""},
  };
  for (const ErrorCase& c : cases) EXPECT_EQ(ErrorOf<Deployment>(c.json), c.error) << c.json;
}

TEST(DecodeTest, WarnsOrIgnoresInstead) {
  Deployment deployment;
  std::vector<std::string> warnings;
  DecodeOptions options;
  options.field_validation = FieldValidation::kWarn;
  ASSERT_TRUE(DecodeJson(R"({"spec":{"foo":1}})", options, &deployment, &warnings).ok());
  EXPECT_EQ(warnings, std::vector<std::string>{R"(unknown field "spec.foo")"});
  EXPECT_EQ(ErrorOf<Deployment>(R"({"spec":{"foo":1}})", FieldValidation::kIgnore), "");
}

TEST(DecodeTest, SaysWhichTypeIsWrong) {
  const ErrorCase cases[] = {
      {R"({"spec":{"replicas":"2"}})",
       "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type "
       "int32"},
      {R"({"spec":{"replicas":1.5}})",
       "json: cannot unmarshal number 1.5 into Go struct field DeploymentSpec.spec.replicas of "
       "type int32"},
      {R"({"spec":{"replicas":99999999999}})",
       "json: cannot unmarshal number 99999999999 into Go struct field "
       "DeploymentSpec.spec.replicas of type int32"},
      {R"({"spec":{"paused":"yes"}})",
       "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.paused of type "
       "bool"},
      {R"({"spec":{"template":{"spec":{"containers":{}}}}})",
       "json: cannot unmarshal object into Go struct field PodSpec.spec.template.spec.containers "
       "of type []v1.Container"},
      {R"({"spec":{"template":{"spec":{"containers":[{"env":[{"name":"a","value":1}]}]}}}})",
       "json: cannot unmarshal number into Go struct field "
       "EnvVar.spec.template.spec.containers.env.value of type string"},
      {R"({"metadata":{"labels":{"a":1}}})",
       "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of type "
       "string"},
      {R"({"metadata":[]})",
       "json: cannot unmarshal array into Go struct field Deployment.metadata of type "
       "v1.ObjectMeta"},
      {"[]", "json: cannot unmarshal array into Go value of type v1.Deployment"},
      {R"({"spec":{"template":{"spec":{"containers":[{"resources":{"limits":{"cpu":"x"}}}]}}}})",
       "quantities must match the regular expression "
       "'^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$' (in "
       "spec.template.spec.containers[0].resources.limits.cpu)"},
      {R"({"metadata":{"creationTimestamp":"now"}})",
       "parsing time \"now\" as \"2006-01-02T15:04:05Z07:00\": cannot parse the value of "
       "metadata.creationTimestamp"},
  };
  for (const ErrorCase& c : cases) EXPECT_EQ(ErrorOf<Deployment>(c.json), c.error) << c.json;
}

TEST(DecodeTest, RefusesMalformedJson) {
  const ErrorCase cases[] = {
      {"", "unexpected end of JSON input"},
      {"{", "unexpected end of JSON input"},
      {R"({"a":1,})",
       "invalid character '}' looking for beginning of object key string (at "
       "offset 7)"},
      {R"({"a" 1})", "invalid character '1' after object key (at offset 5)"},
      {R"({"a":tru})", "invalid character '}' in literal true (expecting 'e') (at offset 8)"},
      {R"({"a":01})", "invalid character '1' after object key:value pair (at offset 6)"},
      {R"({"a":[1,]})", "invalid character ']' looking for beginning of value (at offset 8)"},
      {R"({} x)", "invalid character 'x' after top-level value (at offset 3)"},
      {"{\"a\":\"\n\"}", "invalid character '\\n' in string literal (at offset 6)"},
  };
  for (const ErrorCase& c : cases) {
    EXPECT_EQ(ErrorOf<Deployment>(c.json, FieldValidation::kIgnore), c.error) << c.json;
  }
}

TEST(DecodeTest, HasLimits) {
  std::string deep(100000, '[');
  EXPECT_EQ(ErrorOf<Deployment>("{\"x\":" + deep, FieldValidation::kIgnore), "exceeded max depth");
  Deployment deployment;
  DecodeOptions options;
  options.max_bytes = 10;
  auto result = DecodeJson(R"({"spec":{"replicas":1}})", options, &deployment);
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().code(), Code::kResourceExhausted);
}

TEST(PeekTypeTest, ReadsTheTypeOnly) {
  auto type = PeekType(R"({"spec":{"kind":"no"},"kind":"Pod","apiVersion":"v1"})");
  ASSERT_TRUE(type.ok());
  EXPECT_EQ(type->kind, "Pod");
  EXPECT_EQ(type->api_version, "v1");
  EXPECT_FALSE(PeekType("[1]").ok());
  EXPECT_FALSE(PeekType("{").ok());
}

TEST(NormalizeTest, MakesEqualObjectsEqualBytes) {
  auto decoded = Decoded<core::Pod>(
      R"({"metadata":{"name":"a"},"spec":{"containers":[{"name":"c","stdin":false,
          "resources":{"limits":{"cpu":"1000m"}}}]}})");
  core::Pod built;
  built.mutable_metadata()->set_name("a");
  built.mutable_metadata()->set_namespace_("");
  auto& container = *built.mutable_spec()->add_containers();
  container.set_name("c");
  container.set_stdin(false);
  (*container.mutable_resources()->mutable_limits())["cpu"].set_string("1000m");
  built.mutable_status();
  ASSERT_TRUE(Normalize(&built).ok());
  EXPECT_EQ(built.SerializeAsString(), decoded.SerializeAsString());
  (*container.mutable_resources()->mutable_limits())["cpu"].set_string("much");
  EXPECT_FALSE(Normalize(&built).ok());
}

TEST(WireTest, RefusesWhatIsNoEnvelope) {
  core::Pod pod;
  EXPECT_FALSE(DecodeWire("{}", &pod).ok());
  EXPECT_FALSE(DecodeWire(std::string("k8s\0\x0a\xff", 6), &pod).ok());
  std::string wire = EncodeWire(pod);
  for (size_t size = 0; size < wire.size(); ++size) {
    std::string cut = wire.substr(0, size);
    static_cast<void>(DecodeWire(cut, &pod));
  }
  auto envelope = OpenWireEnvelope(wire);
  ASSERT_TRUE(envelope.ok());
  EXPECT_EQ(envelope->kind, "Pod");
  EXPECT_EQ(envelope->api_version, "v1");
}

TEST(WireTest, FramesWatchEvents) {
  core::ConfigMap map;
  std::string frame = EncodeWatchFrame("ADDED", EncodeWire(map));
  size_t size = static_cast<size_t>(static_cast<unsigned char>(frame[2])) << 8 |
                static_cast<unsigned char>(frame[3]);
  ASSERT_EQ(size, frame.size() - 4);
  k8s::meta::v1::WatchEvent event;
  ASSERT_TRUE(event.ParseFromString(frame.substr(4)));
  EXPECT_EQ(event.type(), "ADDED");
  EXPECT_TRUE(DecodeWire(event.object().raw(), &map).ok());
}

TEST(MetaTest, KnowsKinds) {
  EXPECT_EQ(GvkOf(Deployment())->ApiVersion(), "apps/v1");
  EXPECT_EQ(GvkOf(core::PodSpec()), nullptr);
  EXPECT_EQ(FindKind({"", "v1", "Status"}), k8s::meta::v1::Status::descriptor());
  EXPECT_EQ(FindKind({"apps", "v1", "DeploymentSpec"}), nullptr);
  EXPECT_EQ(FindKind({"none", "v1", "Pod"}), nullptr);
  EXPECT_FALSE(ParseGvk("a/b/c", "Pod").ok());
  EXPECT_TRUE(HasObjectMeta(*core::Pod::descriptor()));
  EXPECT_FALSE(HasObjectMeta(*core::PodList::descriptor()));
  EXPECT_TRUE(IsList(*core::PodList::descriptor()));
}

}  // namespace
}  // namespace skiff::codec

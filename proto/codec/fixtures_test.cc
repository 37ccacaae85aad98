// Every pair of tests/testdata/k8s: an object with all fields set, as JSON and as protobuf.
#include <google/protobuf/message.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "proto/codec/json.h"
#include "proto/codec/meta.h"
#include "proto/codec/wire.h"
#include "proto/k8s/apps/v1/apps.pb.h"
#include "proto/k8s/batch/v1/batch.pb.h"
#include "proto/k8s/core/v1/config.pb.h"
#include "proto/k8s/core/v1/event.pb.h"
#include "proto/k8s/core/v1/namespace.pb.h"
#include "proto/k8s/core/v1/node.pb.h"
#include "proto/k8s/core/v1/persistent_volume.pb.h"
#include "proto/k8s/core/v1/pod_options.pb.h"
#include "proto/k8s/core/v1/rest.pb.h"
#include "proto/k8s/core/v1/service.pb.h"
#include "proto/k8s/discovery/v1/discovery.pb.h"
#include "proto/k8s/extensions/v1beta1/extensions.pb.h"
#include "proto/k8s/meta/v1/discovery.pb.h"
#include "proto/k8s/meta/v1/options.pb.h"
#include "proto/k8s/meta/v1/status.pb.h"
#include "proto/k8s/networking/v1/networking.pb.h"

namespace skiff::codec {
namespace {

namespace fs = std::filesystem;
using google::protobuf::Message;

// Keeps the linker from dropping the messages that the test finds by name only.
[[maybe_unused]] const void* const kLinked[] = {
    k8s::apps::v1::Deployment::descriptor(),
    k8s::batch::v1::Job::descriptor(),
    k8s::core::v1::ConfigMap::descriptor(),
    k8s::core::v1::Event::descriptor(),
    k8s::core::v1::Namespace::descriptor(),
    k8s::core::v1::Node::descriptor(),
    k8s::core::v1::PersistentVolume::descriptor(),
    k8s::core::v1::PodExecOptions::descriptor(),
    k8s::core::v1::ReplicationController::descriptor(),
    k8s::core::v1::Service::descriptor(),
    k8s::discovery::v1::EndpointSlice::descriptor(),
    k8s::extensions::v1beta1::Ingress::descriptor(),
    k8s::meta::v1::APIGroup::descriptor(),
    k8s::meta::v1::CreateOptions::descriptor(),
    k8s::meta::v1::Status::descriptor(),
    k8s::networking::v1::NetworkPolicy::descriptor(),
};

std::string ReadFile(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

std::vector<std::string> FixtureNames() {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator("tests/testdata/k8s")) {
    if (entry.path().extension() == ".json") names.push_back(entry.path().stem().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

class Fixture : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    json_ = ReadFile("tests/testdata/k8s/" + GetParam() + ".json");
    wire_ = ReadFile("tests/testdata/k8s/" + GetParam() + ".pb");
    if (GetParam() == "core.v1.WatchEvent") {  // the one that names no type
      type_ = k8s::meta::v1::WatchEvent::descriptor();
      return;
    }
    auto type = PeekType(json_);
    ASSERT_TRUE(type.ok()) << type.error().message();
    auto gvk = ParseGvk(type->api_version, type->kind);
    ASSERT_TRUE(gvk.ok());
    type_ = FindKind(*gvk);
    ASSERT_NE(type_, nullptr) << type->api_version << " " << type->kind;
  }

  std::string json_, wire_;
  const google::protobuf::Descriptor* type_ = nullptr;
};

TEST_P(Fixture, JsonToProtobuf) {
  auto message = NewMessage(*type_);
  DecodeOptions options;
  options.field_validation = FieldValidation::kStrict;
  auto decoded = DecodeJson(json_, options, message.get());
  ASSERT_TRUE(decoded.ok()) << decoded.error().message();
  EXPECT_TRUE(EncodeWire(*message) == wire_) << message->DebugString();
}

TEST_P(Fixture, ProtobufToJson) {
  auto message = NewMessage(*type_);
  auto decoded = DecodeWire(wire_, message.get());
  ASSERT_TRUE(decoded.ok()) << decoded.error().message();
  auto got = nlohmann::json::parse(EncodeJson(*message));
  auto want = nlohmann::json::parse(json_);
  EXPECT_EQ(nlohmann::json::diff(want, got).dump(1), "[]");
}

INSTANTIATE_TEST_SUITE_P(All, Fixture, testing::ValuesIn(FixtureNames()), [](const auto& fixture) {
  std::string name = fixture.param;
  std::replace(name.begin(), name.end(), '.', '_');
  return name;
});

TEST(Fixtures, AreAllThere) { EXPECT_EQ(FixtureNames().size(), 52u); }

}  // namespace
}  // namespace skiff::codec

// Objects for tests, as their manifests say them.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string_view>

#include "proto/codec/json.h"
#include "proto/codec/yaml.h"

namespace skiff::codec::testing {

// The test fails where the text is no such object.
template <class T>
std::shared_ptr<T> FromYaml(std::string_view yaml) {
  auto object = std::make_shared<T>();
  auto json = YamlToJson(yaml);
  EXPECT_TRUE(json.ok()) << yaml;
  if (!json.ok()) return object;
  auto decoded = DecodeJson(*json, {}, object.get());
  EXPECT_TRUE(decoded.ok()) << yaml << "\n" << decoded.error().message();
  return object;
}

}  // namespace skiff::codec::testing

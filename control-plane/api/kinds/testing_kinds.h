// Short ways to kinds, their objects and what their rules say, for the kinds' tests.
#pragma once

#include <google/protobuf/message.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "control-plane/api/kinds/kinds.h"
#include "proto/codec/json.h"
#include "proto/codec/yaml.h"

namespace skiff::cp {

using MessagePtr = std::unique_ptr<Message>;
using Errors = std::vector<std::string>;

inline const KindInfo& Kind(std::string_view group, std::string_view plural) {
  static const auto& kinds = *new Kinds(BuiltinKinds());
  const KindInfo* kind = kinds.FindResource(group, "v1", plural);
  EXPECT_NE(kind, nullptr) << plural;
  return *kind;
}
inline const KindInfo& Services() { return Kind("", "services"); }

// The object of a manifest, defaults set.
inline MessagePtr Read(const KindInfo& kind, std::string_view yaml) {
  MessagePtr object(kind.prototype->New());
  auto json = codec::YamlToJson(yaml);
  EXPECT_TRUE(json.ok()) << json.error().message();
  codec::DecodeOptions options;
  options.field_validation = codec::FieldValidation::kStrict;
  auto decoded = codec::DecodeJson(*json, options, object.get());
  EXPECT_TRUE(decoded.ok()) << decoded.error().message();
  if (kind.rules.set_defaults) kind.rules.set_defaults(*object);
  return object;
}

inline std::vector<std::string> Texts(const FieldErrors& errors) {
  std::vector<std::string> texts;
  for (const FieldError& error : errors.errors()) texts.push_back(error.ToString());
  return texts;
}
inline std::vector<std::string> Validate(const KindInfo& kind, std::string_view yaml) {
  FieldErrors errors;
  kind.rules.validate(*Read(kind, yaml), errors);
  return Texts(errors);
}
inline std::vector<std::string> ValidateUpdate(const KindInfo& kind, std::string_view old_yaml,
                                               std::string_view yaml) {
  FieldErrors errors;
  kind.rules.validate_update(*Read(kind, yaml), *Read(kind, old_yaml), errors);
  return Texts(errors);
}

inline std::vector<std::string> ValidateStatusUpdate(const KindInfo& kind,
                                                     std::string_view old_yaml,
                                                     std::string_view yaml) {
  FieldErrors errors;
  kind.rules.validate_status_update(*Read(kind, yaml), *Read(kind, old_yaml), errors);
  return Texts(errors);
}

inline std::string Row(const KindInfo& kind, std::string_view yaml) {
  WallTime now(std::chrono::seconds(1577836800 + 125));  // 2m5s into 2020
  std::string text;
  for (const TableCell& cell : kind.rules.table_row(*Read(kind, yaml), now)) {
    if (!text.empty()) text += " | ";
    std::visit(
        [&](const auto& value) {
          if constexpr (std::is_same_v<std::decay_t<decltype(value)>, std::string>) {
            text += value;
          } else {
            text += std::to_string(value);
          }
        },
        cell);
  }
  return text;
}

}  // namespace skiff::cp

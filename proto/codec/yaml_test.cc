#include "proto/codec/yaml.h"

#include <gtest/gtest.h>

namespace skiff::codec {
namespace {

std::string Convert(std::string_view yaml) {
  auto json = YamlToJson(yaml);
  return json.ok() ? *json : json.error().message();
}

TEST(YamlTest, ConvertsDocuments) {
  EXPECT_EQ(Convert("a: 1\nb: [x, 'y', \"z\"]\nc: {d: null}\n"),
            R"({"a":1,"b":["x","y","z"],"c":{"d":null}})");
  EXPECT_EQ(Convert(""), "null");
  EXPECT_EQ(Convert("# nothing\n"), "null");
  EXPECT_EQ(Convert(R"({"already": "json", "n": [1, 2]})"), R"({"already":"json","n":[1,2]})");
  EXPECT_EQ(Convert("a: |\n  one\n  two\n"), R"({"a":"one\ntwo\n"})");
}

TEST(YamlTest, ResolvesScalarsAsKubectlUsersKnow) {
  const std::pair<const char*, const char*> cases[] = {
      {"yes", "true"},
      {"On", "true"},
      {"n", "false"},
      {"off", "false"},
      {"~", "null"},
      {"'yes'", "\"yes\""},
      {"0x1F", "31"},
      {"0o17", "15"},
      {"017", "15"},
      {"0b11", "3"},
      {"1_000", "1000"},
      {"-5", "-5"},
      {"+5", "5"},
      {"1.0", "1"},
      {"1.50", "1.5"},
      {"1e3", "1000"},
      {".5", "0.5"},
      {"1.2.3", "\"1.2.3\""},
      {"08", "8"},
      {"100m", "\"100m\""},
      {"2020-01-01", "\"2020-01-01\""},
      {"18446744073709551615", "18446744073709551615"},
      {"!!str 1", "\"1\""},
      {"0", "0"},
      {"-0", "0"},
  };
  for (const auto& [yaml, json] : cases) {
    EXPECT_EQ(Convert(std::string("a: ") + yaml), std::string("{\"a\":") + json + "}") << yaml;
  }
}

TEST(YamlTest, MakesKeysStrings) {
  EXPECT_EQ(Convert("8080: a\ntrue: b\nx: c\n"), R"({"8080":"a","true":"b","x":"c"})");
  EXPECT_EQ(Convert("? [a]\n: b\n"),
            "error converting YAML to JSON: yaml: line 1: invalid map key: a map or a list");
}

TEST(YamlTest, KeepsRepeatedKeysForTheDecoder) {
  EXPECT_EQ(Convert("a: 1\na: 2\n"), R"({"a":1,"a":2})");
}

TEST(YamlTest, ExpandsAliasesAndMergeKeys) {
  EXPECT_EQ(Convert("a: &x {p: 1}\nb: *x\n"), R"({"a":{"p":1},"b":{"p":1}})");
  EXPECT_EQ(Convert("a: &x {p: 1, q: 2}\nb: {<<: *x, q: 3}\n"),
            R"({"a":{"p":1,"q":2},"b":{"q":3,"p":1}})");
  EXPECT_EQ(Convert("a: {<<: 1}\n"),
            "error converting YAML to JSON: yaml: line 1: map merge requires map or sequence of "
            "maps as the value");
}

TEST(YamlTest, SurvivesBombs) {
  std::string bomb = "a0: &a0 [lol,lol,lol,lol,lol,lol,lol,lol,lol]\n";
  for (int i = 1; i < 12; ++i) {
    std::string name = "a" + std::to_string(i), before = "*a" + std::to_string(i - 1);
    bomb += name + ": &" + name + " [" + before;
    for (int k = 0; k < 8; ++k) bomb += "," + before;
    bomb += "]\n";
  }
  EXPECT_NE(Convert(bomb).find("document contains excessive aliasing"), std::string::npos);
  // One that writes next to nothing for each node.
  std::string empty = "a0: &a0 [[],[],[],[],[],[],[],[]]\n";
  for (int i = 1; i < 12; ++i) {
    std::string name = "a" + std::to_string(i), before = "*a" + std::to_string(i - 1);
    empty += name + ": &" + name + " [" + before;
    for (int k = 0; k < 8; ++k) empty += "," + before;
    empty += "]\n";
  }
  EXPECT_NE(Convert(empty).find("document contains excessive aliasing"), std::string::npos);
  EXPECT_NE(Convert("a: &a [*a]\n").find("yaml: line 1"), std::string::npos);
}

TEST(YamlTest, HasLimits) {
  EXPECT_FALSE(YamlToJson(std::string(100000, '[')).ok());
  EXPECT_FALSE(YamlToJson(std::string(100000, '{')).ok());
  YamlLimits limits;
  limits.max_bytes = 3;
  EXPECT_EQ(YamlToJson("a: 1", limits).error().code(), Code::kResourceExhausted);
}

TEST(YamlTest, NamesTheLine) {
  EXPECT_TRUE(Convert("a: 1\nb: [\n").starts_with("error converting YAML to JSON: yaml: line "));
  EXPECT_EQ(Convert("a: *nowhere\n").substr(0, 43), "error converting YAML to JSON: yaml: line 1");
  EXPECT_FALSE(YamlToJson(std::string("a: \x01", 4)).ok());
}

TEST(YamlTest, EndsAtStrayTokens) {
  for (const char* text : {"]", "}", "a: 1\n]\n", "[a]\n}\n", ","}) {
    EXPECT_FALSE(YamlStreamToJson(text).ok()) << text;
  }
}

TEST(YamlTest, SplitsStreams) {
  auto documents = YamlStreamToJson("a: 1\n---\n---\nb: 2\n...\n");
  ASSERT_TRUE(documents.ok());
  EXPECT_EQ(*documents, (std::vector<std::string>{R"({"a":1})", R"({"b":2})"}));
}

}  // namespace
}  // namespace skiff::codec

// Quantities, int-or-string, times, base64 and selectors.
#include <google/protobuf/map.h>
#include <gtest/gtest.h>

#include "proto/codec/base64.h"
#include "proto/codec/int_or_string.h"
#include "proto/codec/quantity.h"
#include "proto/codec/selector.h"
#include "proto/codec/time_format.h"
#include "proto/k8s/core/v1/pod.pb.h"
#include "proto/k8s/intstr/int_or_string.pb.h"
#include "proto/k8s/meta/v1/object.pb.h"

namespace skiff::codec {
namespace {

std::string Canonical(std::string_view text) {
  auto quantity = Quantity::Parse(text);
  return quantity.ok() ? quantity->ToString() : "error: " + quantity.error().message();
}

TEST(QuantityTest, HasOneCanonicalForm) {
  const std::pair<const char*, const char*> cases[] = {
      {"0", "0"},
      {"0Ki", "0"},
      {"00012", "12"},
      {"100m", "100m"},
      {"1000m", "1"},
      {"1500m", "1500m"},
      {"0.5", "500m"},
      {".5", "500m"},
      {"1.", "1"},
      {"1024Mi", "1Gi"},
      {"1.5Gi", "1536Mi"},
      {"1023", "1023"},
      {"100Ki", "100Ki"},
      {"0.1Ki", "102400m"},
      {"1Ki", "1Ki"},
      {"512", "512"},
      {"1000", "1k"},
      {"1e3", "1e3"},
      {"1E3", "1e3"},
      {"12e-3", "12e-3"},
      {"1E", "1E"},
      {"-1500m", "-1500m"},
      {"+2", "2"},
      {"0.0000000001", "1n"},
      {"1n", "1n"},
      {"1000u", "1m"},
      {"3072Mi", "3Gi"},
      {"1100M", "1100M"},
      {"10E", "9223372036854775807"},
      {"99999999999999999999999999999999999999", "9223372036854775807"},
  };
  for (const auto& [text, canonical] : cases) EXPECT_EQ(Canonical(text), canonical) << text;
}

TEST(QuantityTest, RefusesOtherText) {
  for (const char* text : {"", "-", "k", ".", "1.2.3", "abc", "1 Gi", "--1", "1e"}) {
    EXPECT_FALSE(Quantity::Parse(text).ok()) << text;
  }
  EXPECT_EQ(Quantity::Parse("1gi").error().message(),
            "quantities must match the regular expression "
            "'^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'");
  EXPECT_EQ(Quantity::Parse("1KK").error().message(), "unable to parse quantity's suffix");
  EXPECT_FALSE(Quantity::Parse(std::string(10000, '9')).ok());
}

TEST(QuantityTest, RoundsUpAndCaps) {
  auto parse = [](const char* text) { return *Quantity::Parse(text); };
  EXPECT_EQ(parse("1500m").Value(), 2);
  EXPECT_EQ(parse("-1500m").Value(), -2);
  EXPECT_EQ(parse("1u").MilliValue(), 1);
  EXPECT_EQ(parse("2").MilliValue(), 2000);
  EXPECT_EQ(parse("8Ei").Value(), INT64_MAX);
  EXPECT_EQ(parse("1Gi").Value(), 1073741824);
}

TEST(QuantityTest, ComparesAndAdds) {
  Quantity sum = *Quantity::Parse("1Gi");
  sum += *Quantity::Parse("512Mi");
  EXPECT_EQ(sum.ToString(), "1536Mi");
  EXPECT_EQ(*Quantity::Parse("1"), *Quantity::Parse("1000m"));
  EXPECT_LT(*Quantity::Parse("999m"), *Quantity::Parse("1"));
  sum -= *Quantity::Parse("2Gi");
  EXPECT_TRUE(sum.IsNegative());
  Quantity none;
  none += *Quantity::Parse("2Ki");
  EXPECT_EQ(none.ToString(), "2Ki");
}

TEST(IntOrStringTest, ScalesPercentages) {
  k8s::intstr::IntOrString value;
  SetText(&value, "25%");
  EXPECT_EQ(*ScaledValue(value, 10, /*round_up=*/true), 3);
  EXPECT_EQ(*ScaledValue(value, 10, /*round_up=*/false), 2);
  SetInt(&value, 4);
  EXPECT_EQ(*ScaledValue(value, 10, true), 4);
  for (const char* text : {"", "%", "x%", "25", "25%%"}) {
    SetText(&value, text);
    EXPECT_FALSE(ScaledValue(value, 10, true).ok()) << text;
  }
}

TEST(TimeTest, IsExactOverTheCalendar) {
  EXPECT_EQ(FormatTime(0), "1970-01-01T00:00:00Z");
  EXPECT_EQ(FormatTime(951782400), "2000-02-29T00:00:00Z");
  EXPECT_EQ(FormatTime(-1), "1969-12-31T23:59:59Z");
  for (int64_t seconds = -70000000000; seconds < 200000000000; seconds += 86400 * 37 + 12345) {
    auto parsed = ParseTime(FormatTime(seconds));
    ASSERT_TRUE(parsed);
    if (seconds > -62167219200) {
      EXPECT_EQ(parsed->seconds, seconds);
    }
  }
  for (const char* text : {"", "2020-13-01T00:00:00Z", "2021-02-29T00:00:00Z",
                           "2020-01-01 00:00:00Z", "2020-01-01T00:00:00", "2020-01-01T00:00:00.Z",
                           "2020-01-01T24:00:00Z", "2020-01-01T00:00:00Zx"}) {
    EXPECT_FALSE(ParseTime(text)) << text;
  }
}

TEST(DurationTest, RoundTrips) {
  const std::pair<int64_t, const char*> cases[] = {
      {0, "0s"},          {1500000000, "1.5s"}, {90000000000, "1m30s"}, {3600000000000, "1h0m0s"},
      {-1000000, "-1ms"}, {1, "1ns"},
  };
  for (const auto& [nanos, text] : cases) {
    EXPECT_EQ(FormatDuration(nanos), text);
    EXPECT_EQ(ParseDuration(text), nanos);
  }
  for (const char* text : {"", "1", "s", "1x", "1..5s", "."}) EXPECT_FALSE(ParseDuration(text));
}

TEST(Base64Test, RoundTripsAndRefuses) {
  for (const char* text : {"", "a", "ab", "abc", "abcd"}) {
    EXPECT_EQ(DecodeBase64(EncodeBase64(text)), text);
  }
  EXPECT_EQ(DecodeBase64("YW\nJj"), "abc");
  for (const char* text : {"a", "ab", "abc", "a===", "ab=c", "=abc", "abcd=", "ab*="}) {
    EXPECT_FALSE(DecodeBase64(text)) << text;
  }
}

LabelMap Labels(std::initializer_list<std::pair<const char*, const char*>> labels) {
  LabelMap map;
  for (const auto& [key, value] : labels) map[key] = value;
  return map;
}

TEST(LabelSelectorTest, Matches) {
  LabelMap labels = Labels({{"a", "1"}, {"b", "x"}, {"example.com/c", ""}});
  const std::pair<const char*, bool> cases[] = {
      {"", true},
      {"a=1", true},
      {"a==1", true},
      {"a=2", false},
      {"a!=1", false},
      {"z!=1", true},
      {"a in (1,2)", true},
      {"a notin (1)", false},
      {"z notin (1)", true},
      {"a", true},
      {"!a", false},
      {"!z", true},
      {"a,b=x", true},
      {"a,b=y", false},
      {"a>0", true},
      {"a<1", false},
      {"b>0", false},
      {"example.com/c=", true},
      {"example.com/c in ()", true},
      {" a = 1 , b in ( x , y ) ", true},
  };
  for (const auto& [text, matches] : cases) {
    auto selector = LabelSelector::Parse(text);
    ASSERT_TRUE(selector.ok()) << text << ": " << selector.error().message();
    EXPECT_EQ(selector->Matches(labels), matches) << text;
    auto again = LabelSelector::Parse(selector->ToString());
    ASSERT_TRUE(again.ok()) << selector->ToString();
    EXPECT_EQ(again->ToString(), selector->ToString());
  }
}

TEST(LabelSelectorTest, RefusesOtherText) {
  for (const char* text : {"a=b=c", ",", "a,", "!", "a in b", "a in (b", "!a=b", "a b", "a>x",
                           "-a=b", "a=b c", "a=-b", "=a", "(a)", "a/b/c=d", "x in (a b)"}) {
    EXPECT_FALSE(LabelSelector::Parse(text).ok()) << text;
  }
}

TEST(LabelSelectorTest, ComesFromMessages) {
  k8s::meta::v1::LabelSelector message;
  EXPECT_TRUE(LabelSelector::From(message)->MatchesEverything());
  (*message.mutable_match_labels())["a"] = "1";
  auto& expression = *message.add_match_expressions();
  expression.set_key("b");
  expression.set_operator_("In");
  EXPECT_FALSE(LabelSelector::From(message).ok());
  expression.add_values("y");
  expression.add_values("x");
  EXPECT_EQ(LabelSelector::From(message)->ToString(), "a=1,b in (x,y)");
  EXPECT_FALSE(LabelSelector::Nothing().Matches({}));
}

TEST(FieldSelectorTest, ReadsFieldsByReflection) {
  k8s::core::v1::Pod pod;
  pod.mutable_metadata()->set_name("a");
  pod.mutable_spec()->set_host_network(true);
  pod.mutable_status()->set_phase("Running");
  EXPECT_EQ(FieldText(pod, "metadata.name"), "a");
  EXPECT_EQ(FieldText(pod, "spec.hostNetwork"), "true");
  EXPECT_EQ(FieldText(pod, "spec"), "");
  EXPECT_EQ(FieldText(pod, "spec.none"), "");
  EXPECT_EQ(FieldText(pod, "metadata.name.x"), "");
  EXPECT_TRUE(FieldSelector::Parse("metadata.name=a,status.phase!=Failed")->Matches(pod));
  EXPECT_FALSE(FieldSelector::Parse("status.phase!=Running")->Matches(pod));
  auto escaped = FieldSelector::Parse("a=x\\,y\\=z");
  ASSERT_TRUE(escaped.ok());
  EXPECT_EQ(escaped->RequiredValue("a"), "x,y=z");
  for (const char* text : {"a", "=a", "a=b=c", "a=\\x", "a=\\"}) {
    EXPECT_FALSE(FieldSelector::Parse(text).ok()) << text;
  }
}

}  // namespace
}  // namespace skiff::codec

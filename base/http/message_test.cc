#include "base/http/message.h"

#include <gtest/gtest.h>

namespace skiff::http {
namespace {

TEST(PercentDecodeTest, DecodesEscapes) {
  EXPECT_EQ(PercentDecode("a%20b%2Fc+d", false).value(), "a b/c+d");
  EXPECT_EQ(PercentDecode("a+b", true).value(), "a b");
}

TEST(PercentDecodeTest, RefusesBrokenEscapes) {
  for (const char* text : {"%", "%2", "a%zz", "%00"}) {
    EXPECT_FALSE(PercentDecode(text, false).ok()) << text;
  }
}

TEST(PercentEncodeTest, RoundTrips) {
  std::string all;
  for (int c = 1; c < 256; ++c) all += static_cast<char>(c);
  EXPECT_EQ(PercentDecode(PercentEncode(all), true).value(), all);
}

TEST(QueryTest, KeepsOrderAndRepeats) {
  Query query = Query::Parse("command=ls&command=-l%20a&tty&x=1&stdin=false").value();
  EXPECT_EQ(query.GetAll("command"), (std::vector<std::string_view>{"ls", "-l a"}));
  EXPECT_TRUE(query.Flag("tty"));
  EXPECT_TRUE(query.Flag("x"));
  EXPECT_FALSE(query.Flag("stdin"));
  EXPECT_FALSE(query.Flag("absent"));
  EXPECT_FALSE(Query::Parse("a=%f").ok());
}

TEST(HeadersTest, NamesHaveNoCase) {
  Headers headers{{"Content-Type", "a"}, {"connection", "keep-alive, Upgrade;q=1"}};
  EXPECT_EQ(headers.Get("content-type"), "a");
  EXPECT_TRUE(headers.HasToken("Connection", "upgrade"));
  EXPECT_FALSE(headers.HasToken("Connection", "up"));
  headers.Set("CONTENT-TYPE", "b");
  EXPECT_EQ(headers.GetAll("Content-Type"), std::vector<std::string_view>{"b"});
}

}  // namespace
}  // namespace skiff::http

#include "base/base64.h"

#include <gtest/gtest.h>

namespace skiff {
namespace {

TEST(Base64Test, VectorsOfTheRfc) {  // RFC 4648, section 10
  const std::pair<const char*, const char*> vectors[] = {{"", ""},
                                                         {"f", "Zg=="},
                                                         {"fo", "Zm8="},
                                                         {"foo", "Zm9v"},
                                                         {"foob", "Zm9vYg=="},
                                                         {"fooba", "Zm9vYmE="},
                                                         {"foobar", "Zm9vYmFy"}};
  for (auto [bytes, text] : vectors) {
    EXPECT_EQ(Base64Encode(bytes), text);
    EXPECT_EQ(Base64Decode(text).value(), bytes);
  }
}

TEST(Base64Test, EveryByteComesBack) {
  std::string bytes;
  for (int i = 0; i < 256; ++i) bytes += static_cast<char>(i);
  EXPECT_EQ(Base64Decode(Base64Encode(bytes)).value(), bytes);
}

TEST(Base64Test, AnythingElseIsInvalid) {
  for (const char* text : {"a", "ab=c", "====", "=abc", "a===", "a b=", "abc\n",
                           "Zh==", "Zm9=", "Zg==Zg==", "\xff\xff\xff\xff"}) {
    EXPECT_EQ(Base64Decode(text).error().code(), Code::kInvalidArgument) << text;
  }
}

}  // namespace
}  // namespace skiff

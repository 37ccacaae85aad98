#include "runtime/oci/log.h"

#include <gtest/gtest.h>

namespace skiff::runtime {
namespace {

TEST(LastLogMessage, TakesTheLastError) {
  // As crun 1.8 and runc 1.1 write them.
  EXPECT_EQ(LastLogMessage("{\"msg\":\"first\",\"level\":\"error\",\"time\":\"t\"}\n"
                           "{\"level\":\"error\",\"msg\":\"runc create failed\",\"time\":\"t\"}\n"
                           "{\"level\":\"warning\",\"msg\":\"besides\",\"time\":\"t\"}\n"),
            "runc create failed");
  EXPECT_EQ(LastLogMessage("{\"level\": \"warning\", \"msg\": \"only\"}"), "only");
}

TEST(LastLogMessage, TakesEscapesApart) {
  EXPECT_EQ(LastLogMessage(R"({"level":"error","msg":"exec: \"x\": not\nfound \u0041\u00e9 \\"})"),
            "exec: \"x\": not found A? \\");
}

TEST(LastLogMessage, TakesWhatIsNoLog) {
  for (const char* text : {"", "\n\n", "garbage", "{\"msg\"", "{\"msg\":", "{\"msg\":\"",
                           "{\"msg\":\"\\", "{\"msg\":\"\\u", "{\"msg\":\"\\u12"}) {
    EXPECT_LE(LastLogMessage(text).size(), 1U) << text;
  }
  EXPECT_LE(LastLogMessage("{\"msg\":\"" + std::string(1 << 20, 'x')).size(), 4096U);
}

}  // namespace
}  // namespace skiff::runtime

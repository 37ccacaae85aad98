#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <zlib.h>

#include "base/streaming/spdy_dictionary.h"
#include "base/streaming/spdy_frames.h"
#include "base/streaming/websocket_frames.h"

namespace skiff::streaming {
namespace {

using testing::ElementsAre;

// Writes down what a parser finds.
class SpdyLog : public SpdySink {
 public:
  std::vector<std::string> lines;
  Result<> OnSynStream(uint32_t id, SpdyHeaders headers, bool fin) override {
    std::string line = "syn " + std::to_string(id);
    for (auto& [name, value] : headers) line += " " + name + "=" + value;
    lines.push_back(line + (fin ? " fin" : ""));
    return {};
  }
  Result<> OnSynReply(uint32_t id, SpdyHeaders headers, bool) override {
    lines.push_back("reply " + std::to_string(id) + " " + std::to_string(headers.size()));
    return {};
  }
  void OnData(uint32_t id, std::string_view data, bool fin) override {
    bytes[id] += data;
    if (fin) lines.push_back("data " + std::to_string(id) + " " + bytes[id]);
  }
  void OnReset(uint32_t id) override { lines.push_back("reset " + std::to_string(id)); }
  void OnPing(uint32_t id) override { lines.push_back("ping " + std::to_string(id)); }
  void OnGoAway() override { lines.push_back("goaway"); }
  void OnWindowUpdate(uint32_t id, uint32_t delta) override {
    lines.push_back("window " + std::to_string(id) + " " + std::to_string(delta));
  }
  void OnInitialWindow(uint32_t size) override {
    lines.push_back("initial " + std::to_string(size));
  }

 private:
  std::map<uint32_t, std::string> bytes;
};

TEST(SpdyFramesTest, DictionaryIsThatOfTheProtocol) {
  const std::string& dictionary = SpdyDictionary();
  ASSERT_EQ(dictionary.size(), 1423u);
  EXPECT_EQ(adler32(adler32(0, nullptr, 0), reinterpret_cast<const Bytef*>(dictionary.data()),
                    static_cast<uInt>(dictionary.size())),
            0xe3c6a7c2u);
}

std::string EveryFrame() {
  SpdyWriter writer;
  std::string bytes = writer.SynStream(1, {{"Streamtype", "stdin"}}, false);
  bytes += writer.SynStream(3, {{"streamtype", "error"}, {"port", "80"}}, true);
  bytes += writer.SynReply(5, {});
  bytes += SpdyWriter::Data(1, "he", false) + SpdyWriter::Data(1, "llo", true);
  bytes += SpdyWriter::Ping(7) + SpdyWriter::WindowUpdate(1, 512);
  bytes += SpdyWriter::Reset(3, SpdyResetStatus::kCancel) + SpdyWriter::GoAway(3);
  // SETTINGS with an initial window of 64 KiB, and a frame of an unknown type.
  bytes += std::string("\x80\x03\x00\x04\0\0\0\x0c\0\0\0\x01\0\0\0\x07\0\x01\0\0", 20);
  return bytes + std::string("\x80\x03\x00\x63\0\0\0\x01?", 9);
}

TEST(SpdyFramesTest, CuttingDoesNotMatter) {
  std::string bytes = EveryFrame();
  for (size_t cut : {bytes.size(), size_t{1}, size_t{3}, size_t{13}}) {
    SpdyLog log;
    SpdyParser parser(log);
    for (size_t at = 0; at < bytes.size(); at += cut) {
      ASSERT_TRUE(parser.Feed(std::string_view(bytes).substr(at, cut)).ok());
    }
    EXPECT_THAT(log.lines,
                ElementsAre("syn 1 streamtype=stdin", "syn 3 streamtype=error port=80 fin",
                            "reply 5 0", "data 1 hello", "ping 7", "window 1 512", "reset 3",
                            "goaway", "initial 65536"));
  }
}

TEST(SpdyFramesTest, HeaderBombIsRefused) {
  SpdyWriter writer;
  std::string frame =
      writer.SynStream(1, {{"a", std::string(kMaxSpdyHeaderBytes + 1, 'x')}}, false);
  ASSERT_LT(frame.size(), 1000u);  // it is small on the wire
  SpdyLog log;
  EXPECT_EQ(SpdyParser(log).Feed(frame).error().code(), Code::kInvalidArgument);
}

TEST(SpdyFramesTest, BrokenFramesAreErrors) {
  const std::string frames[] = {
      std::string("\x80\x02\x00\x01\0\0\0\0", 8),         // version 2
      std::string("\x80\x03\x00\x01\0\0\0\x02\0\0", 10),  // short SYN_STREAM
      std::string("\x80\x03\x00\x06\0\0\0\x01\0", 9),     // short PING
      std::string("\x80\x03\x00\x03\0\0\0\0", 8),         // short RST_STREAM
      std::string("\x80\x03\x00\x01\0\xff\xff\xff", 8),   // too large
      std::string("\x80\x03\x00\x04\0\0\0\x04\xff\xff\xff\xff", 12),
      std::string("\x80\x03\x00\x01\0\0\0\x0e"
                  "abcdefghijklmn",
                  22),  // not zlib
  };
  for (const std::string& frame : frames) {
    SpdyLog log;
    EXPECT_EQ(SpdyParser(log).Feed(frame).error().code(), Code::kInvalidArgument);
    EXPECT_TRUE(log.lines.empty());
  }
}

class WebSocketLog : public WebSocketSink {
 public:
  std::vector<std::string> lines;
  void OnMessage(std::string_view piece, bool first, bool last) override {
    if (first) message_.clear();
    message_ += piece;
    if (last) lines.push_back("message " + message_);
  }
  void OnPing(std::string_view payload) override {
    lines.push_back("ping " + std::string(payload));
  }
  void OnClose() override { lines.push_back("close"); }

 private:
  std::string message_;
};

TEST(WebSocketFramesTest, ExamplesOfTheRfc) {  // RFC 6455, sections 1.3 and 5.7
  EXPECT_EQ(WebSocketAccept("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
  EXPECT_EQ(WebSocketMessage(WebSocketRole::kServer, true, "Hello"), "\x81\x05Hello");
  WebSocketLog log;
  WebSocketParser server(WebSocketRole::kServer, log);
  ASSERT_TRUE(server.Feed("\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58").ok());
  EXPECT_THAT(log.lines, ElementsAre("message Hello"));
}

TEST(WebSocketFramesTest, CuttingAndFragmentsDoNotMatter) {
  std::string big(70'000, 'b');
  std::string bytes = std::string(
                          "\x02\x03"
                          "abc"
                          "\x89\x01"
                          "p"
                          "\x00\x00"
                          "\x80\x01"
                          "d",
                          13) +
                      WebSocketMessage(WebSocketRole::kServer, false, big) +
                      WebSocketMessage(WebSocketRole::kServer, false, "") +
                      WebSocketClose(WebSocketRole::kServer, kWebSocketNormalClosure, "bye") +
                      "ignored";
  for (size_t cut : {bytes.size(), size_t{1}, size_t{3}, size_t{4096}}) {
    WebSocketLog log;
    WebSocketParser client(WebSocketRole::kClient, log);
    for (size_t at = 0; at < bytes.size(); at += cut) {
      ASSERT_TRUE(client.Feed(std::string_view(bytes).substr(at, cut)).ok());
    }
    EXPECT_THAT(log.lines,
                ElementsAre("ping p", "message abcd", "message " + big, "message ", "close"));
  }
}

TEST(WebSocketFramesTest, MaskedMessagesComeBack) {
  for (size_t size : {0u, 1u, 125u, 126u, 65535u, 65536u}) {
    WebSocketLog log;
    WebSocketParser server(WebSocketRole::kServer, log);
    std::string text(size, 'm');
    ASSERT_TRUE(server.Feed(WebSocketMessage(WebSocketRole::kClient, false, text)).ok());
    EXPECT_THAT(log.lines, ElementsAre("message " + text));
  }
}

TEST(WebSocketFramesTest, BrokenFramesAreErrors) {
  const std::string frames[] = {
      std::string("\x81\x01x", 3),                            // not masked
      std::string("\xc1\x80\0\0\0\0", 6),                     // reserved bit
      std::string("\x83\x80\0\0\0\0", 6),                     // unknown opcode
      std::string("\x80\x80\0\0\0\0", 6),                     // continuation of nothing
      std::string("\x09\x80\0\0\0\0", 6),                     // ping in fragments
      std::string("\x89\xfe\x01\0\0\0\0\0", 8),               // ping too long
      std::string("\x82\xff\x80\0\0\0\0\0\0\0\0\0\0\0", 14),  // length with the top bit
      std::string("\x01\x80\0\0\0\0\x01\x80\0\0\0\0", 12),    // message in a message
  };
  for (const std::string& frame : frames) {
    WebSocketLog log;
    WebSocketParser server(WebSocketRole::kServer, log);
    EXPECT_EQ(server.Feed(frame).error().code(), Code::kInvalidArgument);
  }
}

TEST(WebSocketFramesTest, Keys) {
  EXPECT_TRUE(IsWebSocketKey(MakeWebSocketKey()));
  EXPECT_FALSE(IsWebSocketKey("AAAA"));
}

}  // namespace
}  // namespace skiff::streaming

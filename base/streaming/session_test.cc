// Sessions against hand-driven clients, in memory and in one thread.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/base64.h"
#include "base/streaming/exec_session.h"
#include "base/streaming/port_forward.h"
#include "base/streaming/spdy_frames.h"
#include "base/streaming/stream_pair.h"
#include "base/streaming/websocket_frames.h"

namespace skiff::streaming {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr auto kAll = ExecStreams{.in = true, .out = true, .err = true, .tty = false};

// Reads a stream to its end into a string. What is found outlives the test's own variable, as a
// read may.
class Drain {
  struct Found {
    std::string data;
    bool ended = false;
    bool failed = false;
  };
  std::shared_ptr<Found> found_ = std::make_shared<Found>();

  static void Read(std::shared_ptr<Stream> stream, std::shared_ptr<Found> found) {
    Stream* source = stream.get();
    source->Read([stream, found](Result<std::string> piece) {
      if (!piece.ok()) {
        found->failed = true;
      } else if (piece->empty()) {
        found->ended = true;
      } else {
        found->data += *piece;
        Read(stream, found);
      }
    });
  }

 public:
  void From(std::shared_ptr<Stream> stream) { Read(std::move(stream), found_); }
  std::string& data = found_->data;
  bool& ended = found_->ended;
  bool& failed = found_->failed;
};

class SessionTest : public testing::Test {
 protected:
  // Ends what is still being read, so that the leak checker sees only real leaks.
  void TearDown() override {
    outcome.reset();
    session.reset();
    if (client) client->Reset();
    executor.RunUntilIdle();
  }
  // The client's end is read all the time unless a test does so itself.
  std::shared_ptr<Stream> Connect(bool drain = true) {
    auto [ours, theirs] = MakeStreamPair(executor);
    client = theirs;
    if (drain) received.From(client);
    return ours;
  }
  void Send(std::string bytes) {
    client->Write(std::move(bytes), nullptr);
    executor.RunUntilIdle();
  }
  void Serve(const Upgrade& upgrade, const ExecStreams& streams = kAll) {
    ServeExec(executor, Connect(), upgrade, streams,
              [this](Result<std::shared_ptr<ExecSession>> result) {
                if (result.ok()) session = *result;
                outcome = std::move(result);
              });
    executor.RunUntilIdle();
  }

  ManualExecutor executor;
  std::shared_ptr<Stream> client;
  Drain received;
  std::shared_ptr<ExecSession> session;
  std::optional<Result<std::shared_ptr<ExecSession>>> outcome;
};

// What a SPDY client sees of its streams.
class SpdyClientLog : public SpdySink {
 public:
  std::map<uint32_t, std::string> data;
  std::map<uint32_t, bool> ended, replied, reset;
  std::map<uint32_t, uint32_t> windows;
  std::vector<uint32_t> pings;
  bool goaway = false;

  void Take(std::string_view all) { ASSERT_TRUE(SpdyParser(*this).Feed(all).ok()); }
  Result<> OnSynStream(uint32_t, SpdyHeaders, bool) override {
    return Error(Code::kInternal, "the server made a stream");
  }
  Result<> OnSynReply(uint32_t id, SpdyHeaders, bool) override {
    replied[id] = true;
    return {};
  }
  void OnData(uint32_t id, std::string_view piece, bool fin) override {
    EXPECT_TRUE(replied[id]);
    data[id] += piece;
    if (fin) ended[id] = true;
  }
  void OnReset(uint32_t id) override { reset[id] = true; }
  void OnPing(uint32_t id) override { pings.push_back(id); }
  void OnGoAway() override { goaway = true; }
  void OnWindowUpdate(uint32_t id, uint32_t delta) override { windows[id] += delta; }
  void OnInitialWindow(uint32_t) override {}
};

constexpr ExecStreams kTerminal{.in = true, .out = true, .err = false, .tty = true};

class SpdyExecTest : public SessionTest {
 protected:
  void Open(int version, const ExecStreams& streams = kAll) {
    Serve({.transport = Transport::kSpdy, .version = version}, streams);
    EXPECT_FALSE(outcome);
    Send(writer.SynStream(1, {{"streamtype", "error"}}, false));
    if (streams.in) Send(writer.SynStream(3, {{"streamtype", "stdin"}}, false));
    if (streams.out) Send(writer.SynStream(5, {{"streamtype", "stdout"}}, false));
    if (streams.err && !streams.tty) Send(writer.SynStream(7, {{"streamtype", "stderr"}}, false));
    if (streams.tty) Send(writer.SynStream(9, {{"streamtype", "resize"}}, false));
    ASSERT_TRUE(outcome);
    ASSERT_TRUE(outcome->ok()) << outcome->error().ToString();
  }
  std::weak_ptr<ExecSession> HoldByHandlers() {
    session->OnGone([held = session] {});
    session->OnResize([held = session](TerminalSize) {});
    executor.RunUntilIdle();
    return session;
  }
  SpdyClientLog Log() {
    executor.RunUntilIdle();
    SpdyClientLog log;
    log.Take(received.data);
    return log;
  }
  SpdyWriter writer;
};

TEST_F(SpdyExecTest, RunsACommand) {
  Open(4);
  Drain in;
  in.From(session->in());
  Send(SpdyWriter::Data(3, "ls\n", false));
  Send(SpdyWriter::Data(3, {}, true));
  EXPECT_EQ(in.data, "ls\n");
  EXPECT_TRUE(in.ended);
  session->out()->Write("file\n", nullptr);
  session->err()->Write("oops\n", nullptr);
  session->Finish(ExecStatus::Exited(3));
  SpdyClientLog log = Log();
  EXPECT_EQ(log.data[5], "file\n");
  EXPECT_EQ(log.data[7], "oops\n");
  EXPECT_TRUE(log.ended[5] && log.ended[7] && log.ended[1]);
  EXPECT_THAT(log.data[1],
              HasSubstr(R"("details":{"causes":[{"reason":"ExitCode","message":"3"}]})"));
  EXPECT_FALSE(log.goaway);
  EXPECT_FALSE(received.ended);  // the client closes first, when it has read everything
  client->CloseWrite();
  executor.RunUntilIdle();
  EXPECT_TRUE(received.ended || received.failed);
}

TEST_F(SpdyExecTest, OldVersionsGetTextAndNothingForSuccess) {
  Open(3);
  session->Finish(ExecStatus::InternalError("no such file"));
  EXPECT_EQ(Log().data[1], "Internal error occurred: no such file");
}

TEST_F(SpdyExecTest, SuccessOfTheFirstVersionIsSilence) {
  Open(1);
  session->Finish(ExecStatus::Success());
  SpdyClientLog log = Log();
  EXPECT_EQ(log.data[1], "");
  EXPECT_TRUE(log.ended[1]);
}

TEST_F(SpdyExecTest, TerminalSizesArriveHoweverTheyAreCut) {
  Open(4, {.in = true, .out = true, .err = true, .tty = true});
  EXPECT_EQ(session->err(), nullptr);
  std::vector<TerminalSize> sizes;
  Send(SpdyWriter::Data(9, R"({"Width":80,"Height":24}{"Wid)", false));
  session->OnResize([&](TerminalSize size) { sizes.push_back(size); });
  Send(SpdyWriter::Data(9,
                        R"(th":100,"Height":50})"
                        "\n",
                        false));
  Send(SpdyWriter::Data(9, R"({"Width":-1,"Height":50}{"Width":1,"Height":2})", false));
  EXPECT_THAT(sizes, ElementsAre(TerminalSize{80, 24}, TerminalSize{100, 50}, TerminalSize{1, 2}));
}

TEST_F(SpdyExecTest, AnswersPings) {
  Open(4);
  Send(SpdyWriter::Ping(11) + SpdyWriter::Ping(12));
  EXPECT_THAT(Log().pings, ElementsAre(11));
}

TEST_F(SpdyExecTest, UnreadInputStopsTheConnectionAndReadingOpensTheWindow) {
  Open(4);
  std::string chunk(16 << 10, 'x');
  for (int i = 0; i < 64; ++i) Send(SpdyWriter::Data(3, chunk, false));
  // A mebibyte was sent; the session took in its limit, then the pair's own buffer filled.
  EXPECT_EQ(Log().windows[3], 0u);
  bool taken = false;
  client->Write("", [&](Result<>) { taken = true; });
  executor.RunUntilIdle();
  EXPECT_FALSE(taken);
  Drain in;
  in.From(session->in());
  executor.RunUntilIdle();
  EXPECT_EQ(in.data.size(), 64 * chunk.size());
  EXPECT_EQ(Log().windows[3], 64 * chunk.size());
  EXPECT_TRUE(taken);
}

TEST_F(SpdyExecTest, KeepsToThePeersWindowOnceItHasOne) {
  Open(4);
  Send(SpdyWriter::WindowUpdate(0, 1 << 20) + SpdyWriter::WindowUpdate(5, 1));
  bool first = false, second = false;
  session->out()->Write(std::string(60 << 10, 'a'), [&](Result<>) { first = true; });
  session->out()->Write(std::string(60 << 10, 'b'), nullptr);
  session->out()->Write("c", [&](Result<>) { second = true; });
  executor.RunUntilIdle();
  EXPECT_TRUE(first);
  EXPECT_FALSE(second);
  session->Finish(ExecStatus::Success());
  EXPECT_FALSE(Log().ended[5]);
  Send(SpdyWriter::WindowUpdate(5, 1 << 20));
  EXPECT_TRUE(second);
  SpdyClientLog log = Log();
  EXPECT_EQ(log.data[5].size(), (120 << 10) + 1u);
  EXPECT_TRUE(log.ended[5]);
}

TEST_F(SpdyExecTest, ClientThatLeavesIsNoticed) {
  Open(4);
  bool gone = false;
  session->OnGone([&] { gone = true; });
  Drain in;
  in.From(session->in());
  client->Reset();
  executor.RunUntilIdle();
  EXPECT_TRUE(gone);
  EXPECT_TRUE(in.failed);
  bool late = false;
  session->OnGone([&] { late = true; });
  executor.RunUntilIdle();
  EXPECT_TRUE(late);
}

// Handlers that hold their session, as a command's do, keep neither alive when it is over.
TEST_F(SpdyExecTest, HandlersGoWhenTheCommandEnds) {
  Open(4, kTerminal);
  const std::weak_ptr<ExecSession> watched = HoldByHandlers();
  session->Finish(ExecStatus::Success());
  executor.RunUntilIdle();
  HoldByHandlers();  // too late to be of use
  outcome.reset();
  session.reset();
  executor.RunUntilIdle();
  EXPECT_TRUE(watched.expired());
}

TEST_F(SpdyExecTest, HandlersGoWhenTheClientLeaves) {
  Open(4, kTerminal);
  const std::weak_ptr<ExecSession> watched = HoldByHandlers();
  client->Reset();
  executor.RunUntilIdle();
  HoldByHandlers();
  outcome.reset();
  session.reset();
  executor.RunUntilIdle();
  EXPECT_TRUE(watched.expired());
}

TEST_F(SpdyExecTest, DroppedSessionEndsTheConnection) {
  Open(4);
  outcome.reset();
  session.reset();
  executor.RunUntilIdle();
  EXPECT_TRUE(received.failed || received.ended);
  EXPECT_EQ(executor.pending_timers(), 0u);
}

TEST_F(SpdyExecTest, StreamsMustComeInTime) {
  Serve({.transport = Transport::kSpdy, .version = 4});
  Send(writer.SynStream(1, {{"streamtype", "error"}}, false));
  executor.Advance(std::chrono::seconds(31));
  ASSERT_TRUE(outcome);
  EXPECT_EQ(outcome->error().code(), Code::kDeadlineExceeded);
  EXPECT_TRUE(received.failed || received.ended);
}

TEST_F(SpdyExecTest, UnknownAndSecondStreamsAreReset) {
  Open(4);
  Send(writer.SynStream(11, {{"streamtype", "stdin"}}, false));
  Send(writer.SynStream(13, {{"streamtype", "video"}}, false));
  SpdyClientLog log = Log();
  EXPECT_TRUE(log.reset[11] && log.reset[13]);
  EXPECT_FALSE(log.reset[3]);
}

TEST_F(SpdyExecTest, ProtocolErrorIsAnsweredWithGoAway) {
  Open(4);
  bool gone = false;
  session->OnGone([&] { gone = true; });
  Send(writer.SynStream(2, {{"streamtype", "stdin"}}, false));  // an even id
  EXPECT_TRUE(gone);
  EXPECT_TRUE(Log().goaway);
}

// What a WebSocket client sees of its channels.
class ChannelLog : public WebSocketSink {
 public:
  std::map<uint8_t, std::string> data;
  std::map<uint8_t, int> messages;
  bool closed = false;

  void Take(std::string_view all) {
    ASSERT_TRUE(WebSocketParser(WebSocketRole::kClient, *this).Feed(all).ok());
  }
  void OnMessage(std::string_view piece, bool first, bool) override {
    if (first) {
      channel_ = static_cast<uint8_t>(piece.front());
      ++messages[channel_];
      piece.remove_prefix(1);
    }
    data[channel_] += piece;
  }
  void OnPing(std::string_view) override {}
  void OnClose() override { closed = true; }

 private:
  uint8_t channel_ = 0;
};

class WebSocketExecTest : public SessionTest {
 protected:
  void SendMessage(std::string payload) {
    Send(WebSocketMessage(WebSocketRole::kClient, false, payload));
  }
  ChannelLog Log() {
    executor.RunUntilIdle();
    ChannelLog log;
    log.Take(received.data);
    return log;
  }
};

TEST_F(WebSocketExecTest, RunsACommandWithHalfClosedStdin) {
  Serve({.transport = Transport::kWebSocket, .version = 5});
  ASSERT_TRUE(outcome && outcome->ok());
  EXPECT_EQ(Log().messages[1], 1);  // the empty message that says "connected"
  Drain in;
  in.From(session->in());
  SendMessage(std::string("\0hi", 3));
  SendMessage(std::string("\xff\0", 2));
  EXPECT_EQ(in.data, "hi");
  EXPECT_TRUE(in.ended);
  session->out()->Write("out", nullptr);
  session->Finish(ExecStatus::Success());
  ChannelLog log = Log();
  EXPECT_EQ(log.data[1], "out");
  EXPECT_EQ(log.data[3], R"({"metadata":{},"status":"Success"})");
  EXPECT_EQ(log.messages.count(255), 0u);  // only clients half-close
  EXPECT_TRUE(log.closed);
  EXPECT_FALSE(received.ended);
  Send(WebSocketClose(WebSocketRole::kClient, kWebSocketNormalClosure, {}));
  EXPECT_TRUE(received.ended);  // the server closes TCP once both have said goodbye
  EXPECT_EQ(executor.pending_timers(), 0u);
}

TEST_F(WebSocketExecTest, SilentClientIsLeftAfterAWhile) {
  Serve({.transport = Transport::kWebSocket, .version = 4});
  session->Finish(ExecStatus::Success());
  executor.RunUntilIdle();
  EXPECT_FALSE(received.ended || received.failed);
  executor.Advance(std::chrono::seconds(61));
  EXPECT_TRUE(received.ended || received.failed);
}

TEST_F(WebSocketExecTest, Base64Channels) {
  Serve({.transport = Transport::kWebSocket, .base64 = true, .version = 1});
  Drain in;
  in.From(session->in());
  Send(WebSocketMessage(WebSocketRole::kClient, true, "0" + Base64Encode("hello")));
  EXPECT_EQ(in.data, "hello");
  session->out()->Write("back", nullptr);
  EXPECT_EQ(Log().data['1'], Base64Encode("back"));
}

TEST_F(WebSocketExecTest, PingIsAnsweredAndCloseMeansGone) {
  Serve({.transport = Transport::kWebSocket, .version = 4});
  bool gone = false;
  session->OnGone([&] { gone = true; });
  Send("\x89\x81" + std::string(4, '\0') + "p");
  EXPECT_THAT(received.data, HasSubstr("\x8a\x01p"));
  Send(WebSocketClose(WebSocketRole::kClient, kWebSocketNormalClosure, {}));
  EXPECT_TRUE(gone);
  EXPECT_TRUE(Log().closed);
  EXPECT_TRUE(received.ended);
}

TEST_F(WebSocketExecTest, BadFrameIsAnsweredWithAProtocolError) {
  Serve({.transport = Transport::kWebSocket, .version = 4});
  Send("\x81\x01x");
  EXPECT_THAT(received.data, HasSubstr("\x03\xea"));  // 1002
  EXPECT_TRUE(received.ended);
}

TEST(ExecStatusTest, JsonComesBack) {
  for (const ExecStatus& status :
       {ExecStatus::Success(), ExecStatus::Exited(7), ExecStatus::InternalError("a \"b\"\n"),
        ExecStatus{false, std::nullopt, 404, "NotFound", "container not found (\"x\")"}}) {
    ExecStatus back = ExecStatus::FromJson(status.ToJson()).value();
    EXPECT_EQ(back.ToJson(), status.ToJson());
    EXPECT_EQ(back.exit_code, status.exit_code);
  }
  for (const char* text : {"", "[]", "{}", "null", R"({"status":1})", R"({"status":"Maybe"})"}) {
    EXPECT_FALSE(ExecStatus::FromJson(text).ok()) << text;
  }
}

class PortForwardTest : public SessionTest {
 protected:
  void TearDown() override {
    connections.clear();
    forward.reset();
    SessionTest::TearDown();
  }
  void Start(const Upgrade& upgrade, const std::vector<uint16_t>& ports = {}) {
    forward = ServePortForward(executor, Connect(), upgrade, ports).value();
    forward->Start([this](PortConnection connection) { connections.push_back(connection); },
                   [this] { gone = true; });
    executor.RunUntilIdle();
  }
  std::shared_ptr<PortForwardSession> forward;
  std::vector<PortConnection> connections;
  bool gone = false;
};

TEST_F(PortForwardTest, SpdyStreamsArePairedByRequest) {
  Start({.transport = Transport::kSpdy});
  SpdyWriter writer;
  auto headers = [](const char* type, const char* port, const char* request) {
    return SpdyHeaders{{"streamtype", type}, {"port", port}, {"requestid", request}};
  };
  Send(writer.SynStream(1, headers("error", "80", "0"), true));
  Send(writer.SynStream(3, headers("error", "81", "1"), true));
  Send(writer.SynStream(5, headers("data", "81", "1"), false));
  Send(writer.SynStream(7, headers("data", "80", "0"), false));
  Send(writer.SynStream(9, headers("data", "99999", "2"), false));
  ASSERT_EQ(connections.size(), 2u);
  EXPECT_EQ(connections[0].port, 81);
  EXPECT_EQ(connections[1].port, 80);
  Drain data;
  data.From(connections[1].data);
  Send(SpdyWriter::Data(7, "GET /", true));
  EXPECT_EQ(data.data, "GET /");
  EXPECT_TRUE(data.ended);
  connections[1].data->Write("200 OK", nullptr);
  connections[1].data->CloseWrite();
  connections[0].error->Write("connection refused", nullptr);
  connections.clear();
  executor.RunUntilIdle();
  SpdyClientLog log;
  log.Take(received.data);
  EXPECT_EQ(log.data[7], "200 OK");
  EXPECT_TRUE(log.ended[7]);
  EXPECT_EQ(log.data[3], "connection refused");
  EXPECT_TRUE(log.reset[9]);
  forward.reset();
  executor.RunUntilIdle();
  EXPECT_TRUE(received.failed || received.ended);
  EXPECT_FALSE(gone);
}

TEST_F(PortForwardTest, SpdyTunneledOverWebSocket) {
  Start({.transport = Transport::kSpdyOverWebSocket});
  SpdyWriter writer;
  auto send = [this](const std::string& frames) {
    Send(WebSocketMessage(WebSocketRole::kClient, false, frames));
  };
  send(writer.SynStream(1, {{"streamtype", "error"}, {"port", "80"}, {"requestid", "0"}}, true));
  send(writer.SynStream(3, {{"streamtype", "data"}, {"port", "80"}, {"requestid", "0"}}, false));
  ASSERT_EQ(connections.size(), 1u);
  connections[0].data->Write("banner", nullptr);
  executor.RunUntilIdle();
  struct Unwrap : WebSocketSink {
    std::string bytes;
    void OnMessage(std::string_view piece, bool, bool) override { bytes += piece; }
    void OnPing(std::string_view) override {}
    void OnClose() override {}
  } unwrap;
  ASSERT_TRUE(WebSocketParser(WebSocketRole::kClient, unwrap).Feed(received.data).ok());
  SpdyClientLog log;
  log.Take(unwrap.bytes);
  EXPECT_EQ(log.data[3], "banner");
  client->Reset();
  executor.RunUntilIdle();
  EXPECT_TRUE(gone);
}

TEST_F(PortForwardTest, WebSocketChannelsBeginWithThePort) {
  Start({.transport = Transport::kWebSocket}, {80, 8443});
  ASSERT_EQ(connections.size(), 2u);
  Drain data;
  data.From(connections[1].data);
  Send(WebSocketMessage(WebSocketRole::kClient, false, std::string("\x02ping", 5)));
  EXPECT_EQ(data.data, "ping");
  connections[1].data->Write("pong", nullptr);
  executor.RunUntilIdle();
  ChannelLog log;
  log.Take(received.data);
  EXPECT_EQ(log.data[0], std::string("\x50\0", 2));
  EXPECT_EQ(log.data[1], std::string("\x50\0", 2));
  EXPECT_EQ(log.data[2], "\xfb\x20pong");
  connections[0].data->CloseWrite();
  connections[1].data->Reset();  // a read is still pending
  for (PortConnection& connection : connections) connection.error->CloseWrite();
  connections.clear();
  Send("");
  ChannelLog after;
  after.Take(received.data);
  EXPECT_TRUE(after.closed);  // all ports are done with
}

TEST_F(PortForwardTest, WebSocketNeedsPorts) {
  EXPECT_EQ(ServePortForward(executor, Connect(), {.transport = Transport::kWebSocket}, {})
                .error()
                .code(),
            Code::kInvalidArgument);
}

}  // namespace
}  // namespace skiff::streaming

// Descriptors, and the client against our own server over loopback.

#include "base/streaming/client.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <pty.h>
#include <sys/socket.h>
#include <unistd.h>

#include <future>
#include <thread>

#include "base/streaming/stream_pair.h"

namespace skiff::streaming {
namespace {

using std::chrono::seconds;
using testing::HasSubstr;

std::string ReadToEnd(Stream& stream) {
  std::string all;
  for (;;) {
    Result<std::string> piece = ReadBlocking(stream);
    if (!piece.ok() || piece->empty())
      return all + (piece.ok() ? "" : "<" + std::string(CodeName(piece.error().code())) + ">");
    all += *piece;
  }
}

TEST(FdStreamTest, SocketsHalfClose) {
  IoThread io;
  int fds[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
  auto a = MakeFdStream(io, UniqueFd(fds[0]));
  auto b = MakeFdStream(io, UniqueFd(fds[1]));
  std::string big(1 << 20, 'x');
  std::promise<Result<>> written;
  a->Write(big, [&](Result<> result) { written.set_value(std::move(result)); });
  a->CloseWrite();
  EXPECT_EQ(ReadToEnd(*b), big);
  EXPECT_TRUE(written.get_future().get().ok());
  ASSERT_TRUE(WriteBlocking(*b, "back").ok());
  EXPECT_EQ(ReadBlocking(*a).value(), "back");
}

TEST(FdStreamTest, WriteToAReaderThatLeftIsAnError) {
  IoThread io;
  Pipe pipe = MakePipe().value();
  auto writer = MakeFdStream(io, UniqueFd(), std::move(pipe.write_end));
  pipe.read_end.Reset();
  EXPECT_EQ(WriteBlocking(*writer, "x").error().sys_errno(), EPIPE);
  EXPECT_EQ(ReadBlocking(*writer).value(), "");
}

TEST(FdStreamTest, QueuedBytesSurviveTheOwnerAfterCloseWrite) {
  IoThread io;
  Pipe pipe = MakePipe().value();
  auto writer = MakeFdStream(io, UniqueFd(), std::move(pipe.write_end));
  std::string big(1 << 20, 'x');  // more than a pipe holds
  writer->Write(big, nullptr);
  writer->CloseWrite();
  writer.reset();
  auto reader = MakeFdStream(io, std::move(pipe.read_end), UniqueFd());
  EXPECT_EQ(ReadToEnd(*reader), big);
}

TEST(FdStreamTest, TerminalEndsWhenItsProgramIsGone) {
  IoThread io;
  int master = -1, slave = -1;
  ASSERT_EQ(::openpty(&master, &slave, nullptr, nullptr, nullptr), 0);
  auto terminal = MakeFdStream(io, UniqueFd(master));
  ASSERT_EQ(::write(slave, "hi\n", 3), 3);
  EXPECT_EQ(ReadBlocking(*terminal).value(), "hi\r\n");
  ::close(slave);
  EXPECT_EQ(ReadBlocking(*terminal).value(), "");
}

TEST(FdStreamTest, ResetEndsAPendingRead) {
  IoThread io;
  Pipe pipe = MakePipe().value();
  auto reader = MakeFdStream(io, std::move(pipe.read_end), UniqueFd());
  std::promise<Result<std::string>> read;
  reader->Read([&](Result<std::string> data) { read.set_value(std::move(data)); });
  reader->Reset();
  EXPECT_EQ(read.get_future().get().error().code(), Code::kUnavailable);
}

TEST(PumpTest, CopiesToTheEnd) {
  IoThread io;
  Pipe first = MakePipe().value(), second = MakePipe().value();
  auto source = MakeFdStream(io, UniqueFd(), std::move(first.write_end));
  std::promise<Result<>> done;
  Pump(MakeFdStream(io, std::move(first.read_end), UniqueFd()),
       MakeFdStream(io, UniqueFd(), std::move(second.write_end)),
       [&](Result<> result) { done.set_value(std::move(result)); });
  auto sink = MakeFdStream(io, std::move(second.read_end), UniqueFd());
  std::string big(3 << 20, 'p');
  source->Write(big, nullptr);
  source->CloseWrite();
  EXPECT_EQ(ReadToEnd(*sink), big);
  EXPECT_TRUE(done.get_future().get().ok());
}

// Accepts one connection on loopback, answers its handshake and hands it on.
class LoopbackServer {
 public:
  LoopbackServer() : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    CHECK(::bind(fd_.get(), reinterpret_cast<sockaddr*>(&address), size) == 0);
    CHECK(::listen(fd_.get(), 1) == 0);
    CHECK(::getsockname(fd_.get(), reinterpret_cast<sockaddr*>(&address), &size) == 0);
    port_ = ntohs(address.sin_port);
  }
  std::string Url(const std::string& path) const {
    return "http://127.0.0.1:" + std::to_string(port_) + path;
  }
  // The accepted connection and the request's head.
  std::pair<UniqueFd, std::string> Accept() {
    UniqueFd connection(::accept4(fd_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    std::string head;
    char c;
    while (head.find("\r\n\r\n") == std::string::npos && ::read(connection.get(), &c, 1) == 1) {
      head += c;
    }
    return {std::move(connection), head};
  }
  static HeaderList Headers(const std::string& head) {
    HeaderList headers;
    size_t at = head.find("\r\n") + 2;
    while (at < head.size() - 2) {
      size_t end = head.find("\r\n", at), colon = head.find(": ", at);
      headers.emplace_back(head.substr(at, colon - at), head.substr(colon + 2, end - colon - 2));
      at = end + 2;
    }
    return headers;
  }

 private:
  UniqueFd fd_;
  uint16_t port_ = 0;
};

class ClientTest : public testing::Test {
 protected:
  template <class T>
  static std::pair<std::function<void(Result<T>)>, std::future<Result<T>>> Await() {
    auto promise = std::make_shared<std::promise<Result<T>>>();
    return {[promise](Result<T> value) { promise->set_value(std::move(value)); },
            promise->get_future()};
  }
  ThreadPool pool{"test", 2};
  IoThread io;
  LoopbackServer server;
};

// A client and a session of our own server.
class ExecClientTest : public ClientTest {
 protected:
  void Connect(ClientTransport transport, const ExecStreams& streams) {
    const bool spdy = transport == ClientTransport::kSpdy;
    auto [dialled, client_future] = Await<std::shared_ptr<ExecClient>>();
    DialExec(io, pool, server.Url("/exec/token"), transport, streams, seconds(10), dialled);
    auto [fd, head] = server.Accept();
    EXPECT_THAT(head, HasSubstr(std::string(spdy ? "POST" : "GET") + " /exec/token HTTP/1.1\r\n"));
    Upgrade upgrade = NegotiateExec(LoopbackServer::Headers(head)).value();
    EXPECT_EQ(upgrade.transport, spdy ? Transport::kSpdy : Transport::kWebSocket);
    EXPECT_EQ(upgrade.version, spdy ? 4 : 5);
    auto connection = MakeFdStream(io, std::move(fd));
    ASSERT_TRUE(WriteBlocking(*connection, ResponseHead(upgrade)).ok());
    auto [served, session_future] = Await<std::shared_ptr<ExecSession>>();
    ServeExec(pool, connection, upgrade, streams, served);
    connection.reset();
    session = session_future.get().value();
    client = client_future.get().value();
  }
  // The input, to its end, and then all output and the session's end; none of it is read yet.
  void SendBothWays(const std::string& big) {
    client->in()->Write(big, nullptr);
    client->in()->CloseWrite();
    EXPECT_EQ(ReadToEnd(*session->in()), big);
    session->out()->Write(big, nullptr);
    session->err()->Write("warn", nullptr);
    session->Finish(ExecStatus::Exited(5));
    session.reset();
  }
  std::future<Result<ExecStatus>> AwaitStatus() {
    auto [on_status, status_future] = Await<ExecStatus>();
    client->OnStatus(on_status);
    return std::move(status_future);
  }
  std::shared_ptr<ExecSession> session;
  std::shared_ptr<ExecClient> client;
};

TEST_F(ExecClientTest, ExecEndToEnd) {
  ASSERT_NO_FATAL_FAILURE(
      Connect(ClientTransport::kWebSocket, {.in = true, .out = true, .err = true}));

  std::promise<TerminalSize> size;
  session->OnResize([&](TerminalSize s) { size.set_value(s); });
  client->Resize({120, 40});
  EXPECT_EQ(size.get_future().get(), (TerminalSize{120, 40}));

  std::string big(2 << 20, 'i');
  SendBothWays(big);
  // The status may come while output is unread; none of the output is lost.
  auto status = AwaitStatus();
  EXPECT_EQ(ReadToEnd(*client->out()), big);
  EXPECT_EQ(ReadToEnd(*client->err()), "warn");
  EXPECT_EQ(status.get().value().exit_code, 5);
}

class SpdyClientTest : public ExecClientTest {
 protected:
  void Connect(const ExecStreams& streams) {
    ExecClientTest::Connect(ClientTransport::kSpdy, streams);
  }
  Result<ExecStatus> Status() { return AwaitStatus().get(); }
};

TEST_F(SpdyClientTest, TheInputEndsAndTheOutputIsWhole) {
  ASSERT_NO_FATAL_FAILURE(Connect({.in = true, .out = true, .err = true}));
  std::string big(2 << 20, 'i');
  SendBothWays(big);
  EXPECT_EQ(ReadToEnd(*client->out()), big);
  EXPECT_EQ(ReadToEnd(*client->err()), "warn");
  EXPECT_EQ(Status().value().exit_code, 5);
}

TEST_F(SpdyClientTest, ATerminalIsResized) {
  ASSERT_NO_FATAL_FAILURE(Connect({.in = true, .out = true, .tty = true}));
  EXPECT_EQ(client->err(), nullptr);
  std::promise<TerminalSize> size;
  session->OnResize([&](TerminalSize s) { size.set_value(s); });
  client->Resize({120, 40});
  EXPECT_EQ(size.get_future().get(), (TerminalSize{120, 40}));
  session->Finish(ExecStatus::Exited(0));
  EXPECT_TRUE(Status().value().success);
}

TEST_F(SpdyClientTest, AServerOfAnotherVersionIsRefused) {
  auto [dialled, future] = Await<std::shared_ptr<ExecClient>>();
  DialExec(io, pool, server.Url("/x"), ClientTransport::kSpdy, {.out = true}, seconds(10), dialled);
  auto [fd, head] = server.Accept();
  std::string response =
      "HTTP/1.1 101 Switching Protocols\r\nUpgrade: SPDY/3.1\r\n"
      "X-Stream-Protocol-Version: channel.k8s.io\r\n\r\n";
  ASSERT_EQ(::write(fd.get(), response.data(), response.size()),
            static_cast<ssize_t>(response.size()));
  EXPECT_EQ(future.get().error().code(), Code::kFailedPrecondition);
}

TEST_F(ClientTest, LostConnectionIsTheStatus) {
  auto [dialled, client_future] = Await<std::shared_ptr<ExecClient>>();
  DialExec(io, pool, server.Url("/x"), ClientTransport::kWebSocket, {.out = true}, seconds(10),
           dialled);
  auto [fd, head] = server.Accept();
  Upgrade upgrade = NegotiateExec(LoopbackServer::Headers(head)).value();
  std::string response = ResponseHead(upgrade);
  ASSERT_EQ(::write(fd.get(), response.data(), response.size()),
            static_cast<ssize_t>(response.size()));
  auto client = client_future.get().value();
  fd.Reset();
  auto [on_status, status_future] = Await<ExecStatus>();
  client->OnStatus(on_status);
  EXPECT_EQ(status_future.get().error().code(), Code::kUnavailable);
}

// One forwarded connection, from both ends.
class PortForwardClientTest : public ClientTest,
                              public testing::WithParamInterface<ClientTransport> {
 protected:
  void SetUp() override {
    const bool spdy = GetParam() == ClientTransport::kSpdy;
    auto [dialled, port_future] = Await<PortConnection>();
    DialPortForward(io, pool, server.Url("/pf?a=1"), GetParam(), 8080, seconds(10), dialled);
    auto [fd, head] = server.Accept();
    EXPECT_THAT(
        head, HasSubstr(spdy ? "POST /pf?a=1 HTTP/1.1\r\n" : "GET /pf?a=1&port=8080 HTTP/1.1\r\n"));
    Upgrade upgrade = NegotiatePortForward(LoopbackServer::Headers(head)).value();
    EXPECT_EQ(upgrade.transport, spdy ? Transport::kSpdy : Transport::kWebSocket);
    auto connection = MakeFdStream(io, std::move(fd));
    ASSERT_TRUE(WriteBlocking(*connection, ResponseHead(upgrade)).ok());
    forward = ServePortForward(pool, connection, upgrade, {8080}).value();
    connection.reset();
    auto [on_connection, served_future] = Await<PortConnection>();
    forward->Start(on_connection, [this] { gone.set_value(); });
    served = served_future.get().value();
    ours = port_future.get().value();
    EXPECT_EQ(served.port, 8080);
    EXPECT_EQ(ours.port, 8080);
  }
  std::shared_ptr<PortForwardSession> forward;
  std::promise<void> gone;  // the client
  PortConnection served, ours;
};
INSTANTIATE_TEST_SUITE_P(Over, PortForwardClientTest,
                         testing::Values(ClientTransport::kWebSocket, ClientTransport::kSpdy),
                         [](const auto& over) {
                           return over.param == ClientTransport::kSpdy ? "Spdy" : "WebSocket";
                         });

TEST_P(PortForwardClientTest, HalfClosesBothWays) {
  const std::string big(2 << 20, 'r');
  ours.data->Write(big, nullptr);
  ours.data->CloseWrite();
  EXPECT_EQ(ReadToEnd(*served.data), big);
  served.data->Write(big, nullptr);
  served.data->CloseWrite();
  EXPECT_EQ(ReadToEnd(*ours.data), big);
  served.error->Write("refused", nullptr);
  served.error->CloseWrite();
  EXPECT_EQ(ReadToEnd(*ours.error), "refused");
  // Nothing more to be said: the client closes.
  ours = {};
  EXPECT_EQ(gone.get_future().wait_for(seconds(10)), std::future_status::ready);
}

TEST_P(PortForwardClientTest, AClientThatLetsGoEndsTheConnection) {
  ours = {};
  EXPECT_EQ(gone.get_future().wait_for(seconds(10)), std::future_status::ready);
  EXPECT_EQ(ReadBlocking(*served.data).value_or(""), "");
}

TEST_F(ClientTest, APortForwardOfAnotherProtocolIsRefused) {
  auto [dialled, future] = Await<PortConnection>();
  DialPortForward(io, pool, server.Url("/x"), ClientTransport::kSpdy, 80, seconds(10), dialled);
  auto [fd, head] = server.Accept();
  std::string response = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: SPDY/3.1\r\n\r\n";
  ASSERT_EQ(::write(fd.get(), response.data(), response.size()),
            static_cast<ssize_t>(response.size()));
  EXPECT_EQ(future.get().error().code(), Code::kFailedPrecondition);
}

TEST_F(ClientTest, RefusalsCarryTheServersWords) {
  auto [dialled, future] = Await<std::shared_ptr<ExecClient>>();
  DialExec(io, pool, server.Url("/gone"), ClientTransport::kWebSocket, {.out = true}, seconds(10),
           dialled);
  auto [fd, head] = server.Accept();
  std::string response = "HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n\r\nno token\n";
  ASSERT_EQ(::write(fd.get(), response.data(), response.size()),
            static_cast<ssize_t>(response.size()));
  Result<std::shared_ptr<ExecClient>> refused = future.get();
  EXPECT_EQ(refused.error().code(), Code::kFailedPrecondition);
  EXPECT_THAT(refused.error().message(), HasSubstr("404 Not Found: no token"));
}

TEST_F(ClientTest, SilentServerIsADeadline) {
  auto [dialled, future] = Await<std::shared_ptr<ExecClient>>();
  DialExec(io, pool, server.Url("/slow"), ClientTransport::kWebSocket, {.out = true},
           std::chrono::milliseconds(50), dialled);
  EXPECT_EQ(future.get().error().code(), Code::kDeadlineExceeded);
}

TEST_F(ClientTest, BadUrls) {
  for (const char* url : {"https://127.0.0.1/x", "127.0.0.1:80", "http://host.example/x",
                          "http://127.0.0.1:99999/x", "http://127.0.0.1:1/a b", "http://[::1/x"}) {
    auto [dialled, future] = Await<std::shared_ptr<ExecClient>>();
    DialExec(io, pool, url, ClientTransport::kWebSocket, {.out = true}, seconds(1), dialled);
    EXPECT_FALSE(future.get().ok()) << url;
  }
}

}  // namespace
}  // namespace skiff::streaming

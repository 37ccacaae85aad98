#include "base/http/server.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <openssl/ssl.h>
#include <sys/socket.h>
#include <unistd.h>
#include <zlib.h>

#include <condition_variable>
#include <future>
#include <mutex>

#include "base/os/unique_fd.h"
#include "base/pki/pki.h"

namespace skiff::http {
namespace {

// A client that says exactly what the test wants.
class Client {
 public:
  explicit Client(int port) : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    timeval patience{.tv_sec = 20, .tv_usec = 0};
    ::setsockopt(fd_.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    EXPECT_EQ(::connect(fd_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  }
  void Send(std::string_view text) {
    while (!text.empty()) {
      ssize_t count = ::send(fd_.get(), text.data(), text.size(), MSG_NOSIGNAL);
      if (count <= 0) return;
      text.remove_prefix(static_cast<size_t>(count));
    }
  }
  // Reads until the text has been seen; what came is kept in received.
  bool Expect(std::string_view text) {
    while (received.find(text) == received.npos) {
      if (!ReadSome()) return false;
    }
    return true;
  }
  std::string ReadAll() {
    while (ReadSome()) {
    }
    return received;
  }
  bool ReadSome() {
    char buffer[4096];
    ssize_t count = ::recv(fd_.get(), buffer, sizeof buffer, 0);
    if (count <= 0) return false;
    received.append(buffer, static_cast<size_t>(count));
    return true;
  }
  void Close() { fd_.Reset(); }
  int fd() const { return fd_.get(); }
  std::string received;

 private:
  UniqueFd fd_;
};

class ServerTest : public testing::Test {
 protected:
  void Start(Handler handler) {
    options_.listen = "127.0.0.1:0";
    auto started = Server::Start(options_, std::move(handler), workers_);
    ASSERT_TRUE(started.ok()) << started.error().ToString();
    server_ = std::move(started).value();
  }
  ~ServerTest() override {
    if (server_) server_->Stop(std::chrono::seconds(5));
  }

  ServerOptions options_;
  ThreadPool workers_{"test", 2};
  std::unique_ptr<Server> server_;
};

void Echo(Request request, std::shared_ptr<ResponseWriter> writer) {
  writer->Send(Response::Text(200, request.method + " " + request.path + " " + request.body));
}

TEST_F(ServerTest, AnswersAndKeepsTheConnection) {
  Start(Echo);
  Client client(server_->port());
  client.Send("GET /a%20b?x=1 HTTP/1.1\r\nHost: t\r\n\r\n");
  ASSERT_TRUE(client.Expect("GET /a b "));
  client.Send("POST /c HTTP/1.1\r\nHost: t\r\nContent-Length: 4\r\n\r\nbody");
  ASSERT_TRUE(client.Expect("POST /c body"));
  client.Send(
      "POST /d HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n");
  ASSERT_TRUE(client.Expect("POST /d abc"));
  client.Send("GET /e HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n");
  EXPECT_NE(client.ReadAll().find("Connection: close"), std::string::npos);
}

TEST_F(ServerTest, PipelinedRequestsAreAnsweredInOrder) {
  Start(Echo);
  Client client(server_->port());
  std::string all;
  for (int i = 0; i < 50; ++i) {
    all += "GET /" + std::to_string(i) + "! HTTP/1.1\r\nHost: t\r\n\r\n";
  }
  client.Send(all);
  ASSERT_TRUE(client.Expect("GET /49!"));
  size_t last = 0;
  for (int i = 0; i < 50; ++i) {
    size_t at = client.received.find("GET /" + std::to_string(i) + "!");
    ASSERT_NE(at, std::string::npos);
    EXPECT_GE(at, last);
    last = at;
  }
}

TEST_F(ServerTest, HeadHasNoBodyAndExpectIsAnswered) {
  Start(Echo);
  Client client(server_->port());
  client.Send("HEAD /x HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n");
  EXPECT_TRUE(client.ReadAll().ends_with("\r\n\r\n"));
  Client poster(server_->port());
  poster.Send("POST /x HTTP/1.1\r\nHost: t\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n");
  ASSERT_TRUE(poster.Expect("100 Continue"));
  poster.Send("hi");
  EXPECT_TRUE(poster.Expect("POST /x hi"));
}

TEST_F(ServerTest, BadRequestsGetTheirStatusAndTheServerLivesOn) {
  options_.limits.max_header_bytes = 1024;
  options_.limits.max_body_bytes = 1000;
  Start(Echo);
  const std::pair<std::string, const char*> cases[] = {
      {"NONSENSE\r\n\r\n", " 400 "},
      {"GET / HTTP/9.9\r\n\r\n", " 400 "},
      {"GET /%zz HTTP/1.1\r\nHost: t\r\n\r\n", " 400 "},
      {"GET / HTTP/1.1\r\nX: " + std::string(5000, 'x') + "\r\n\r\n", " 431 "},
      {"POST / HTTP/1.1\r\nContent-Length: 5000\r\n\r\n" + std::string(5000, 'x'), " 413 "},
      {"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n800\r\n" + std::string(0x800, 'x') +
           "\r\n0\r\n\r\n",
       " 413 "},
      {"POST / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef", " 400 "},
  };
  for (const auto& [text, status] : cases) {
    Client client(server_->port());
    client.Send(text);
    EXPECT_NE(client.ReadAll().find(status), std::string::npos) << text.substr(0, 60);
  }
  Client client(server_->port());
  client.Send("GET /still HTTP/1.1\r\nHost: t\r\n\r\n");
  EXPECT_TRUE(client.Expect("GET /still"));
}

TEST_F(ServerTest, HalfARequestTimesOut) {
  options_.limits.header_timeout = std::chrono::seconds(1);
  options_.limits.body_timeout = std::chrono::seconds(1);
  Start(Echo);
  Client header(server_->port());
  header.Send("GET / HTTP/1.1\r\nHo");
  Client body(server_->port());
  body.Send("POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\nabc");
  EXPECT_NE(header.ReadAll().find(" 408 "), std::string::npos);
  EXPECT_NE(body.ReadAll().find(" 408 "), std::string::npos);
}

TEST_F(ServerTest, ConnectionsBeyondTheLimitAreClosed) {
  options_.limits.max_connections = 1;
  Start(Echo);
  Client first(server_->port());
  first.Send("GET /1 HTTP/1.1\r\nHost: t\r\n\r\n");
  ASSERT_TRUE(first.Expect("GET /1"));
  Client second(server_->port());
  EXPECT_EQ(second.ReadAll(), "");
}

TEST_F(ServerTest, StreamsAndTellsWhenTheClientLeaves) {
  std::promise<std::shared_ptr<ResponseStream>> made;
  std::promise<void> gone;
  Start([&](Request, std::shared_ptr<ResponseWriter> writer) {
    auto stream = writer->Stream(200, {{"Content-Type", "text/plain"}});
    stream->OnClosed([&] { gone.set_value(); });
    EXPECT_TRUE(stream->Write("first\n"));
    made.set_value(stream);
  });
  Client client(server_->port());
  client.Send("GET / HTTP/1.1\r\nHost: t\r\n\r\n");
  ASSERT_TRUE(client.Expect("6\r\nfirst\n\r\n"));
  auto stream = made.get_future().get();
  EXPECT_TRUE(stream->Write("second\n"));
  ASSERT_TRUE(client.Expect("second"));
  client.Close();
  gone.get_future().wait();
  EXPECT_FALSE(stream->Write("third\n"));
}

TEST_F(ServerTest, AStreamEndsProperlyAndTheConnectionGoesOn) {
  Start([](Request request, std::shared_ptr<ResponseWriter> writer) {
    auto stream = writer->Stream(200, {});
    stream->Write(request.path);
    stream->End();
    EXPECT_FALSE(stream->Write("late"));
  });
  Client client(server_->port());
  client.Send("GET /one HTTP/1.1\r\nHost: t\r\n\r\n");
  ASSERT_TRUE(client.Expect("4\r\n/one\r\n0\r\n\r\n"));
  client.Send("GET /two HTTP/1.1\r\nHost: t\r\n\r\n");
  ASSERT_TRUE(client.Expect("4\r\n/two\r\n0\r\n\r\n"));
}

TEST_F(ServerTest, ASlowReaderMeetsTheBound) {
  options_.limits.max_queued_bytes = 256 * 1024;
  std::promise<bool> refused;
  std::promise<void> drained;
  Start([&](Request, std::shared_ptr<ResponseWriter> writer) {
    auto stream = writer->Stream(200, {});
    std::string chunk(100'000, 'x');
    int taken = 0;
    while (taken < 10'000 && stream->Write(chunk)) ++taken;
    stream->OnDrained([&drained, stream] {
      stream->End();
      drained.set_value();
    });
    refused.set_value(taken < 10'000);
  });
  Client client(server_->port());
  client.Send("GET / HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n");
  EXPECT_TRUE(refused.get_future().get());
  EXPECT_TRUE(client.ReadAll().ends_with("0\r\n\r\n"));
  drained.get_future().wait();
}

TEST_F(ServerTest, HijackHandsOverTheBytesReadAhead) {
  std::promise<StreamPtr> hijacked;
  Start([&](Request request, std::shared_ptr<ResponseWriter> writer) {
    EXPECT_TRUE(request.IsUpgrade());
    hijacked.set_value(writer->Hijack());
  });
  Client client(server_->port());
  client.Send("POST / HTTP/1.1\r\nHost: t\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\nahead");
  StreamPtr stream = hijacked.get_future().get();
  std::string ahead;
  while (ahead.size() < 5) ahead += stream->Read(2).value();
  EXPECT_EQ(ahead, "ahead");
  ASSERT_TRUE(stream->Write("HTTP/1.1 101 Switching Protocols\r\n\r\nraw").ok());
  ASSERT_TRUE(client.Expect("raw"));
  client.Send("ping");
  EXPECT_EQ(stream->Read(100).value(), "ping");
  ::shutdown(client.fd(), SHUT_WR);
  EXPECT_EQ(stream->Read(100).value(), "");
  ASSERT_TRUE(stream->Write("bye").ok());
  stream->ShutdownWrite();
  EXPECT_TRUE(client.ReadAll().ends_with("bye"));
  stream->Close();
  EXPECT_FALSE(stream->Read(1).ok());
}

TEST_F(ServerTest, AnUnansweredOrThrowingHandlerIsA500) {
  Start([](Request request, std::shared_ptr<ResponseWriter>) {
    if (request.path == "/throw") throw std::runtime_error("oops");
  });
  Client client(server_->port());
  client.Send("GET /drop HTTP/1.1\r\n\r\n");
  ASSERT_TRUE(client.Expect(" 500 "));
  Client second(server_->port());
  second.Send("GET /throw HTTP/1.1\r\n\r\n");
  EXPECT_TRUE(second.Expect(" 500 "));
}

TEST_F(ServerTest, BigAnswersAreCompressedForThoseWhoAccept) {
  options_.gzip_from_bytes = 1000;
  Start([](Request, std::shared_ptr<ResponseWriter> writer) {
    writer->Send(Response::Text(200, std::string(50'000, 'z')));
  });
  Client client(server_->port());
  client.Send("GET / HTTP/1.1\r\nAccept-Encoding: gzip\r\nConnection: close\r\n\r\n");
  std::string answer = client.ReadAll();
  EXPECT_NE(answer.find("Content-Encoding: gzip"), std::string::npos);
  std::string body = answer.substr(answer.find("\r\n\r\n") + 4);
  std::string plain(60'000, '\0');
  z_stream inflater{};
  ASSERT_EQ(inflateInit2(&inflater, 16 + MAX_WBITS), Z_OK);
  inflater.next_in = reinterpret_cast<Bytef*>(body.data());
  inflater.avail_in = static_cast<uInt>(body.size());
  inflater.next_out = reinterpret_cast<Bytef*>(plain.data());
  inflater.avail_out = static_cast<uInt>(plain.size());
  EXPECT_EQ(inflate(&inflater, Z_FINISH), Z_STREAM_END);
  EXPECT_EQ(inflater.total_out, 50'000u);
  inflateEnd(&inflater);
}

TEST_F(ServerTest, HeaderValuesCannotBreakTheHeader) {
  Start([](Request, std::shared_ptr<ResponseWriter> writer) {
    writer->Send({200, {{"Warning", "a\r\nX-Evil: 1"}}, ""});
  });
  Client client(server_->port());
  client.Send("GET / HTTP/1.1\r\nConnection: close\r\n\r\n");
  EXPECT_EQ(client.ReadAll().find("\r\nX-Evil"), std::string::npos);
}

TEST_F(ServerTest, StopEndsStreamsAndIdleConnections) {
  std::promise<std::shared_ptr<ResponseStream>> made;
  Start([&](Request, std::shared_ptr<ResponseWriter> writer) {
    made.set_value(writer->Stream(200, {}));
  });
  Client idle(server_->port());
  Client watching(server_->port());
  watching.Send("GET / HTTP/1.1\r\n\r\n");
  auto stream = made.get_future().get();
  server_->Stop(std::chrono::seconds(10));
  EXPECT_TRUE(watching.ReadAll().ends_with("0\r\n\r\n"));
  EXPECT_EQ(idle.ReadAll(), "");
  EXPECT_FALSE(stream->Write("x"));
}

TEST(ServerStartTest, SaysWhatIsWrongWithTheAddress) {
  ThreadPool workers("test", 1);
  for (const char* listen : {"nonsense", "127.0.0.1:99999", "300.1.1.1:80", "unix:"}) {
    EXPECT_FALSE(Server::Start({.listen = listen}, Echo, workers).ok()) << listen;
  }
}

// ---- TLS ----

class TlsServerTest : public ServerTest {
 protected:
  void SetUp() override {
    WallTime now = Clock::Real().WallNow();
    ca_ = pki::MakeCa("test-ca", now).value();
    other_ca_ = pki::MakeCa("other-ca", now).value();
    auto leaf = pki::MakeLeaf(
        ca_, {.subject = {"server", {}}, .usage = pki::Usage::kServer, .names = {"127.0.0.1"}},
        now);
    options_.tls = TlsConfig{leaf->certificate_pem, leaf->key_pem, ca_.certificate_pem};
    Start([](Request request, std::shared_ptr<ResponseWriter> writer) {
      std::string who = request.peer.common_name + "|";
      for (auto& group : request.peer.organizations) who += group + "|";
      writer->Send(Response::Text(200, who + request.peer.certificate_error));
    });
  }

  // What the server says to a client with this certificate.
  std::string Ask(const pki::KeyPair* client, int max_version = TLS1_3_VERSION,
                  const std::string& request = "GET / HTTP/1.1\r\nConnection: close\r\n\r\n") {
    SSL_CTX* context = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_max_proto_version(context, max_version);
    if (client != nullptr) {
      BIO* bio = BIO_new_mem_buf(client->certificate_pem.data(), -1);
      X509* certificate = PEM_read_bio_X509(bio, nullptr, nullptr, nullptr);
      SSL_CTX_use_certificate(context, certificate);
      X509_free(certificate);
      BIO_free(bio);
      bio = BIO_new_mem_buf(client->key_pem.data(), -1);
      EVP_PKEY* key = PEM_read_bio_PrivateKey(bio, nullptr, nullptr, nullptr);
      SSL_CTX_use_PrivateKey(context, key);
      EVP_PKEY_free(key);
      BIO_free(bio);
    }
    Client socket(server_->port());
    SSL* ssl = SSL_new(context);
    SSL_set_fd(ssl, socket.fd());
    std::string answer = "no connection";
    if (SSL_connect(ssl) == 1) {
      answer.clear();
      SSL_write(ssl, request.data(), static_cast<int>(request.size()));
      char buffer[4096];
      int count = 0;
      while ((count = SSL_read(ssl, buffer, sizeof buffer)) > 0) answer.append(buffer, count);
      EXPECT_EQ(SSL_get_error(ssl, count), SSL_ERROR_ZERO_RETURN);  // a close_notify, no cut
      answer = answer.substr(answer.find("\r\n\r\n") + 4);
    }
    SSL_free(ssl);
    SSL_CTX_free(context);
    return answer;
  }

  pki::KeyPair ca_, other_ca_;
};

TEST_F(TlsServerTest, KnowsItsClients) {
  WallTime now = Clock::Real().WallNow();
  auto admin =
      pki::MakeLeaf(ca_, {.subject = {"kubernetes-admin", {"system:masters", "b"}}}, now).value();
  EXPECT_EQ(Ask(&admin), "kubernetes-admin|system:masters|b|");
  EXPECT_EQ(Ask(&admin, TLS1_2_VERSION), "kubernetes-admin|system:masters|b|");
  EXPECT_EQ(Ask(nullptr), "|");
  auto stranger = pki::MakeLeaf(other_ca_, {.subject = {"x", {"system:masters"}}}, now).value();
  std::string answer = Ask(&stranger);
  EXPECT_TRUE(answer.starts_with("|")) << answer;
  EXPECT_GT(answer.size(), 1u) << "says why the certificate was not accepted";
}

TEST_F(TlsServerTest, RefusesOldProtocolsAndPlainText) {
  EXPECT_EQ(Ask(nullptr, TLS1_1_VERSION), "no connection");
  Client plain(server_->port());
  plain.Send("GET / HTTP/1.1\r\n\r\n");
  EXPECT_EQ(plain.ReadAll().find("200"), std::string::npos);
}

TEST_F(TlsServerTest, AClientThatSendsTooMuchStillGetsItsAnswer) {
  // 8 MiB: more than any socket buffer takes.
  std::string answer =
      Ask(nullptr, TLS1_3_VERSION,
          "POST / HTTP/1.1\r\nContent-Length: 8388608\r\n\r\n" + std::string(8 << 20, 'x'));
  EXPECT_EQ(answer, "Request Entity Too Large: limit is 3145728");
}

TEST_F(TlsServerTest, ReloadsItsCertificate) {
  WallTime now = Clock::Real().WallNow();
  auto stranger = pki::MakeLeaf(other_ca_, {.subject = {"x", {}}}, now).value();
  TlsConfig config = *options_.tls;
  config.client_ca_pem = other_ca_.certificate_pem;
  ASSERT_TRUE(server_->ReloadTls(config).ok());
  EXPECT_EQ(Ask(&stranger), "x|");
  config.private_key_pem = "nonsense";
  EXPECT_FALSE(server_->ReloadTls(config).ok());
}

}  // namespace
}  // namespace skiff::http

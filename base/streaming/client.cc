#include "base/streaming/client.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <array>
#include <atomic>
#include <charconv>
#include <cstring>

#include "base/streaming/exec_channels.h"
#include "base/streaming/spdy_connection.h"
#include "base/streaming/websocket_channels.h"

namespace skiff::streaming {

namespace {

constexpr size_t kMaxResponseHeadBytes = 16 << 10;
constexpr size_t kMaxRefusalText = 512;

struct Url {
  std::string host;
  uint16_t port = 80;
  std::string target;
};

Result<Url> ParseUrl(std::string_view text) {
  auto bad = [&text](const char* why) {
    return Error(Code::kInvalidArgument, "streaming URL \"" + std::string(text) + "\": " + why);
  };
  std::string_view rest = text;
  if (rest.starts_with("http://")) {
    rest.remove_prefix(7);
  } else if (rest.starts_with("ws://")) {
    rest.remove_prefix(5);
  } else {
    return Error(Code::kUnimplemented,
                 "streaming URL \"" + std::string(text) + "\": only http:// is supported");
  }
  Url url;
  size_t slash = rest.find_first_of("/?");
  std::string_view authority = rest.substr(0, slash);
  url.target = slash == std::string_view::npos ? "/" : std::string(rest.substr(slash));
  if (url.target[0] == '?') url.target.insert(0, 1, '/');
  // What would break out of the request line.
  for (unsigned char c : url.target) {
    if (c <= ' ' || c >= 0x7f) return bad("unescaped character");
  }
  size_t colon = authority.rfind(':');
  if (authority.starts_with('[')) {
    size_t bracket = authority.find(']');
    if (bracket == std::string_view::npos) return bad("unclosed bracket");
    url.host = authority.substr(1, bracket - 1);
    colon = authority.find(':', bracket);
  } else {
    url.host = authority.substr(0, colon);
  }
  if (url.host == "localhost") url.host = "127.0.0.1";
  if (colon != std::string_view::npos) {
    std::string_view digits = authority.substr(colon + 1);
    auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), url.port);
    if (error != std::errc() || end != digits.data() + digits.size()) return bad("bad port");
  }
  return url;
}

// Begins to connect; the first write waits for the outcome.
Result<UniqueFd> BeginConnect(const Url& url) {
  sockaddr_storage storage{};
  auto* v4 = reinterpret_cast<sockaddr_in*>(&storage);
  auto* v6 = reinterpret_cast<sockaddr_in6*>(&storage);
  socklen_t size = 0;
  if (::inet_pton(AF_INET, url.host.c_str(), &v4->sin_addr) == 1) {
    v4->sin_family = AF_INET;
    v4->sin_port = htons(url.port);
    size = sizeof *v4;
  } else if (::inet_pton(AF_INET6, url.host.c_str(), &v6->sin6_addr) == 1) {
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(url.port);
    size = sizeof *v6;
  } else {
    return Error(Code::kInvalidArgument, "streaming URL: \"" + url.host + "\" is not an address");
  }
  UniqueFd fd(::socket(storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) return Error::Sys(errno, "socket");
  int on = 1;
  (void)::setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);  // a hint only
  if (::connect(fd.get(), reinterpret_cast<sockaddr*>(&storage), size) != 0 &&
      errno != EINPROGRESS) {
    return Error::Sys(errno, "connect", url.host);
  }
  return fd;
}

// A stream some of whose input has been read already.
class PrefixedStream : public Stream {
 public:
  PrefixedStream(Executor& executor, std::string prefix, std::shared_ptr<Stream> rest)
      : executor_(executor), prefix_(std::move(prefix)), rest_(std::move(rest)) {}
  void Read(ReadDone done) override {
    if (prefix_.empty()) return rest_->Read(std::move(done));
    executor_.Post([done = std::move(done), prefix = std::exchange(prefix_, {})]() mutable {
      done(std::move(prefix));
    });
  }
  void Write(std::string data, WriteDone done) override {
    rest_->Write(std::move(data), std::move(done));
  }
  void CloseWrite() override { rest_->CloseWrite(); }
  void Reset() override { rest_->Reset(); }

 private:
  Executor& executor_;
  std::string prefix_;  // touched by the one reader only
  std::shared_ptr<Stream> rest_;
};

// The value of a header in a response head, or nothing.
std::string HeaderValue(std::string_view head, std::string_view name) {
  size_t line = head.find("\r\n");
  while (line != std::string_view::npos && line + 2 < head.size()) {
    line += 2;
    std::string_view field = head.substr(line, head.find("\r\n", line) - line);
    size_t colon = field.find(':');
    if (colon == name.size() && ::strncasecmp(field.data(), name.data(), name.size()) == 0) {
      std::string_view value = field.substr(colon + 1);
      while (value.starts_with(' ')) value.remove_prefix(1);
      while (value.ends_with(' ')) value.remove_suffix(1);
      return std::string(value);
    }
    line = head.find("\r\n", line);
  }
  return {};
}

struct Upgraded {
  std::shared_ptr<Stream> stream;
  std::string protocol;
};
using UpgradedDone = std::function<void(Result<Upgraded>)>;

// What one transport asks for in the request, and what the response must say.
struct UpgradeRequest {
  std::string method;
  std::string headers;  // each with its line end
  std::string protocol_header;
  std::string key;  // of WebSocket; empty otherwise
};

UpgradeRequest WebSocketUpgrade(std::string_view protocols) {
  UpgradeRequest request{
      .method = "GET", .protocol_header = "Sec-WebSocket-Protocol", .key = MakeWebSocketKey()};
  request.headers =
      "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + request.key +
      "\r\nSec-WebSocket-Protocol: " + std::string(protocols) + "\r\n";
  return request;
}

UpgradeRequest SpdyUpgrade(std::string_view protocol) {
  return {.method = "POST",
          .headers = "Upgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: " + std::string(protocol) +
                     "\r\nContent-Length: 0\r\n",
          .protocol_header = "X-Stream-Protocol-Version"};
}

// One handshake under way. Its steps follow each other on the connection's callbacks; the deadline
// only resets the connection, so that whichever step is pending ends.
struct Handshake : std::enable_shared_from_this<Handshake> {
  Executor& executor;
  std::shared_ptr<Stream> stream;
  const UpgradeRequest upgrade;
  std::string head;
  Executor::TimerId timer = 0;
  std::atomic<bool> timed_out = false;
  UpgradedDone done;

  Handshake(Executor& e, UpgradeRequest u) : executor(e), upgrade(std::move(u)) {}

  void Start(const Url& url, std::chrono::milliseconds timeout) {
    bool v6 = url.host.find(':') != std::string::npos;
    std::string request = upgrade.method + " " + url.target +
                          " HTTP/1.1\r\nHost: " + (v6 ? "[" : "") + url.host + (v6 ? "]:" : ":") +
                          std::to_string(url.port) + "\r\nConnection: Upgrade\r\n" +
                          upgrade.headers + "\r\n";
    timer = executor.PostAfter(timeout, [weak = weak_from_this()] {
      if (auto self = weak.lock()) {
        self->timed_out = true;
        self->stream->Reset();
      }
    });
    stream->Write(std::move(request), [self = shared_from_this()](Result<> written) {
      if (!written.ok()) return self->End(std::move(written).error());
      self->ReadHead();
    });
  }

  void ReadHead() {
    stream->Read([self = shared_from_this()](Result<std::string> bytes) {
      if (!bytes.ok()) return self->End(std::move(bytes).error());
      if (bytes->empty()) {
        return self->End(Error(Code::kUnavailable, "the server closed during the handshake"));
      }
      self->head += *bytes;
      size_t end = self->head.find("\r\n\r\n");
      if (end != std::string::npos) return self->Judge(end + 4);
      if (self->head.size() > kMaxResponseHeadBytes) {
        return self->End(Error(Code::kInvalidArgument, "the server's response is too long"));
      }
      self->ReadHead();
    });
  }

  void Judge(size_t head_bytes) {
    std::string_view view(head);
    std::string_view fields = view.substr(0, head_bytes);
    if (!fields.starts_with("HTTP/1.1 101")) {
      return End(Error(Code::kFailedPrecondition,
                       "the server refused: " + std::string(fields.substr(0, fields.find('\r'))) +
                           ": " + std::string(view.substr(head_bytes, kMaxRefusalText))));
    }
    if (!upgrade.key.empty() &&
        HeaderValue(fields, "Sec-WebSocket-Accept") != WebSocketAccept(upgrade.key)) {
      return End(Error(Code::kInvalidArgument, "the server's Sec-WebSocket-Accept is wrong"));
    }
    std::string protocol = HeaderValue(fields, upgrade.protocol_header);
    std::shared_ptr<Stream> rest = stream;
    if (head_bytes < head.size()) {
      rest = std::make_shared<PrefixedStream>(executor, head.substr(head_bytes), stream);
    }
    Finish(Upgraded{std::move(rest), std::move(protocol)});
  }

  void End(Error error) {
    if (timed_out) error = Error(Code::kDeadlineExceeded, "the handshake took too long");
    Finish(std::move(error));
  }

  void Finish(Result<Upgraded> outcome) {
    executor.Cancel(timer);
    std::exchange(done, nullptr)(std::move(outcome));
  }
};

void Dial(IoThread& io, Executor& executor, const std::string& text, UpgradeRequest upgrade,
          std::chrono::milliseconds timeout, UpgradedDone done) {
  Result<Url> url = ParseUrl(text);
  Result<UniqueFd> fd = url.ok() ? BeginConnect(*url) : Result<UniqueFd>(url.error());
  if (!fd.ok()) {
    executor.Post([done = std::move(done), error = fd.error()] { done(error); });
    return;
  }
  auto handshake = std::make_shared<Handshake>(executor, std::move(upgrade));
  handshake->stream = MakeFdStream(io, std::move(fd).value());
  handshake->done = std::move(done);
  handshake->Start(*url, timeout);
}

// A server that does not know the protocol says another one.
void DialSpdy(IoThread& io, Executor& executor, const std::string& url, std::string_view protocol,
              std::chrono::milliseconds timeout, UpgradedDone done) {
  Dial(io, executor, url, SpdyUpgrade(protocol), timeout,
       [protocol = std::string(protocol), done = std::move(done)](Result<Upgraded> upgraded) {
         if (!upgraded.ok() || upgraded->protocol == protocol) return done(std::move(upgraded));
         done(Error(Code::kFailedPrecondition, "the server speaks \"" + upgraded->protocol +
                                                   "\" over SPDY and not " + protocol));
       });
}

// ---- exec and attach ----

// Confined to the connection's strand.
struct StatusReader : std::enable_shared_from_this<StatusReader> {
  std::string text;
  std::optional<Result<ExecStatus>> outcome;
  std::function<void(Result<ExecStatus>)> handler;

  void ReadFrom(std::shared_ptr<Stream> stream) {
    Stream* source = stream.get();
    source->Read([self = shared_from_this(), stream](Result<std::string> bytes) {
      if (!bytes.ok() || bytes->empty()) {
        return self->Settle(
            Error(Code::kUnavailable, "the connection ended without the command's status"));
      }
      self->text += *bytes;
      if (Result<ExecStatus> status = ExecStatus::FromJson(self->text); status.ok()) {
        return self->Settle(std::move(status));
      }
      if (self->text.size() > kMaxReadBytes) {
        return self->Settle(Error(Code::kInvalidArgument, "the command's status is too long"));
      }
      self->ReadFrom(stream);
    });
  }

  void Settle(Result<ExecStatus> status) {
    outcome = std::move(status);
    Tell();
  }
  void Tell() {
    if (outcome && handler) std::exchange(handler, nullptr)(*outcome);
  }
};

// Over streams of a connection, which their owner tells the server of.
class MuxExecClient : public ExecClient {
 public:
  // ids: of each channel that the connection has.
  using Ids = std::array<std::optional<uint32_t>, kChannels>;
  MuxExecClient(std::shared_ptr<Mux> mux, const ExecStreams& streams, const Ids& ids)
      : mux_(std::move(mux)), streams_(streams) {
    for (uint32_t channel = 0; channel < kChannels; ++channel) {
      if (!ids[channel]) continue;
      mux_->Open(*ids[channel]);
      handles_[channel] = mux_->Attach(*ids[channel]);
    }
    mux_->Post([mux = mux_, status = status_, error = handles_[kError], ids, streams] {
      // What is read of: output that was asked for, and the status.
      const bool read[kChannels] = {false, streams.out, streams.err && !streams.tty, true, false};
      for (uint32_t channel = 0; channel < kChannels; ++channel) {
        if (ids[channel] && !read[channel]) mux->Discard(*ids[channel]);
      }
      status->ReadFrom(error);
    });
  }
  ~MuxExecClient() override { mux_->Abort(); }

  std::shared_ptr<Stream> in() override { return streams_.in ? handles_[kIn] : nullptr; }
  std::shared_ptr<Stream> out() override { return streams_.out ? handles_[kOut] : nullptr; }
  std::shared_ptr<Stream> err() override {
    return streams_.err && !streams_.tty ? handles_[kErr] : nullptr;
  }
  void Resize(TerminalSize size) override {
    if (handles_[kResize]) handles_[kResize]->Write(FormatTerminalSize(size), nullptr);
  }
  void OnStatus(std::function<void(Result<ExecStatus>)> handler) override {
    mux_->Post([status = status_, handler = std::move(handler)]() mutable {
      status->handler = std::move(handler);
      status->Tell();
    });
  }

 private:
  std::shared_ptr<Mux> mux_;
  const ExecStreams streams_;
  std::shared_ptr<Stream> handles_[kChannels];
  std::shared_ptr<StatusReader> status_ = std::make_shared<StatusReader>();
};

std::shared_ptr<ExecClient> WebSocketExec(Executor& executor, Upgraded upgraded,
                                          const ExecStreams& streams) {
  WebSocketChannels::Options options{.role = WebSocketRole::kClient,
                                     .half_close = upgraded.protocol == "v5.channel.k8s.io"};
  auto mux = std::make_shared<WebSocketChannels>(executor, std::move(upgraded.stream), options);
  auto client = std::make_shared<MuxExecClient>(mux, streams, MuxExecClient::Ids{0, 1, 2, 3, 4});
  mux->Start();
  return client;
}

// Servers wait for just the streams that the URL was made for, and for a terminal's size.
std::shared_ptr<ExecClient> SpdyExec(Executor& executor, Upgraded upgraded,
                                     const ExecStreams& streams) {
  auto mux = std::make_shared<SpdyConnection>(executor, std::move(upgraded.stream));
  const bool wanted[kChannels] = {streams.in, streams.out, streams.err && !streams.tty, true,
                                  streams.tty};
  MuxExecClient::Ids ids;
  std::vector<std::pair<uint32_t, const char*>> made;
  for (Channel channel : {kError, kIn, kOut, kErr, kResize}) {
    if (!wanted[channel]) continue;
    ids[channel] = static_cast<uint32_t>(2 * made.size() + 1);
    made.emplace_back(*ids[channel], ChannelName(channel));
  }
  auto client = std::make_shared<MuxExecClient>(mux, streams, ids);
  mux->Post([mux, made] {
    for (auto [id, name] : made) mux->Announce(id, {{"streamtype", name}});
  });
  mux->Start();
  return client;
}

// ---- port-forward ----

constexpr size_t kPortPrefixBytes = 2;

// Reads past the port number that begins each channel.
void SkipPortPrefix(Executor& executor, std::shared_ptr<Stream> stream, std::string seen,
                    std::function<void(Result<std::shared_ptr<Stream>>)> done) {
  Stream* source = stream.get();
  source->Read([&executor, stream = std::move(stream), seen = std::move(seen),
                done = std::move(done)](Result<std::string> bytes) mutable {
    if (!bytes.ok()) return done(std::move(bytes).error());
    if (bytes->empty()) return done(Error(Code::kUnavailable, "the server closed the port"));
    seen += *bytes;
    if (seen.size() < kPortPrefixBytes) {
      return SkipPortPrefix(executor, std::move(stream), std::move(seen), std::move(done));
    }
    seen.erase(0, kPortPrefixBytes);
    if (!seen.empty()) {
      stream = std::make_shared<PrefixedStream>(executor, std::move(seen), std::move(stream));
    }
    done(std::move(stream));
  });
}

void OpenWebSocketPort(Executor& executor, Upgraded upgraded, uint16_t port,
                       std::function<void(Result<PortConnection>)> done) {
  auto mux = std::make_shared<WebSocketChannels>(
      executor, std::move(upgraded.stream),
      WebSocketChannels::Options{.role = WebSocketRole::kClient,
                                 .half_close = upgraded.protocol == kHalfClosePortForward,
                                 .finish_after = 2});
  mux->Open(0);
  mux->Open(1);
  std::shared_ptr<Stream> data = mux->Attach(0);
  std::shared_ptr<Stream> error = mux->Attach(1);
  mux->Start();
  SkipPortPrefix(executor, data, {}, [&executor, error, port, done = std::move(done)](auto first) {
    if (!first.ok()) return done(std::move(first).error());
    SkipPortPrefix(executor, error, {}, [data = *first, port, done](auto second) {
      if (!second.ok()) return done(std::move(second).error());
      done(PortConnection{port, data, *second});
    });
  });
}

// Two streams with the same request id.
PortConnection OpenSpdyPort(Executor& executor, Upgraded upgraded, uint16_t port) {
  constexpr uint32_t kErrorId = 1, kDataId = 3;
  auto mux = std::make_shared<SpdyConnection>(executor, std::move(upgraded.stream));
  mux->Open(kErrorId);
  mux->Open(kDataId);
  PortConnection connection{port, mux->Attach(kDataId), mux->Attach(kErrorId)};
  mux->Post([mux, number = std::to_string(port)] {
    mux->Announce(kErrorId, {{"streamtype", "error"}, {"port", number}, {"requestid", "0"}});
    mux->Announce(kDataId, {{"streamtype", "data"}, {"port", number}, {"requestid", "0"}});
  });
  mux->Start();
  return connection;
}

}  // namespace

void DialExec(IoThread& io, Executor& executor, const std::string& url, ClientTransport transport,
              const ExecStreams& streams, std::chrono::milliseconds timeout,
              std::function<void(Result<std::shared_ptr<ExecClient>>)> done) {
  if (transport == ClientTransport::kSpdy) {
    return DialSpdy(io, executor, url, "v4.channel.k8s.io", timeout,
                    [&executor, streams, done = std::move(done)](Result<Upgraded> upgraded) {
                      if (!upgraded.ok()) return done(std::move(upgraded).error());
                      done(SpdyExec(executor, std::move(*upgraded), streams));
                    });
  }
  Dial(io, executor, url, WebSocketUpgrade("v5.channel.k8s.io, v4.channel.k8s.io"), timeout,
       [&executor, streams, done = std::move(done)](Result<Upgraded> upgraded) {
         if (!upgraded.ok()) return done(std::move(upgraded).error());
         done(WebSocketExec(executor, std::move(*upgraded), streams));
       });
}

void DialPortForward(IoThread& io, Executor& executor, const std::string& url,
                     ClientTransport transport, uint16_t port, std::chrono::milliseconds timeout,
                     std::function<void(Result<PortConnection>)> done) {
  if (transport == ClientTransport::kSpdy) {
    return DialSpdy(io, executor, url, "portforward.k8s.io", timeout,
                    [&executor, port, done = std::move(done)](Result<Upgraded> upgraded) {
                      if (!upgraded.ok()) return done(std::move(upgraded).error());
                      done(OpenSpdyPort(executor, std::move(*upgraded), port));
                    });
  }
  std::string with_port = url;
  with_port.append(url.find('?') == std::string::npos ? "?" : "&")
      .append("port=")
      .append(std::to_string(port));
  std::string protocols(kHalfClosePortForward);
  protocols += ", v4.channel.k8s.io, portforward.k8s.io";
  Dial(io, executor, with_port, WebSocketUpgrade(protocols), timeout,
       [&executor, port, done = std::move(done)](Result<Upgraded> upgraded) {
         if (!upgraded.ok()) return done(std::move(upgraded).error());
         OpenWebSocketPort(executor, std::move(*upgraded), port, done);
       });
}

}  // namespace skiff::streaming

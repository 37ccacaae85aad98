#include "base/streaming/exec_session.h"

#include <array>
#include <map>

#include "base/streaming/exec_channels.h"
#include "base/streaming/spdy_connection.h"
#include "base/streaming/websocket_channels.h"

namespace skiff::streaming {

namespace {

constexpr std::chrono::seconds kStreamCreationTimeout{30};
constexpr size_t kMaxResizeBytes = 1024;

std::optional<Channel> ChannelNamed(std::string_view name) {
  for (uint32_t i = 0; i < kChannels; ++i) {
    if (ChannelName(static_cast<Channel>(i)) == name) return static_cast<Channel>(i);
  }
  return std::nullopt;
}

// What the session and the connection's callbacks share; confined to the connection's strand.
struct ExecCore : std::enable_shared_from_this<ExecCore> {
  ExecCore(std::shared_ptr<Mux> m, int v) : mux(std::move(m)), version(v) {}

  const std::shared_ptr<Mux> mux;
  const int version;
  std::map<Channel, uint32_t> ids;  // of the channels that exist
  std::function<void(TerminalSize)> on_resize;
  std::optional<TerminalSize> latest_size;
  Closure on_gone;
  bool gone = false;
  bool finished = false;
  std::string resize_text;

  void Gone() {
    gone = true;
    on_resize = nullptr;
    if (Closure handler = std::exchange(on_gone, nullptr)) handler();
  }

  void ReadResizes(std::shared_ptr<Stream> stream) {
    Stream* source = stream.get();
    source->Read([self = shared_from_this(), stream](Result<std::string> text) {
      if (!text.ok() || text->empty()) return;
      self->TakeResizeText(*text);
      self->ReadResizes(stream);
    });
  }

  // JSON objects one after the other, however they were cut.
  void TakeResizeText(std::string_view text) {
    for (char c : text) {
      resize_text += c;
      if (c == '}') {
        Result<TerminalSize> size = ParseTerminalSize(resize_text);
        resize_text.clear();
        if (!size.ok()) continue;
        latest_size = *size;
        if (on_resize) on_resize(*size);
      } else if (resize_text.size() > kMaxResizeBytes) {
        resize_text.clear();
      }
    }
  }

  void Finish(const ExecStatus& status) {
    // The handlers may hold the session, which holds this.
    on_gone = nullptr;
    on_resize = nullptr;
    if (std::exchange(finished, true) || mux->gone()) return;
    // Versions before 4 send the message as it is, and nothing for success.
    std::string text = version >= 4 ? status.ToJson() : status.success ? "" : status.message;
    // A stream closed here is not reset when its handle is dropped.
    for (auto [channel, id] : ids) {
      if (channel != kError) mux->CloseWrite(id);
    }
    if (!text.empty()) mux->StartWrite(ids.at(kError), std::move(text), nullptr);
    mux->CloseWrite(ids.at(kError));
    mux->Finish();
  }
};

class MuxExecSession : public ExecSession {
 public:
  // On the strand, with all channels known.
  MuxExecSession(std::shared_ptr<ExecCore> core, const ExecStreams& streams)
      : core_(std::move(core)) {
    for (auto [channel, id] : core_->ids) handles_[channel] = core_->mux->Attach(id);
    if (!streams.in) Drop(kIn);
    if (!streams.out) Drop(kOut);
    if (!streams.err || streams.tty) Drop(kErr);
    for (Channel channel : {kOut, kErr, kError}) {
      if (auto found = core_->ids.find(channel); found != core_->ids.end()) {
        core_->mux->Discard(found->second);
      }
    }
    if (std::shared_ptr<Stream> resize = Handle(kResize)) core_->ReadResizes(resize);
  }

  ~MuxExecSession() override {
    core_->mux->Post([core = core_] {
      if (!core->finished) core->mux->Abort();
    });
  }

  std::shared_ptr<Stream> in() override { return Asked(kIn); }
  std::shared_ptr<Stream> out() override { return Asked(kOut); }
  std::shared_ptr<Stream> err() override { return Asked(kErr); }

  void OnResize(std::function<void(TerminalSize)> handler) override {
    core_->mux->Post([core = core_, handler = std::move(handler)]() mutable {
      if (core->finished || core->gone) return;
      core->on_resize = std::move(handler);
      if (core->latest_size) core->on_resize(*core->latest_size);
    });
  }

  void OnGone(std::function<void()> handler) override {
    core_->mux->Post([core = core_, handler = std::move(handler)]() mutable {
      if (core->finished) return;
      core->on_gone = std::move(handler);
      if (core->gone) core->Gone();
    });
  }

  void Finish(const ExecStatus& status) override {
    core_->mux->Post([core = core_, status] { core->Finish(status); });
  }

 private:
  std::shared_ptr<Stream> Handle(Channel channel) {
    auto found = handles_.find(channel);
    return found == handles_.end() ? nullptr : found->second;
  }
  std::shared_ptr<Stream> Asked(Channel channel) {
    return unasked_[channel] ? nullptr : Handle(channel);
  }
  // The client has the stream all the same: its input goes nowhere.
  void Drop(Channel channel) {
    unasked_[channel] = true;
    if (auto found = core_->ids.find(channel); found != core_->ids.end()) {
      core_->mux->Discard(found->second);
    }
  }

  std::shared_ptr<ExecCore> core_;
  std::map<Channel, std::shared_ptr<Stream>> handles_;
  std::array<bool, kChannels> unasked_{};
};

using Done = std::function<void(Result<std::shared_ptr<ExecSession>>)>;

// A SPDY client makes its streams one by one after the upgrade.
struct SpdySetup : std::enable_shared_from_this<SpdySetup> {
  std::shared_ptr<SpdyConnection> connection;
  std::shared_ptr<ExecCore> core;
  ExecStreams streams;
  Executor* executor = nullptr;
  Executor::TimerId timer = 0;
  Done done;

  bool Complete() const {
    auto has = [this](Channel channel) { return core->ids.count(channel) != 0; };
    return has(kError) && (!streams.in || has(kIn)) && (!streams.out || has(kOut)) &&
           (!streams.err || streams.tty || has(kErr)) &&
           (!streams.tty || core->version < 3 || has(kResize));
  }

  bool TakeStream(uint32_t id, const SpdyHeaders& headers) {
    std::optional<Channel> channel;
    for (const auto& [name, value] : headers) {
      if (name == "streamtype") channel = ChannelNamed(value);
    }
    if (!channel || !core->ids.emplace(*channel, id).second) return false;
    if (done && Complete()) {
      executor->Cancel(timer);
      connection->set_on_gone([core = core] { core->Gone(); });
      std::exchange(done, nullptr)(
          std::shared_ptr<ExecSession>(std::make_shared<MuxExecSession>(core, streams)));
    }
    return true;
  }

  void GiveUp(Error error) {
    if (!done) return;
    executor->Cancel(timer);
    connection->Abort();
    std::exchange(done, nullptr)(std::move(error));
  }
};

void ServeSpdy(Executor& executor, std::shared_ptr<Stream> stream, int version,
               const ExecStreams& streams, Done done) {
  auto setup = std::make_shared<SpdySetup>();
  setup->connection = std::make_shared<SpdyConnection>(executor, std::move(stream));
  setup->core = std::make_shared<ExecCore>(setup->connection, version);
  setup->streams = streams;
  setup->executor = &executor;
  setup->done = std::move(done);
  // The connection's handlers hold the setup until the connection ends or the session replaces
  // them; the setup holds the connection.
  setup->connection->set_on_stream(
      [setup](uint32_t id, const SpdyHeaders& headers) { return setup->TakeStream(id, headers); });
  setup->connection->set_on_gone([setup] {
    setup->GiveUp(Error(Code::kUnavailable, "the client left before it opened its streams"));
  });
  setup->timer = executor.PostAfter(kStreamCreationTimeout, [setup] {
    setup->connection->Post([setup] {
      setup->GiveUp(
          Error(Code::kDeadlineExceeded, "timed out waiting for client to create streams"));
    });
  });
  setup->connection->Start();
}

void ServeWebSocket(Executor& executor, std::shared_ptr<Stream> stream, const Upgrade& upgrade,
                    const ExecStreams& streams, Done done) {
  auto mux = std::make_shared<WebSocketChannels>(
      executor, std::move(stream),
      WebSocketChannels::Options{
          .base64 = upgrade.base64, .half_close = upgrade.version >= 5, .announce_ends = false});
  auto core = std::make_shared<ExecCore>(mux, upgrade.version);
  for (uint32_t id = 0; id < kChannels; ++id) {
    mux->Open(id);
    core->ids[static_cast<Channel>(id)] = id;
  }
  mux->set_on_gone([core] { core->Gone(); });
  mux->Post([mux, core, streams, done = std::move(done)] {
    // An empty message on the first channel we write tells the client that it is connected.
    Channel first = streams.out ? kOut : streams.err ? kErr : kError;
    mux->StartWrite(first, {}, nullptr);
    done(std::shared_ptr<ExecSession>(std::make_shared<MuxExecSession>(core, streams)));
  });
  mux->Start();
}

}  // namespace

void ServeExec(Executor& executor, std::shared_ptr<Stream> connection, const Upgrade& upgrade,
               const ExecStreams& streams, Done done) {
  if (upgrade.transport == Transport::kWebSocket) {
    return ServeWebSocket(executor, std::move(connection), upgrade, streams, std::move(done));
  }
  if (upgrade.transport == Transport::kSpdyOverWebSocket) {
    connection = MakeWebSocketByteStream(executor, std::move(connection), WebSocketRole::kServer);
  }
  ServeSpdy(executor, std::move(connection), upgrade.version, streams, std::move(done));
}

}  // namespace skiff::streaming

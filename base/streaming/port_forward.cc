#include "base/streaming/port_forward.h"

#include <charconv>
#include <map>

#include "base/streaming/spdy_connection.h"
#include "base/streaming/websocket_channels.h"

namespace skiff::streaming {

namespace {

// A WebSocket client names at most so many ports; each takes two of the 256 channels.
constexpr size_t kMaxWebSocketPorts = 128;
// A data stream waits so long for its error stream, or the other way round.
constexpr std::chrono::seconds kPairTimeout{30};

std::optional<uint16_t> ParsePort(std::string_view text) {
  uint16_t port = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  if (error != std::errc() || end != text.data() + text.size() || port == 0) return std::nullopt;
  return port;
}

// Both transports: connections wait until Start. Confined to the connection's strand.
struct ForwardCore {
  explicit ForwardCore(std::shared_ptr<Mux> m) : mux(std::move(m)) {}
  const std::shared_ptr<Mux> mux;
  std::function<void(PortConnection)> on_connection;
  Closure on_gone;
  std::vector<PortConnection> early;
  bool gone = false;

  void Take(PortConnection connection) {
    if (on_connection) return on_connection(std::move(connection));
    early.push_back(std::move(connection));
  }
  void Gone() {
    gone = true;
    early.clear();
    on_connection = nullptr;
    if (Closure handler = std::exchange(on_gone, nullptr)) handler();
  }
};

class MuxPortForward : public PortForwardSession {
 public:
  explicit MuxPortForward(std::shared_ptr<ForwardCore> core) : core_(std::move(core)) {}
  ~MuxPortForward() override { Close(); }

  void Start(std::function<void(PortConnection)> on_connection,
             std::function<void()> on_gone) override {
    core_->mux->Post([core = core_, on_connection = std::move(on_connection),
                      on_gone = std::move(on_gone)]() mutable {
      core->on_gone = std::move(on_gone);
      if (core->gone) return core->Gone();
      core->on_connection = std::move(on_connection);
      for (PortConnection& connection : std::exchange(core->early, {})) {
        core->on_connection(std::move(connection));
      }
    });
  }

  void Close() override {
    core_->mux->Post([core = core_] {
      core->on_connection = nullptr;
      core->on_gone = nullptr;
      core->early.clear();
      core->mux->Abort();
    });
  }

 private:
  std::shared_ptr<ForwardCore> core_;
};

// Pairs the streams of a SPDY client: a data and an error stream with the same request id are one
// connection.
class StreamPairs : public std::enable_shared_from_this<StreamPairs> {
 public:
  StreamPairs(std::shared_ptr<ForwardCore> core, Executor& executor)
      : core_(std::move(core)), executor_(executor) {}

  bool Take(uint32_t id, const SpdyHeaders& headers) {
    std::string type, request;
    std::optional<uint16_t> port;
    for (const auto& [name, value] : headers) {
      if (name == "streamtype") type = value;
      if (name == "port") port = ParsePort(value);
      if (name == "requestid") request = value;
    }
    bool is_data = type == "data";
    if (!port || (!is_data && type != "error")) return false;
    // Clients without request ids make the error stream right before its data stream.
    if (request.empty()) request = std::to_string(is_data ? id - 2 : id);
    auto [entry, fresh] = waiting_.try_emplace(request, PortConnection{.port = *port});
    PortConnection& connection = entry->second;
    std::shared_ptr<Stream>& slot = is_data ? connection.data : connection.error;
    if (slot) return false;
    slot = core_->mux->Attach(id);
    if (!is_data) core_->mux->Discard(id);
    if (connection.data && connection.error) {
      PortConnection whole = std::move(connection);
      waiting_.erase(entry);
      core_->Take(std::move(whole));
    } else if (fresh) {
      Expire(request);
    }
    return true;
  }

  void Clear() { waiting_.clear(); }

 private:
  void Expire(const std::string& request) {
    executor_.PostAfter(kPairTimeout, [weak = weak_from_this(), request] {
      auto self = weak.lock();
      if (self == nullptr) return;
      self->core_->mux->Post([self, request] { self->waiting_.erase(request); });
    });
  }

  std::shared_ptr<ForwardCore> core_;
  Executor& executor_;
  std::map<std::string, PortConnection> waiting_;
};

std::shared_ptr<PortForwardSession> ServeSpdy(Executor& executor, std::shared_ptr<Stream> stream) {
  auto connection = std::make_shared<SpdyConnection>(executor, std::move(stream));
  auto core = std::make_shared<ForwardCore>(connection);
  auto pairs = std::make_shared<StreamPairs>(core, executor);
  connection->set_on_stream(
      [pairs](uint32_t id, const SpdyHeaders& headers) { return pairs->Take(id, headers); });
  connection->set_on_gone([core, pairs] {
    pairs->Clear();
    core->Gone();
  });
  connection->Start();
  return std::make_shared<MuxPortForward>(core);
}

// Port i has its data on channel 2i and its error text on 2i+1; each begins with the port, low byte
// first.
std::shared_ptr<PortForwardSession> ServeWebSocket(Executor& executor,
                                                   std::shared_ptr<Stream> stream,
                                                   const Upgrade& upgrade,
                                                   const std::vector<uint16_t>& ports) {
  auto mux = std::make_shared<WebSocketChannels>(
      executor, std::move(stream),
      WebSocketChannels::Options{.base64 = upgrade.base64,
                                 .half_close = upgrade.version >= 5,
                                 .finish_after = ports.size() * 2});
  auto core = std::make_shared<ForwardCore>(mux);
  mux->set_on_gone([core] { core->Gone(); });
  for (uint32_t id = 0; id < ports.size() * 2; ++id) mux->Open(id);
  mux->Post([mux, core, ports] {
    uint32_t id = 0;
    for (uint16_t port : ports) {
      PortConnection connection{port, mux->Attach(id), mux->Attach(id + 1)};
      mux->Discard(id + 1);
      std::string prefix{static_cast<char>(port & 0xff), static_cast<char>(port >> 8)};
      mux->StartWrite(id, prefix, nullptr);
      mux->StartWrite(id + 1, prefix, nullptr);
      core->Take(std::move(connection));
      id += 2;
    }
  });
  mux->Start();
  return std::make_shared<MuxPortForward>(core);
}

}  // namespace

Result<std::shared_ptr<PortForwardSession>> ServePortForward(Executor& executor,
                                                             std::shared_ptr<Stream> connection,
                                                             const Upgrade& upgrade,
                                                             const std::vector<uint16_t>& ports) {
  if (upgrade.transport == Transport::kSpdy) return ServeSpdy(executor, std::move(connection));
  if (upgrade.transport == Transport::kSpdyOverWebSocket) {
    return ServeSpdy(
        executor, MakeWebSocketByteStream(executor, std::move(connection), WebSocketRole::kServer));
  }
  if (ports.empty() || ports.size() > kMaxWebSocketPorts) {
    return Error(Code::kInvalidArgument, "1 to 128 \"port\" query parameters are required");
  }
  return ServeWebSocket(executor, std::move(connection), upgrade, ports);
}

}  // namespace skiff::streaming

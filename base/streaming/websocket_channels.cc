#include "base/streaming/websocket_channels.h"

#include "base/base64.h"

namespace skiff::streaming {

WebSocketChannels::WebSocketChannels(Executor& executor, std::shared_ptr<Stream> connection,
                                     Options options)
    : Mux(executor, std::move(connection)), options_(options), parser_(options.role, *this) {}

void WebSocketChannels::OnMessage(std::string_view piece, bool first, bool last) {
  if (first) {
    have_channel_ = false;
    base64_rest_.clear();
  }
  if (!have_channel_) {
    if (piece.empty()) return;
    have_channel_ = true;
    channel_ = static_cast<uint8_t>(piece.front());
    if (options_.base64) channel_ = static_cast<uint8_t>(channel_ - '0');
    piece.remove_prefix(1);
  }
  if (options_.half_close && channel_ == kCloseChannel) {
    for (char channel : piece) DeliverEnd(static_cast<uint8_t>(channel));
    return;
  }
  if (options_.base64) return TakeBase64(piece, last);
  Deliver(channel_, piece);
}

void WebSocketChannels::TakeBase64(std::string_view piece, bool last) {
  base64_rest_ += piece;
  size_t whole = last ? base64_rest_.size() : base64_rest_.size() / 4 * 4;
  Result<std::string> bytes = Base64Decode(std::string_view(base64_rest_).substr(0, whole));
  base64_rest_.erase(0, whole);
  // As upstream: what does not decode is dropped.
  if (bytes.ok()) Deliver(channel_, *bytes);
}

void WebSocketChannels::OnPing(std::string_view payload) {
  SendAnswer(WebSocketPong(options_.role, payload));
}

void WebSocketChannels::OnClose() {
  peer_closed_ = true;
  if (!std::exchange(sent_close_, true)) {
    SendBytes(WebSocketClose(options_.role, kWebSocketNormalClosure, {}), nullptr);
  }
  // A server closes when all is said; a client that closes has left.
  if (options_.role == WebSocketRole::kClient) DeliverEndToAll();
  Fail(Error(Code::kUnavailable, "the peer closed"));
}

void WebSocketChannels::CountDone(uint32_t id) {
  if (options_.finish_after == 0) return;
  done_.insert(id);
  if (done_.size() == options_.finish_after) Finish();
}

std::string WebSocketChannels::EncodeData(uint32_t id, std::string_view data) {
  std::string payload;
  if (options_.base64) {
    payload += static_cast<char>('0' + id);
    payload += Base64Encode(data);
  } else {
    payload.reserve(data.size() + 1);
    payload += static_cast<char>(id);
    payload += data;
  }
  return WebSocketMessage(options_.role, options_.base64, payload);
}

std::string WebSocketChannels::EncodeEnd(uint32_t id) {
  if (!options_.half_close || !options_.announce_ends) return {};
  const char message[] = {static_cast<char>(kCloseChannel), static_cast<char>(id)};
  return WebSocketMessage(options_.role, false, {message, sizeof message});
}

std::string WebSocketChannels::EncodeGoodbye() {
  if (std::exchange(sent_close_, true)) return {};
  return WebSocketClose(options_.role, kWebSocketNormalClosure, {});
}

std::string WebSocketChannels::EncodeProtocolError(const Error& error) {
  sent_close_ = true;
  return WebSocketClose(options_.role, kWebSocketProtocolError, error.message());
}

namespace {

// A Mux of one channel whose data has no channel byte.
class WebSocketBytes : public Mux, private WebSocketSink {
 public:
  static constexpr uint32_t kOnly = 0;
  WebSocketBytes(Executor& executor, std::shared_ptr<Stream> connection, WebSocketRole role)
      : Mux(executor, std::move(connection)), role_(role), parser_(role, *this) {
    Open(kOnly);
  }

 private:
  Result<> OnBytes(std::string_view bytes) override { return parser_.Feed(bytes); }
  std::string EncodeData(uint32_t, std::string_view data) override {
    return WebSocketMessage(role_, false, data);
  }
  std::string EncodeEnd(uint32_t) override { return EncodeGoodbye(); }
  std::string EncodeReset(uint32_t) override { return EncodeGoodbye(); }
  std::string EncodeGoodbye() override {
    if (std::exchange(sent_close_, true)) return {};
    return WebSocketClose(role_, kWebSocketNormalClosure, {});
  }
  std::string EncodeProtocolError(const Error& error) override {
    sent_close_ = true;
    return WebSocketClose(role_, kWebSocketProtocolError, error.message());
  }
  void OnForgotten(uint32_t) override { Abort(); }
  void OnReleased(uint32_t) override { Finish(); }

  void OnMessage(std::string_view piece, bool, bool) override { Deliver(kOnly, piece); }
  void OnPing(std::string_view payload) override { SendAnswer(WebSocketPong(role_, payload)); }
  void OnClose() override {
    peer_closed_ = true;
    DeliverEnd(kOnly);
  }
  bool PeerSaidGoodbye() const override { return peer_closed_; }

  const WebSocketRole role_;
  WebSocketParser parser_;
  bool sent_close_ = false;
  bool peer_closed_ = false;
};

}  // namespace

std::shared_ptr<Stream> MakeWebSocketByteStream(Executor& executor,
                                                std::shared_ptr<Stream> connection,
                                                WebSocketRole role) {
  auto bytes = std::make_shared<WebSocketBytes>(executor, std::move(connection), role);
  bytes->Start();
  return bytes->Attach(WebSocketBytes::kOnly);
}

}  // namespace skiff::streaming

// Channels of a WebSocket connection: the first byte of each message is the channel's number, as
// the Kubernetes *.channel.k8s.io subprotocols have it. Private to base/streaming.
#pragma once

#include <functional>
#include <memory>
#include <set>
#include <string>

#include "base/streaming/mux.h"
#include "base/streaming/websocket_frames.h"

namespace skiff::streaming {

class WebSocketChannels : public Mux, private WebSocketSink {
 public:
  struct Options {
    WebSocketRole role = WebSocketRole::kServer;
    bool base64 = false;      // ASCII digit and base64 text instead of bytes
    bool half_close = false;  // v5: the message {255, channel} ends a channel
    // Exec and attach: only clients say so; kubectl takes the message from a server for an error.
    bool announce_ends = true;
    // The connection ends once so many channels are done with on our side; 0: when told.
    size_t finish_after = 0;
  };
  WebSocketChannels(Executor& executor, std::shared_ptr<Stream> connection, Options options);

 private:
  static constexpr uint8_t kCloseChannel = 255;

  Result<> OnBytes(std::string_view bytes) override { return parser_.Feed(bytes); }
  std::string EncodeData(uint32_t id, std::string_view data) override;
  std::string EncodeEnd(uint32_t id) override;
  std::string EncodeReset(uint32_t) override { return {}; }
  std::string EncodeGoodbye() override;
  std::string EncodeProtocolError(const Error& error) override;
  bool PeerSaidGoodbye() const override { return peer_closed_; }
  void OnForgotten(uint32_t id) override { CountDone(id); }
  void OnReleased(uint32_t id) override { CountDone(id); }

  void OnMessage(std::string_view piece, bool first, bool last) override;
  void OnPing(std::string_view payload) override;
  void OnClose() override;
  void CountDone(uint32_t id);
  void TakeBase64(std::string_view piece, bool last);

  const Options options_;
  WebSocketParser parser_;
  bool have_channel_ = false;  // of the message under way
  uint8_t channel_ = 0;
  std::string base64_rest_;  // fewer than four characters of a group
  std::set<uint32_t> done_;
  bool peer_closed_ = false;
  bool sent_close_ = false;
};

// The payload of binary messages as one stream of bytes, for SPDY tunneled over WebSocket. Reading
// answers pings and ends at the peer's close; CloseWrite sends ours.
std::shared_ptr<Stream> MakeWebSocketByteStream(Executor& executor,
                                                std::shared_ptr<Stream> connection,
                                                WebSocketRole role);

}  // namespace skiff::streaming

// WebSocket frames and the key exchange of the handshake (RFC 6455). Values and bytes, no I/O.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace skiff::streaming {

enum class WebSocketRole { kServer, kClient };

// Status codes of close frames (section 7.4.1).
inline constexpr uint16_t kWebSocketNormalClosure = 1000;
inline constexpr uint16_t kWebSocketProtocolError = 1002;

class WebSocketSink {
 public:
  virtual ~WebSocketSink() = default;
  // A piece of a text or binary message; first and last mark its ends. May be empty.
  virtual void OnMessage(std::string_view piece, bool first, bool last) = 0;
  virtual void OnPing(std::string_view payload) = 0;
  // The peer will send nothing more.
  virtual void OnClose() = 0;
};

// Reads what the peer of our role sends. Messages of any size pass through in pieces and are never
// held. After an error it must not be fed again; what follows a close frame is ignored.
class WebSocketParser {
 public:
  WebSocketParser(WebSocketRole role, WebSocketSink& sink) : role_(role), sink_(sink) {}
  Result<> Feed(std::string_view bytes);

 private:
  size_t HeaderSize() const;
  Result<> TakeHeader();
  Result<> TakePayload(std::string_view& bytes);

  const WebSocketRole role_;
  WebSocketSink& sink_;
  std::string header_;  // until it is whole
  std::string control_;
  std::string scratch_;
  uint8_t opcode_ = 0;
  bool fin_ = false;
  bool in_payload_ = false;
  bool in_message_ = false;     // a fragmented message is under way
  bool message_begun_ = false;  // its first piece has been handed on
  bool closed_ = false;
  uint64_t left_ = 0;
  uint64_t offset_ = 0;  // of the payload, for the mask
  uint8_t mask_[4] = {};
};

// One whole message or control frame as our role sends it (clients mask, section 5.3).
std::string WebSocketMessage(WebSocketRole role, bool text, std::string_view payload);
std::string WebSocketPong(WebSocketRole role, std::string_view payload);
std::string WebSocketClose(WebSocketRole role, uint16_t status, std::string_view reason);

// Sec-WebSocket-Accept for a Sec-WebSocket-Key.
std::string WebSocketAccept(std::string_view key);
// A fresh key: 16 random bytes in base64.
std::string MakeWebSocketKey();
// Whether the text is base64 of exactly 16 bytes.
bool IsWebSocketKey(std::string_view key);

}  // namespace skiff::streaming

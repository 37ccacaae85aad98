#include "base/streaming/websocket_frames.h"

#include <openssl/evp.h>
#include <openssl/sha.h>

#include <algorithm>

#include "base/base64.h"
#include "base/random.h"

namespace skiff::streaming {

namespace {

enum Opcode : uint8_t {
  kOpContinuation = 0,
  kOpText = 1,
  kOpBinary = 2,
  kOpClose = 8,
  kOpPing = 9,
  kOpPong = 10,
};
constexpr size_t kMaxControlBytes = 125;

Error BadFrame(const char* what) {
  return Error(Code::kInvalidArgument, std::string("WebSocket: ") + what);
}

uint8_t Byte(std::string_view bytes, size_t at) { return static_cast<uint8_t>(bytes[at]); }

std::string Frame(WebSocketRole role, uint8_t opcode, std::string_view payload) {
  std::string frame;
  frame.reserve(payload.size() + 14);
  frame += static_cast<char>(0x80 | opcode);
  uint8_t mask_bit = role == WebSocketRole::kClient ? 0x80 : 0;
  if (payload.size() < 126) {
    frame += static_cast<char>(mask_bit | payload.size());
  } else {
    int length_bytes = payload.size() < 65536 ? 2 : 8;
    frame += static_cast<char>(mask_bit | (length_bytes == 2 ? 126 : 127));
    for (int i = length_bytes - 1; i >= 0; --i) {
      frame += static_cast<char>(payload.size() >> (8 * i) & 0xff);
    }
  }
  if (mask_bit == 0) return frame.append(payload);
  std::string mask = RandomBytes(4);
  frame += mask;
  size_t start = frame.size();
  frame += payload;
  for (size_t i = 0; i < payload.size(); ++i) frame[start + i] ^= mask[i % 4];
  return frame;
}

}  // namespace

// ---- reading ----

size_t WebSocketParser::HeaderSize() const {
  if (header_.size() < 2) return 2;
  uint8_t length = Byte(header_, 1) & 0x7f;
  return 2 + (length == 126 ? 2 : length == 127 ? 8 : 0) + ((Byte(header_, 1) & 0x80) ? 4 : 0);
}

Result<> WebSocketParser::Feed(std::string_view bytes) {
  while (!bytes.empty() && !closed_) {
    if (in_payload_) {
      TRY(TakePayload(bytes));
      continue;
    }
    size_t taken = std::min(HeaderSize() - header_.size(), bytes.size());
    header_ += bytes.substr(0, taken);
    bytes.remove_prefix(taken);
    if (header_.size() < HeaderSize()) continue;
    TRY(TakeHeader());
    header_.clear();
    if (left_ == 0) TRY(TakePayload(bytes));
  }
  return {};
}

Result<> WebSocketParser::TakeHeader() {
  uint8_t first = Byte(header_, 0);
  bool masked = (Byte(header_, 1) & 0x80) != 0;
  fin_ = (first & 0x80) != 0;
  opcode_ = first & 0x0f;
  if ((first & 0x70) != 0) return BadFrame("reserved bits are set");
  if (masked != (role_ == WebSocketRole::kServer)) {
    return BadFrame(masked ? "a server's frame is masked" : "a client's frame is not masked");
  }
  size_t at = 2;
  left_ = Byte(header_, 1) & 0x7f;
  if (size_t size = left_ == 126 ? 2 : left_ == 127 ? 8 : 0; size > 0) {
    left_ = 0;
    for (; at < 2 + size; ++at) left_ = left_ << 8 | Byte(header_, at);
    if (left_ >> 63 != 0) return BadFrame("length out of range");
  }
  for (size_t i = 0; masked && i < 4; ++i) mask_[i] = Byte(header_, at + i);
  offset_ = 0;
  control_.clear();
  switch (opcode_) {
    case kOpContinuation:
      if (!in_message_) return BadFrame("continuation of nothing");
      break;
    case kOpText:
    case kOpBinary:
      if (in_message_) return BadFrame("a message inside another");
      in_message_ = true;
      message_begun_ = false;
      break;
    case kOpClose:
    case kOpPing:
    case kOpPong:
      if (!fin_ || left_ > kMaxControlBytes) return BadFrame("control frame is cut or too long");
      break;
    default: return BadFrame("unknown opcode");
  }
  in_payload_ = true;
  return {};
}

// Also called with nothing left, to end an empty frame.
Result<> WebSocketParser::TakePayload(std::string_view& bytes) {
  size_t taken = static_cast<size_t>(std::min<uint64_t>(left_, bytes.size()));
  std::string_view piece = bytes.substr(0, taken);
  bytes.remove_prefix(taken);
  if (role_ == WebSocketRole::kServer) {
    scratch_.assign(piece);
    for (char& c : scratch_) c = static_cast<char>(c ^ static_cast<char>(mask_[offset_++ % 4]));
    piece = scratch_;
  }
  left_ -= taken;
  bool frame_ends = left_ == 0;
  if (frame_ends) in_payload_ = false;
  if (opcode_ >= kOpClose) {
    control_ += piece;
    if (!frame_ends) return {};
    if (opcode_ == kOpPing) sink_.OnPing(control_);
    if (opcode_ == kOpClose) {
      closed_ = true;
      sink_.OnClose();
    }
    return {};
  }
  bool first = !std::exchange(message_begun_, true);
  bool last = frame_ends && fin_;
  if (last) in_message_ = false;
  sink_.OnMessage(piece, first, last);
  return {};
}

// ---- writing ----

std::string WebSocketMessage(WebSocketRole role, bool text, std::string_view payload) {
  return Frame(role, text ? kOpText : kOpBinary, payload);
}

std::string WebSocketPong(WebSocketRole role, std::string_view payload) {
  return Frame(role, kOpPong, payload);
}

std::string WebSocketClose(WebSocketRole role, uint16_t status, std::string_view reason) {
  std::string payload;
  payload += static_cast<char>(status >> 8);
  payload += static_cast<char>(status & 0xff);
  payload += reason.substr(0, kMaxControlBytes - 2);
  return Frame(role, kOpClose, payload);
}

// ---- handshake ----

std::string WebSocketAccept(std::string_view key) {
  std::string text(key);
  text += "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";  // RFC 6455, section 1.3
  unsigned char digest[SHA_DIGEST_LENGTH];
  unsigned int size = sizeof digest;
  CHECK(EVP_Digest(text.data(), text.size(), digest, &size, EVP_sha1(), nullptr) == 1);
  return Base64Encode({reinterpret_cast<char*>(digest), size});
}

std::string MakeWebSocketKey() { return Base64Encode(RandomBytes(16)); }

bool IsWebSocketKey(std::string_view key) {
  Result<std::string> bytes = Base64Decode(key);
  return bytes.ok() && bytes->size() == 16;
}

}  // namespace skiff::streaming

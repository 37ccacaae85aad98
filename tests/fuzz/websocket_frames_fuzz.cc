// WebSocket frames from a peer: any bytes, cut anywhere, end in messages or in an error.
#include <cstddef>
#include <cstdint>

#include "base/streaming/websocket_frames.h"

namespace {

class Sink : public skiff::streaming::WebSocketSink {
 public:
  void OnMessage(std::string_view piece, bool first, bool last) override {
    CHECK(first == !in_message);
    in_message = !last;
    bytes += piece.size();
  }
  void OnPing(std::string_view payload) override { CHECK(payload.size() <= 125); }
  void OnClose() override {}
  bool in_message = false;
  size_t bytes = 0;
};

}  // namespace

// The first byte says how the rest is cut, and which side reads it.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using skiff::streaming::WebSocketRole;
  if (size == 0) return 0;
  size_t cut = data[0] / 2 + 1u;
  auto role = data[0] % 2 == 0 ? WebSocketRole::kServer : WebSocketRole::kClient;
  std::string_view input(reinterpret_cast<const char*>(data) + 1, size - 1);
  Sink sink;
  skiff::streaming::WebSocketParser parser(role, sink);
  for (size_t at = 0; at < input.size(); at += cut) {
    if (!parser.Feed(input.substr(at, cut)).ok()) break;
  }
  CHECK(sink.bytes <= input.size());
  return 0;
}

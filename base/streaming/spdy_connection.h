// Either end of a SPDY/3.1 connection: the client makes the streams. Private to base/streaming.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "base/streaming/mux.h"
#include "base/streaming/spdy_frames.h"

namespace skiff::streaming {

// moby/spdystream, which Kubernetes' clients and CRI runtimes use, neither sends nor obeys
// WINDOW_UPDATE, so towards a peer that has never sent one we rely on the transport's flow control
// alone. To the others, and to all clients, we keep the rules.
class SpdyConnection : public Mux, private SpdySink {
 public:
  using Mux::Mux;

  // Called on the strand for each stream the client makes, which is answered (Accept) or refused
  // with RST_STREAM by the return value.
  using StreamHandler = std::function<bool(uint32_t id, const SpdyHeaders& headers)>;
  void set_on_stream(StreamHandler handler) { on_stream_ = std::move(handler); }

  // As the client: tells the server of a stream that Open has made known. On the strand; ids are
  // odd and grow. The connection ends when we are done with all of them: servers wait for that.
  void Announce(uint32_t id, const SpdyHeaders& headers);

 private:
  struct Window {
    int64_t send_bytes = kSpdyInitialWindowBytes;
    size_t consumed_bytes = 0;  // not yet told to the peer
    std::deque<std::pair<std::string, Stream::WriteDone>> waiting;
    bool end_waiting = false;
  };

  Result<> OnBytes(std::string_view bytes) override { return parser_.Feed(bytes); }
  std::string EncodeData(uint32_t id, std::string_view data) override;
  std::string EncodeEnd(uint32_t id) override;
  std::string EncodeReset(uint32_t id) override;
  // A GOAWAY would make spdystream drop frames that it has queued and not handed on.
  std::string EncodeGoodbye() override { return {}; }
  std::string EncodeProtocolError(const Error& error) override;
  void SendData(uint32_t id, std::string data, Stream::WriteDone done) override;
  void SendEnd(uint32_t id) override;
  void OnConsumed(uint32_t id, size_t bytes) override;
  void OnForgotten(uint32_t id) override;
  void OnAllDone() override;
  void OnEnded() override;

  Result<> OnSynStream(uint32_t id, SpdyHeaders headers, bool fin) override;
  Result<> OnSynReply(uint32_t id, SpdyHeaders headers, bool fin) override;
  void OnData(uint32_t id, std::string_view data, bool fin) override;
  void OnReset(uint32_t id) override;
  void OnPing(uint32_t id) override;
  void OnGoAway() override {}
  void OnWindowUpdate(uint32_t id, uint32_t delta) override;
  void OnInitialWindow(uint32_t bytes) override;

  void SendWaiting(uint32_t id);
  void TellConsumed(uint32_t id, size_t& consumed_bytes);

  SpdyParser parser_{*this};
  SpdyWriter writer_;
  StreamHandler on_stream_;
  std::map<uint32_t, Window> windows_;
  bool is_client_ = false;
  uint32_t last_id_ = 0;
  bool peer_controls_flow_ = false;
  int64_t initial_window_bytes_ = kSpdyInitialWindowBytes;
  int64_t session_send_bytes_ = kSpdyInitialWindowBytes;
  size_t session_consumed_bytes_ = 0;
};

}  // namespace skiff::streaming

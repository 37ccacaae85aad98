// Mux: numbered streams on one connection, what SPDY connections and WebSocket channels have in
// common. Private to base/streaming.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "base/async/executor.h"
#include "base/streaming/stream.h"

namespace skiff::streaming {

// Bytes received and not yet read by our side: past either, the connection is not read any further.
inline constexpr size_t kMaxStreamBacklogBytes = 256 << 10;
inline constexpr size_t kMaxConnectionBacklogBytes = 4 << 20;
// Bytes to send: a peer that asks for answers (pings, resets) and reads none is cut off here.
inline constexpr size_t kMaxUnsentAnswerBytes = 8 << 20;
inline constexpr size_t kMaxStreams = 1024;
// How long a silent peer may take to close after we have sent all.
inline constexpr std::chrono::seconds kLingerTime{60};

// All state is confined to the strand; what may be called from elsewhere says so.
class Mux : public std::enable_shared_from_this<Mux> {
 public:
  Mux(Executor& executor, std::shared_ptr<Stream> connection);
  virtual ~Mux() = default;

  // Any thread.
  void Post(Closure work) { strand_.Post(std::move(work)); }
  // Any thread, once, after the handlers are set.
  void Start();
  // Any thread: ends the connection now.
  void Abort();

  // Called once when the connection ends other than by Finish.
  void set_on_gone(Closure handler) { on_gone_ = std::move(handler); }

  // A handle for a stream that Open has made known.
  std::shared_ptr<Stream> Attach(uint32_t id);
  // False when there are too many.
  bool Open(uint32_t id);
  // Input of the stream is dropped from now on.
  void Discard(uint32_t id);
  // Sends the goodbye, waits for the peer to close, then ends.
  void Finish();
  bool gone() const { return gone_; }

  // For the handles.
  void StartRead(uint32_t id, Stream::ReadDone done);
  void StartWrite(uint32_t id, std::string data, Stream::WriteDone done);
  void CloseWrite(uint32_t id);
  void Reset(uint32_t id);
  void Release(uint32_t id);

 protected:
  // Takes what the connection brought. An error ends it, after OnProtocolError's last words.
  virtual Result<> OnBytes(std::string_view bytes) = 0;
  virtual std::string EncodeData(uint32_t id, std::string_view data) = 0;
  virtual std::string EncodeEnd(uint32_t id) = 0;
  virtual std::string EncodeReset(uint32_t id) = 0;
  virtual std::string EncodeGoodbye() = 0;
  virtual std::string EncodeProtocolError(const Error& error) = 0;
  // Data goes out by SendBytes at once unless a protocol has its own idea of room.
  virtual void SendData(uint32_t id, std::string data, Stream::WriteDone done);
  virtual void SendEnd(uint32_t id);
  // Whether the peer, having said goodbye, waits for us to close.
  virtual bool PeerSaidGoodbye() const { return false; }
  // Our side has read so much of a stream.
  virtual void OnConsumed(uint32_t /*id*/, size_t /*bytes*/) {}
  // Nothing more can be sent on the stream: writes that wait fail. May be called again.
  virtual void OnForgotten(uint32_t /*id*/) {}
  // The connection is over: handlers that hold this alive are to be dropped.
  virtual void OnEnded() {}
  // No stream is left.
  virtual void OnAllDone() {}
  // The handle of a stream whose writing side is closed is gone.
  virtual void OnReleased(uint32_t /*id*/) {}

  void SendBytes(std::string bytes, Stream::WriteDone done);
  // For answers the peer provokes.
  void SendAnswer(std::string bytes);
  void Deliver(uint32_t id, std::string_view data);
  void DeliverEnd(uint32_t id);
  void DeliverEndToAll();
  void DeliverReset(uint32_t id);
  bool Knows(uint32_t id) const { return channels_.count(id) != 0; }
  void Fail(const Error& error);

 private:
  struct Channel {
    std::deque<std::string> received;
    size_t received_bytes = 0;
    Stream::ReadDone reader;
    bool peer_ended = false;
    bool write_closed = false;
    bool reset = false;
    bool discarding = false;
    bool released = false;
  };

  class Reading;

  Channel* Find(uint32_t id);
  void OnWriteFailed(const Error& error);
  void ReadMore();
  void OnRead(Result<std::string> bytes);
  void Settle(uint32_t id, Channel& channel);
  void ForgetIfDone(uint32_t id);
  void Linger();
  // flush: what is queued still goes out.
  void End(bool flush);
  // The executor has stopped: nothing is called any more, and what handlers hold is released.
  void LetGo();
  static Error Gone() { return Error(Code::kUnavailable, "the connection is gone"); }

  Strand strand_;
  std::shared_ptr<Stream> connection_;
  std::map<uint32_t, Channel> channels_;
  size_t backlog_bytes_ = 0;
  size_t full_channels_ = 0;
  size_t unsent_bytes_ = 0;
  Closure on_gone_;
  bool reading_ = false;
  bool finishing_ = false;
  bool gone_ = false;
  Executor::TimerId linger_timer_ = 0;
};

}  // namespace skiff::streaming

#include "base/streaming/mux.h"

#include <utility>
#include <vector>

namespace skiff::streaming {

namespace {

class Handle : public Stream {
 public:
  Handle(std::shared_ptr<Mux> mux, uint32_t id) : mux_(std::move(mux)), id_(id) {}
  ~Handle() override {
    mux_->Post([mux = mux_, id = id_] { mux->Release(id); });
  }
  void Read(ReadDone done) override {
    mux_->Post([mux = mux_, id = id_, done = std::move(done)]() mutable {
      mux->StartRead(id, std::move(done));
    });
  }
  void Write(std::string data, WriteDone done) override {
    mux_->Post([mux = mux_, id = id_, data = std::move(data), done = std::move(done)]() mutable {
      mux->StartWrite(id, std::move(data), std::move(done));
    });
  }
  void CloseWrite() override {
    mux_->Post([mux = mux_, id = id_] { mux->CloseWrite(id); });
  }
  void Reset() override {
    mux_->Post([mux = mux_, id = id_] { mux->Reset(id); });
  }

 private:
  std::shared_ptr<Mux> mux_;
  const uint32_t id_;
};

}  // namespace

Mux::Mux(Executor& executor, std::shared_ptr<Stream> connection)
    : strand_(executor), connection_(std::move(connection)) {}

void Mux::Abort() {
  Post([self = shared_from_this()] {
    self->on_gone_ = nullptr;
    self->End(false);
  });
}

std::shared_ptr<Stream> Mux::Attach(uint32_t id) {
  return std::make_shared<Handle>(shared_from_this(), id);
}

bool Mux::Open(uint32_t id) {
  if (channels_.size() >= kMaxStreams) return false;
  channels_.try_emplace(id);
  return true;
}

Mux::Channel* Mux::Find(uint32_t id) {
  auto found = channels_.find(id);
  return found == channels_.end() ? nullptr : &found->second;
}

// ---- the connection ----

// What a running Mux always has under way: its start, then a read, by which it learns of the
// connection's end. When the connection drops this unread, or the executor drops it on the way to
// the strand, nothing else would part the handlers from the Mux that they hold.
class Mux::Reading {
 public:
  explicit Reading(std::shared_ptr<Mux> mux) : mux_(std::move(mux)) {}
  Reading(const Reading&) = delete;
  Reading& operator=(const Reading&) = delete;
  ~Reading() {
    if (mux_ == nullptr) return;
    if (on_the_way_) {
      mux_->LetGo();
    } else {
      Bring(std::make_shared<Reading>(std::move(mux_)), Mux::Gone());
    }
  }

  static void Start(const std::shared_ptr<Reading>& reading) {
    reading->on_the_way_ = true;
    reading->mux_->Post([reading] { std::exchange(reading->mux_, nullptr)->ReadMore(); });
  }
  static void Bring(const std::shared_ptr<Reading>& reading, Result<std::string> bytes) {
    reading->on_the_way_ = true;
    reading->mux_->Post([reading, bytes = std::move(bytes)]() mutable {
      std::exchange(reading->mux_, nullptr)->OnRead(std::move(bytes));
    });
  }

 private:
  std::shared_ptr<Mux> mux_;
  bool on_the_way_ = false;
};

void Mux::Start() { Reading::Start(std::make_shared<Reading>(shared_from_this())); }

void Mux::ReadMore() {
  if (reading_ || gone_ || full_channels_ > 0 || backlog_bytes_ > kMaxConnectionBacklogBytes)
    return;
  reading_ = true;
  connection_->Read([reading = std::make_shared<Reading>(shared_from_this())](
                        Result<std::string> bytes) { Reading::Bring(reading, std::move(bytes)); });
}

void Mux::LetGo() {
  // Destroyed last: they may hold the last of the handles.
  auto channels = std::exchange(channels_, {});
  Closure on_gone = std::exchange(on_gone_, nullptr);
  OnEnded();
}

void Mux::OnRead(Result<std::string> bytes) {
  reading_ = false;
  if (gone_) return;
  if (!bytes.ok()) return Fail(bytes.error());
  if (bytes->empty()) return Fail(Gone());
  if (finishing_) Linger();
  if (Result<> taken = OnBytes(*bytes); !taken.ok()) {
    SendBytes(EncodeProtocolError(taken.error()), nullptr);
    return Fail(taken.error());
  }
  if (finishing_ && PeerSaidGoodbye()) return End(true);
  ReadMore();
}

void Mux::SendBytes(std::string bytes, Stream::WriteDone done) {
  if (gone_) {
    if (done) done(Gone());
    return;
  }
  size_t size = bytes.size();
  unsent_bytes_ += size;
  connection_->Write(std::move(bytes), [self = shared_from_this(), size,
                                        done = std::move(done)](Result<> written) mutable {
    Mux& mux = *self;
    mux.Post([self = std::move(self), size, done = std::move(done), written]() mutable {
      self->unsent_bytes_ -= size;
      if (!written.ok()) self->OnWriteFailed(written.error());
      if (done) done(std::move(written));
    });
  });
}

// The peer has left, but what it said before is still to be heard: the reading ends behind that. It
// is not waited for where a full stream holds it up and somebody wants to know that the peer is
// gone.
void Mux::OnWriteFailed(const Error& error) {
  if (!reading_ && on_gone_) Fail(error);
}

void Mux::SendAnswer(std::string bytes) {
  if (unsent_bytes_ > kMaxUnsentAnswerBytes) {
    return Fail(Error(Code::kResourceExhausted, "the peer does not read our answers"));
  }
  SendBytes(std::move(bytes), nullptr);
}

void Mux::Fail(const Error&) {
  Closure on_gone = finishing_ ? nullptr : std::exchange(on_gone_, nullptr);
  End(true);
  if (on_gone) on_gone();
}

void Mux::End(bool flush) {
  if (std::exchange(gone_, true)) return;
  strand_.Cancel(linger_timer_);
  on_gone_ = nullptr;
  connection_->CloseWrite();
  if (!flush || reading_) connection_->Reset();
  connection_.reset();
  // What has arrived can still be read, unless nobody wants it any more.
  std::vector<Stream::ReadDone> readers;
  for (auto& [id, channel] : channels_) {
    if (!flush) channel.received.clear();
    if (channel.reader) readers.push_back(std::exchange(channel.reader, nullptr));
    OnForgotten(id);
  }
  OnEnded();
  for (Stream::ReadDone& reader : readers) reader(Gone());
}

void Mux::Finish() {
  if (gone_ || finishing_) return;
  finishing_ = true;
  for (auto& [id, channel] : channels_) Discard(id);
  if (std::string goodbye = EncodeGoodbye(); !goodbye.empty()) SendBytes(goodbye, nullptr);
  if (PeerSaidGoodbye()) return End(true);
  Linger();
  ReadMore();
}

// A client that is slow to read what we sent shows life by its pings; closing on it would cost it
// the end of the output.
void Mux::Linger() {
  strand_.Cancel(linger_timer_);
  linger_timer_ = strand_.PostAfter(kLingerTime, [self = shared_from_this()] { self->End(false); });
}

// ---- what the peer sends ----

void Mux::Deliver(uint32_t id, std::string_view data) {
  Channel* channel = Find(id);
  if (channel == nullptr || data.empty()) return;
  if (channel->discarding || channel->peer_ended || channel->reset) {
    OnConsumed(id, data.size());
    return;
  }
  bool was_full = channel->received_bytes > kMaxStreamBacklogBytes;
  for (size_t at = 0; at < data.size(); at += kMaxReadBytes) {
    channel->received.emplace_back(data.substr(at, kMaxReadBytes));
  }
  channel->received_bytes += data.size();
  backlog_bytes_ += data.size();
  if (!was_full && channel->received_bytes > kMaxStreamBacklogBytes) ++full_channels_;
  Settle(id, *channel);
}

void Mux::DeliverEnd(uint32_t id) {
  Channel* channel = Find(id);
  if (channel == nullptr) return;
  channel->peer_ended = true;
  Settle(id, *channel);
  ForgetIfDone(id);
}

void Mux::DeliverEndToAll() {
  for (auto& [id, channel] : channels_) {
    channel.peer_ended = true;
    Settle(id, channel);
  }
}

// What came before it can still be read.
void Mux::DeliverReset(uint32_t id) {
  Channel* channel = Find(id);
  if (channel == nullptr) return;
  channel->reset = true;
  OnForgotten(id);
  Settle(id, *channel);
  ForgetIfDone(id);
}

void Mux::Settle(uint32_t id, Channel& channel) {
  if (!channel.reader) return;
  if (channel.received.empty()) {
    if (channel.peer_ended) return std::exchange(channel.reader, nullptr)(std::string());
    if (channel.reset) {
      Error reset(Code::kUnavailable, "the stream was reset");
      return std::exchange(channel.reader, nullptr)(std::move(reset));
    }
    if (gone_) std::exchange(channel.reader, nullptr)(Gone());
    return;
  }
  std::string piece = std::move(channel.received.front());
  channel.received.pop_front();
  bool was_full = channel.received_bytes > kMaxStreamBacklogBytes;
  channel.received_bytes -= piece.size();
  backlog_bytes_ -= piece.size();
  if (was_full && channel.received_bytes <= kMaxStreamBacklogBytes) --full_channels_;
  OnConsumed(id, piece.size());
  std::exchange(channel.reader, nullptr)(std::move(piece));
  ReadMore();
}

void Mux::Discard(uint32_t id) {
  Channel* channel = Find(id);
  if (channel == nullptr) return;
  channel->discarding = true;
  if (channel->received_bytes > 0) OnConsumed(id, channel->received_bytes);
  if (channel->received_bytes > kMaxStreamBacklogBytes) --full_channels_;
  backlog_bytes_ -= channel->received_bytes;
  channel->received_bytes = 0;
  channel->received.clear();
  ReadMore();
}

// ---- what our side does ----

void Mux::StartRead(uint32_t id, Stream::ReadDone done) {
  Channel* channel = Find(id);
  if (channel == nullptr) return done(Gone());
  CHECK(!channel->reader);
  channel->reader = std::move(done);
  Settle(id, *channel);
}

void Mux::StartWrite(uint32_t id, std::string data, Stream::WriteDone done) {
  Channel* channel = Find(id);
  if (gone_ || channel == nullptr || channel->reset || channel->write_closed) {
    if (done) done(Gone());
    return;
  }
  SendData(id, std::move(data), std::move(done));
}

void Mux::SendData(uint32_t id, std::string data, Stream::WriteDone done) {
  SendBytes(EncodeData(id, data), std::move(done));
}

void Mux::CloseWrite(uint32_t id) {
  Channel* channel = Find(id);
  if (channel == nullptr || channel->reset || std::exchange(channel->write_closed, true)) return;
  SendEnd(id);
  ForgetIfDone(id);
}

void Mux::SendEnd(uint32_t id) {
  if (std::string end = EncodeEnd(id); !end.empty()) SendBytes(std::move(end), nullptr);
}

void Mux::Reset(uint32_t id) {
  Channel* channel = Find(id);
  if (channel == nullptr || channel->reset) return;
  if (std::string reset = EncodeReset(id); !reset.empty()) SendBytes(std::move(reset), nullptr);
  Discard(id);
  DeliverReset(id);
}

void Mux::Release(uint32_t id) {
  Channel* channel = Find(id);
  if (channel == nullptr) return;
  channel->released = true;
  if (!channel->write_closed && !channel->reset) return Reset(id);
  Discard(id);
  OnReleased(id);
  ForgetIfDone(id);
}

void Mux::ForgetIfDone(uint32_t id) {
  Channel* channel = Find(id);
  if (channel == nullptr || !channel->released) return;
  if (!channel->reset && !(channel->peer_ended && channel->write_closed)) return;
  channels_.erase(id);
  OnForgotten(id);
  if (channels_.empty()) OnAllDone();
}

}  // namespace skiff::streaming

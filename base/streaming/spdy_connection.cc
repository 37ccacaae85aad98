#include "base/streaming/spdy_connection.h"

#include <utility>
#include <vector>

namespace skiff::streaming {

// ---- streams ----

void SpdyConnection::Announce(uint32_t id, const SpdyHeaders& headers) {
  is_client_ = true;
  last_id_ = id;
  windows_[id].send_bytes = initial_window_bytes_;
  SendAnswer(writer_.SynStream(id, headers, false));
}

Result<> SpdyConnection::OnSynStream(uint32_t id, SpdyHeaders headers, bool fin) {
  if (is_client_) {  // what a server might push is nothing that we asked for
    SendAnswer(SpdyWriter::Reset(id, SpdyResetStatus::kRefusedStream));
    return {};
  }
  // Section 2.3.2: a client's ids are odd and grow.
  if (id % 2 == 0 || id <= last_id_) {
    return Error(Code::kInvalidArgument, "SPDY: stream id " + std::to_string(id) + " out of order");
  }
  last_id_ = id;
  if (!Open(id)) {
    SendAnswer(SpdyWriter::Reset(id, SpdyResetStatus::kRefusedStream));
    return {};
  }
  windows_[id].send_bytes = initial_window_bytes_;
  // The reply comes before any data: clients drop data of a stream without one.
  SendAnswer(writer_.SynReply(id, {}));
  if (!on_stream_ || !on_stream_(id, headers)) {
    Reset(id);
    Release(id);
    return {};
  }
  if (fin) DeliverEnd(id);
  return {};
}

Result<> SpdyConnection::OnSynReply(uint32_t id, SpdyHeaders, bool fin) {
  if (!is_client_ || id % 2 == 0 || id > last_id_) {
    return Error(Code::kInvalidArgument, "SPDY: a reply to a stream that we did not make");
  }
  if (fin && Knows(id)) DeliverEnd(id);
  return {};
}

void SpdyConnection::OnData(uint32_t id, std::string_view data, bool fin) {
  if (!Knows(id)) return OnConsumed(id, data.size());
  Deliver(id, data);
  if (fin) DeliverEnd(id);
}

void SpdyConnection::OnReset(uint32_t id) { DeliverReset(id); }

void SpdyConnection::OnPing(uint32_t id) {
  const bool ours = (id % 2 == 1) == is_client_;  // coming back
  if (!ours) SendAnswer(SpdyWriter::Ping(id));
}

// ---- flow control ----

void SpdyConnection::OnWindowUpdate(uint32_t id, uint32_t delta) {
  peer_controls_flow_ = true;
  if (id == 0) {
    session_send_bytes_ += delta;
    std::vector<uint32_t> ids;
    for (auto& [stream, window] : windows_) ids.push_back(stream);
    for (uint32_t stream : ids) SendWaiting(stream);
    return;
  }
  auto found = windows_.find(id);
  if (found == windows_.end()) return;
  found->second.send_bytes += delta;
  SendWaiting(id);
}

void SpdyConnection::OnInitialWindow(uint32_t bytes) {
  peer_controls_flow_ = true;
  int64_t change = int64_t{bytes} - std::exchange(initial_window_bytes_, bytes);
  std::vector<uint32_t> ids;
  for (auto& [stream, window] : windows_) {
    window.send_bytes += change;
    ids.push_back(stream);
  }
  for (uint32_t stream : ids) SendWaiting(stream);
}

void SpdyConnection::SendData(uint32_t id, std::string data, Stream::WriteDone done) {
  Window& window = windows_[id];
  window.waiting.emplace_back(std::move(data), std::move(done));
  SendWaiting(id);
}

// A message goes out whole as soon as any window is left: it is at most one read large, and a
// window may become negative (section 2.6.8).
void SpdyConnection::SendWaiting(uint32_t id) {
  auto found = windows_.find(id);
  if (found == windows_.end()) return;
  Window& window = found->second;
  while (!window.waiting.empty() &&
         (!peer_controls_flow_ || (window.send_bytes > 0 && session_send_bytes_ > 0))) {
    auto [data, done] = std::move(window.waiting.front());
    window.waiting.pop_front();
    auto size = static_cast<int64_t>(data.size());
    window.send_bytes -= size;
    session_send_bytes_ -= size;
    SendBytes(EncodeData(id, data), std::move(done));
  }
  if (window.waiting.empty() && std::exchange(window.end_waiting, false)) {
    SendBytes(EncodeEnd(id), nullptr);
  }
}

void SpdyConnection::SendEnd(uint32_t id) {
  windows_[id].end_waiting = true;
  SendWaiting(id);
}

void SpdyConnection::OnConsumed(uint32_t id, size_t bytes) {
  session_consumed_bytes_ += bytes;
  TellConsumed(0, session_consumed_bytes_);
  auto found = windows_.find(id);
  if (found == windows_.end()) return;
  found->second.consumed_bytes += bytes;
  TellConsumed(id, found->second.consumed_bytes);
}

// To a server that does not control the flow it would mean nothing, and be left unread when the
// server closes, by which what is still on the way from there would be lost.
void SpdyConnection::TellConsumed(uint32_t id, size_t& consumed_bytes) {
  if (is_client_ && !peer_controls_flow_) return;
  if (consumed_bytes < kSpdyInitialWindowBytes / 2) return;
  SendAnswer(SpdyWriter::WindowUpdate(id, static_cast<uint32_t>(consumed_bytes)));
  consumed_bytes = 0;
}

void SpdyConnection::OnForgotten(uint32_t id) {
  auto found = windows_.find(id);
  if (found == windows_.end()) return;
  Window window = std::move(found->second);
  windows_.erase(found);
  for (auto& [data, done] : window.waiting) {
    if (done) done(Error(Code::kUnavailable, "the stream was reset"));
  }
}

void SpdyConnection::OnAllDone() {
  if (is_client_) Abort();
}

void SpdyConnection::OnEnded() {
  // Not destroyed here: it may be what is running.
  Post([handler = std::exchange(on_stream_, nullptr), windows = std::exchange(windows_, {})] {});
}

// ---- encoding ----

std::string SpdyConnection::EncodeData(uint32_t id, std::string_view data) {
  return SpdyWriter::Data(id, data, false);
}

std::string SpdyConnection::EncodeEnd(uint32_t id) { return SpdyWriter::Data(id, {}, true); }

std::string SpdyConnection::EncodeReset(uint32_t id) {
  return SpdyWriter::Reset(id, SpdyResetStatus::kCancel);
}

std::string SpdyConnection::EncodeProtocolError(const Error&) {
  return SpdyWriter::GoAway(last_id_);
}

}  // namespace skiff::streaming

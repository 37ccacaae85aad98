#include "control-plane/rpc/tunnel_call.h"

#include <grpcpp/server_context.h>

#include <atomic>
#include <deque>
#include <optional>
#include <utility>
#include <vector>

namespace skiff::cp {

using streaming::Stream;

namespace {

std::string ToString(const grpc::ByteBuffer& buffer) {
  std::string bytes;
  std::vector<grpc::Slice> slices;
  if (!buffer.Dump(&slices).ok()) return bytes;
  bytes.reserve(buffer.Length());
  for (const grpc::Slice& slice : slices) {
    bytes.append(reinterpret_cast<const char*>(slice.begin()), slice.size());
  }
  return bytes;
}

grpc::ByteBuffer ToBuffer(const std::string& bytes) {
  grpc::Slice slice(bytes);
  return grpc::ByteBuffer(&slice, 1);
}

// State is confined to the call's strand; gRPC's callbacks only post to it.
class TunnelCall : public grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>,
                   public std::enable_shared_from_this<TunnelCall> {
 public:
  TunnelCall(Executor& executor, grpc::CallbackServerContext& context, TunnelArrival arrival)
      : strand_(executor), context_(context), arrival_(std::move(arrival)) {}

  void Begin();
  void Post(Closure work) { strand_.Post(std::move(work)); }

  void Read(Stream::ReadDone done) {
    if (over_) return done(Gone());
    if (!first_.empty()) return done(std::exchange(first_, {}));
    if (peer_ended_) return done(std::string());
    reader_ = std::move(done);
    StartRead(&incoming_);
  }

  void Write(std::string bytes, Stream::WriteDone done) {
    if (over_ || closing_ || status_) {
      if (done) done(Gone());
      return;
    }
    writes_.emplace_back(std::move(bytes), std::move(done));
    if (writes_.size() == 1) StartFirstWrite();
  }

  // Behind the writes that wait; a call ends in both directions at once.
  void CloseWrite() {
    closing_ = true;
    if (writes_.empty()) EndWith(grpc::Status::OK);
  }

  void Reset() {
    if (!finished_) context_.TryCancel();  // the context is there until gRPC has the status
    EndWith(grpc::Status::CANCELLED);
  }

  void OnReadDone(bool ok) override {
    Post([self = shared_from_this(), ok] { self->TakeRead(ok); });
  }
  void OnWriteDone(bool ok) override {
    Post([self = shared_from_this(), ok] { self->TakeWritten(ok); });
  }
  void OnCancel() override {
    Post([self = shared_from_this()] { self->EndWith(grpc::Status::CANCELLED); });
  }
  void OnDone() override {
    Post([self = shared_from_this()] {
      self->over_ = true;
      self->EndReader(self->Gone());
      self->FailWrites();
      self->self_.reset();
    });
  }

 private:
  static Error Gone() { return Error(Code::kUnavailable, "the tunnel is gone"); }

  void StartFirstWrite() {
    writing_ = true;
    outgoing_ = ToBuffer(writes_.front().first);
    StartWrite(&outgoing_);
  }

  void TakeRead(bool ok) {
    std::string bytes = ok ? ToString(incoming_) : std::string();
    incoming_.Clear();
    if (arrival_) return Arrive(bytes);
    if (!ok) peer_ended_ = true;
    // An empty frame says nothing and must not look like the end.
    if (ok && bytes.empty()) return StartRead(&incoming_);
    EndReader(std::move(bytes));
  }

  void Arrive(const std::string& bytes);

  void EndReader(Result<std::string> outcome) {
    if (reader_) std::exchange(reader_, nullptr)(std::move(outcome));
  }

  void TakeWritten(bool ok) {
    writing_ = false;
    if (!writes_.empty()) {
      Stream::WriteDone done = std::move(writes_.front().second);
      writes_.pop_front();
      if (done) done(ok ? Result<>() : Result<>(Gone()));
    }
    if (status_) return FinishIfIdle();
    if (!ok) return EndWith(grpc::Status::CANCELLED);
    if (!writes_.empty()) return StartFirstWrite();
    if (closing_) EndWith(grpc::Status::OK);
  }

  void FailWrites() {
    std::deque<std::pair<std::string, Stream::WriteDone>> dropped = std::move(writes_);
    writes_.clear();
    for (auto& [bytes, done] : dropped) {
      if (done) done(Gone());
    }
  }

  // gRPC takes the status once no write is under way.
  void EndWith(const grpc::Status& status) {
    if (status_) return;
    status_ = status;
    FinishIfIdle();
  }
  void FinishIfIdle() {
    if (writing_ || std::exchange(finished_, true)) return;
    FailWrites();
    Finish(*status_);
  }

  Strand strand_;
  grpc::CallbackServerContext& context_;  // lives until OnDone
  TunnelArrival arrival_;                 // until the first message
  std::shared_ptr<TunnelCall> self_;
  grpc::ByteBuffer incoming_;
  grpc::ByteBuffer outgoing_;
  std::string first_;
  Stream::ReadDone reader_;
  std::deque<std::pair<std::string, Stream::WriteDone>> writes_;
  std::optional<grpc::Status> status_;  // what the call ends with
  bool peer_ended_ = false;
  bool writing_ = false;
  bool closing_ = false;
  bool finished_ = false;
  bool over_ = false;
};

// The Stream's handle; dropping it ends the call.
class CallStream : public Stream {
 public:
  explicit CallStream(std::shared_ptr<TunnelCall> call) : call_(std::move(call)) {}
  ~CallStream() override {
    if (!closed_) Reset();
  }
  void Read(ReadDone done) override {
    call_->Post([call = call_, done = std::move(done)]() mutable { call->Read(std::move(done)); });
  }
  void Write(std::string data, WriteDone done) override {
    call_->Post([call = call_, data = std::move(data), done = std::move(done)]() mutable {
      call->Write(std::move(data), std::move(done));
    });
  }
  void CloseWrite() override {
    closed_ = true;
    call_->Post([call = call_] { call->CloseWrite(); });
  }
  void Reset() override {
    call_->Post([call = call_] { call->Reset(); });
  }

 private:
  std::shared_ptr<TunnelCall> call_;
  std::atomic<bool> closed_ = false;
};

void TunnelCall::Begin() {
  self_ = shared_from_this();
  Post([self = shared_from_this()] { self->StartRead(&self->incoming_); });
}

void TunnelCall::Arrive(const std::string& bytes) {
  TunnelArrival arrival = std::exchange(arrival_, nullptr);
  first_ = bytes;
  if (!bytes.empty() && arrival(bytes, std::make_shared<CallStream>(shared_from_this()))) return;
  EndWith(grpc::Status(grpc::StatusCode::NOT_FOUND, "nobody waits for this tunnel"));
}

}  // namespace

grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* BeginTunnelCall(
    Executor& executor, grpc::CallbackServerContext& context, TunnelArrival arrival) {
  auto call = std::make_shared<TunnelCall>(executor, context, std::move(arrival));
  call->Begin();
  return call.get();
}

}  // namespace skiff::cp

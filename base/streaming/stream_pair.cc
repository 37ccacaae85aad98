#include "base/streaming/stream_pair.h"

#include <algorithm>
#include <deque>
#include <mutex>

namespace skiff::streaming {

namespace {

// One direction.
struct Flow {
  std::string data;
  bool ended = false;
  Stream::ReadDone reader;
  std::deque<Stream::WriteDone> writers;  // waiting for room
};

// Both directions; flows[i] is read by side i.
struct Shared {
  Shared(Executor& e, size_t capacity) : executor(e), capacity_bytes(capacity) {}
  Executor& executor;
  const size_t capacity_bytes;
  std::mutex mutex;  // a leaf: callbacks are posted, never called, under it
  Flow flows[2];
  bool reset = false;

  Error Gone() const { return Error(Code::kUnavailable, "the stream was reset"); }

  // Hands data, an end or the reset to whoever waits on the flow. The mutex is held.
  void Settle(Flow& flow) {
    if (flow.reader && (reset || !flow.data.empty() || flow.ended)) {
      Stream::ReadDone reader = std::exchange(flow.reader, nullptr);
      if (reset) {
        executor.Post([reader, gone = Gone()] { reader(gone); });
      } else {
        std::string piece = flow.data.substr(0, kMaxReadBytes);
        flow.data.erase(0, piece.size());
        executor.Post([reader, piece = std::move(piece)]() mutable { reader(std::move(piece)); });
      }
    }
    while (!flow.writers.empty() && (reset || flow.data.size() < capacity_bytes)) {
      Stream::WriteDone writer = std::move(flow.writers.front());
      flow.writers.pop_front();
      if (!writer) continue;
      Result<> outcome = reset ? Result<>(Gone()) : Result<>();
      executor.Post([writer, outcome] { writer(outcome); });
    }
  }
};

class PairEnd : public Stream {
 public:
  PairEnd(std::shared_ptr<Shared> shared, int side) : shared_(std::move(shared)), side_(side) {}
  ~PairEnd() override {
    // Dropped without a close: as a socket whose owner died.
    std::lock_guard lock(shared_->mutex);
    if (!out().ended) ResetLocked();
  }

  void Read(ReadDone done) override {
    std::lock_guard lock(shared_->mutex);
    CHECK(!in().reader);
    in().reader = std::move(done);
    shared_->Settle(in());
  }

  void Write(std::string data, WriteDone done) override {
    std::lock_guard lock(shared_->mutex);
    if (shared_->reset || out().ended) {
      if (done) shared_->executor.Post([done, gone = shared_->Gone()] { done(gone); });
      return;
    }
    out().data += data;
    out().writers.push_back(std::move(done));
    shared_->Settle(out());
  }

  void CloseWrite() override {
    std::lock_guard lock(shared_->mutex);
    out().ended = true;
    shared_->Settle(out());
  }

  void Reset() override {
    std::lock_guard lock(shared_->mutex);
    ResetLocked();
  }

 private:
  Flow& in() { return shared_->flows[side_]; }
  Flow& out() { return shared_->flows[1 - side_]; }
  void ResetLocked() {
    shared_->reset = true;
    for (Flow& flow : shared_->flows) shared_->Settle(flow);
  }

  std::shared_ptr<Shared> shared_;
  const int side_;
};

}  // namespace

std::pair<std::shared_ptr<Stream>, std::shared_ptr<Stream>> MakeStreamPair(Executor& executor,
                                                                           size_t capacity_bytes) {
  auto shared = std::make_shared<Shared>(executor, capacity_bytes);
  return {std::make_shared<PairEnd>(shared, 0), std::make_shared<PairEnd>(shared, 1)};
}

}  // namespace skiff::streaming

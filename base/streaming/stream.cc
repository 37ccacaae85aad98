#include "base/streaming/stream.h"

#include <future>

namespace skiff::streaming {

namespace {

// One copy in progress. Each step is started from the callback of the one before, which never runs
// inside the call that named it, so the stack does not grow.
struct Copy : std::enable_shared_from_this<Copy> {
  std::shared_ptr<Stream> from;
  std::shared_ptr<Stream> to;
  std::function<void(Result<>)> done;

  void Next() {
    from->Read([self = shared_from_this()](Result<std::string> data) {
      if (!data.ok()) return self->End(std::move(data).error());
      if (data->empty()) {
        self->to->CloseWrite();
        return self->End({});
      }
      self->to->Write(std::move(data).value(), [self](Result<> written) {
        if (!written.ok()) return self->End(std::move(written));
        self->Next();
      });
    });
  }

  void End(Result<> outcome) {
    std::function<void(Result<>)> finish = std::move(done);
    from.reset();
    to.reset();
    finish(std::move(outcome));
  }
};

}  // namespace

void Pump(std::shared_ptr<Stream> from, std::shared_ptr<Stream> to,
          std::function<void(Result<>)> done) {
  auto copy = std::make_shared<Copy>();
  copy->from = std::move(from);
  copy->to = std::move(to);
  copy->done = std::move(done);
  copy->Next();
}

Result<std::string> ReadBlocking(Stream& stream) {
  std::promise<Result<std::string>> promise;
  stream.Read([&promise](Result<std::string> data) { promise.set_value(std::move(data)); });
  return promise.get_future().get();
}

Result<> WriteBlocking(Stream& stream, std::string data) {
  std::promise<Result<>> promise;
  stream.Write(std::move(data), [&promise](Result<> done) { promise.set_value(std::move(done)); });
  return promise.get_future().get();
}

}  // namespace skiff::streaming

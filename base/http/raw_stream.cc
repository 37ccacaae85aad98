#include "base/http/raw_stream.h"

#include <future>

namespace skiff::http {

Result<std::string> RawStream::Read(size_t max_bytes) {
  // Shared with the handler, which may still be returning when the waiter goes on.
  auto promise = std::make_shared<std::promise<Result<std::string>>>();
  auto bytes = promise->get_future();
  AsyncRead(max_bytes,
            [promise](Result<std::string> result) { promise->set_value(std::move(result)); });
  return bytes.get();
}

Result<void> RawStream::Write(std::string_view bytes) {
  auto promise = std::make_shared<std::promise<Result<void>>>();
  auto outcome = promise->get_future();
  AsyncWrite(std::string(bytes),
             [promise](Result<void> result) { promise->set_value(std::move(result)); });
  return outcome.get();
}

}  // namespace skiff::http

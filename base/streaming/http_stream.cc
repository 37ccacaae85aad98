#include "base/streaming/http_stream.h"

#include <atomic>

namespace skiff::streaming {

namespace {

class HttpStream : public Stream {
 public:
  explicit HttpStream(http::StreamPtr connection) : connection_(std::move(connection)) {}
  ~HttpStream() override {
    // After CloseWrite the queued bytes keep the connection until they are sent.
    if (!write_closed_) connection_->Close();
  }
  void Read(ReadDone done) override { connection_->AsyncRead(kMaxReadBytes, std::move(done)); }
  void Write(std::string data, WriteDone done) override {
    connection_->AsyncWrite(std::move(data), [done = std::move(done)](Result<> written) {
      if (done) done(std::move(written));
    });
  }
  void CloseWrite() override {
    if (!write_closed_.exchange(true)) connection_->ShutdownWrite();
  }
  void Reset() override { connection_->Close(); }

 private:
  http::StreamPtr connection_;
  std::atomic<bool> write_closed_ = false;
};

}  // namespace

std::shared_ptr<Stream> FromRawStream(http::StreamPtr connection) {
  return std::make_shared<HttpStream>(std::move(connection));
}

}  // namespace skiff::streaming

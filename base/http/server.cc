#include "base/http/server.h"

#include <condition_variable>
#include <mutex>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/http/connection.h"
#include "base/http/listener.h"
#include "base/http/tls.h"

namespace skiff::http {
namespace {

// The open connections; shared with their close notifications.
class ConnectionTable {
 public:
  explicit ConnectionTable(size_t max) : max_(max) {}

  // False when there are too many or the server has stopped.
  bool Add(const std::shared_ptr<Connection>& connection) {
    std::lock_guard lock(mutex_);
    if (stopped_ || connections_.size() >= max_) return false;
    connections_.emplace(connection.get(), connection);
    return true;
  }
  void Remove(Connection* connection) {
    std::lock_guard lock(mutex_);
    connections_.erase(connection);
    if (connections_.empty()) empty_.notify_all();
  }
  std::vector<std::shared_ptr<Connection>> StopAndList() {
    std::lock_guard lock(mutex_);
    stopped_ = true;
    std::vector<std::shared_ptr<Connection>> list;
    for (auto& [key, weak] : connections_) {
      if (auto connection = weak.lock()) list.push_back(std::move(connection));
    }
    return list;
  }
  bool WaitUntilEmpty(std::chrono::milliseconds limit) {
    std::unique_lock lock(mutex_);
    return empty_.wait_for(lock, limit, [this] { return connections_.empty(); });
  }
  size_t size() {
    std::lock_guard lock(mutex_);
    return connections_.size();
  }

 private:
  const size_t max_;
  std::mutex mutex_;
  std::condition_variable empty_;
  bool stopped_ = false;
  std::unordered_map<Connection*, std::weak_ptr<Connection>> connections_;
};

Response PlainError(int status, std::string_view detail) {
  return Response::Text(status, std::string(ReasonPhrase(status)) + ": " + std::string(detail));
}

class ServerOnListener final : public Server {
 public:
  ServerOnListener(ServerOptions options, Handler handler, Executor& workers)
      : table_(std::make_shared<ConnectionTable>(options.limits.max_connections)) {
    auto context = std::make_shared<ConnectionContext>();
    context->limits = options.limits;
    context->gzip_from_bytes = options.gzip_from_bytes;
    context->handler = std::move(handler);
    context->workers = &workers;
    context->error_response = options.error_response ? options.error_response : PlainError;
    context_ = std::move(context);
  }
  ~ServerOnListener() override { Stop(std::chrono::milliseconds(0)); }

  Result<void> Open(const ServerOptions& options) {
    std::shared_ptr<TlsContext> tls;
    if (options.tls) tls = TRY(TlsContext::Make(*options.tls));
    listener_ =
        TRY(Listener::Open(options, std::move(tls), [this](std::shared_ptr<Transport> transport) {
          Accepted(std::move(transport));
        }));
    return {};
  }

  std::string address() const override { return listener_->address(); }
  int port() const override { return listener_->port(); }
  size_t connections() const override { return table_->size(); }

  Result<void> ReloadTls(const TlsConfig& tls) override {
    listener_->UseTls(TRY(TlsContext::Make(tls)));
    return {};
  }

  void Stop(std::chrono::milliseconds grace) override {
    if (!listener_ || std::exchange(stopped_, true)) return;
    listener_->StopAccepting();
    auto open = table_->StopAndList();
    for (auto& connection : open) connection->Drain();
    if (!table_->WaitUntilEmpty(grace)) {
      for (auto& connection : open) connection->Close();
    }
    open.clear();
    listener_->Join();
  }

 private:
  void Accepted(std::shared_ptr<Transport> transport) {
    auto key = std::make_shared<Connection*>(nullptr);
    auto connection = std::make_shared<Connection>(transport, context_,
                                                   [table = table_, key] { table->Remove(*key); });
    *key = connection.get();
    if (!table_->Add(connection)) return transport->Close();
    connection->Start();
  }

  const std::shared_ptr<ConnectionTable> table_;
  std::shared_ptr<const ConnectionContext> context_;
  std::unique_ptr<Listener> listener_;
  bool stopped_ = false;
};

}  // namespace

Result<std::unique_ptr<Server>> Server::Start(ServerOptions options, Handler handler,
                                              Executor& workers) {
  auto server = std::make_unique<ServerOnListener>(options, std::move(handler), workers);
  TRY(server->Open(options));
  return std::unique_ptr<Server>(std::move(server));
}

}  // namespace skiff::http

#include "base/http/listener.h"

#include <sys/stat.h>
#include <unistd.h>

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/strand.hpp>
#include <charconv>
#include <mutex>
#include <thread>
#include <vector>

#include "base/http/asio_transport.h"
#include "base/log.h"

namespace skiff::http {
namespace {

using tcp = asio::ip::tcp;
using unix_stream = asio::local::stream_protocol;

// When accept fails for want of descriptors, the queue waits this long.
constexpr std::chrono::milliseconds kAcceptRetry{100};

template <class Endpoint>
std::string EndpointText(const Endpoint& endpoint) {
  std::string host = endpoint.address().to_string();
  if (endpoint.address().is_v6()) host = "[" + host + "]";
  return host + ":" + std::to_string(endpoint.port());
}

Result<tcp::endpoint> ParseEndpoint(std::string_view listen) {
  size_t colon = listen.rfind(':');
  auto bad = [&](const char* why) {
    return Error(Code::kInvalidArgument, "listen address \"" + std::string(listen) + "\": " + why);
  };
  if (colon == listen.npos) return bad("want ADDRESS:PORT");
  std::string_view host = listen.substr(0, colon);
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  uint16_t port = 0;
  std::string_view digits = listen.substr(colon + 1);
  auto [end, status] = std::from_chars(digits.data(), digits.data() + digits.size(), port);
  if (status != std::errc() || end != digits.data() + digits.size()) return bad("bad port");
  boost::system::error_code error;
  auto address = asio::ip::make_address(host.empty() ? "::" : std::string(host), error);
  if (error) return bad("bad address");
  return tcp::endpoint(address, port);
}

template <class Protocol>
class ListenerOn final : public Listener {
 public:
  ListenerOn(const ServerOptions& options, std::shared_ptr<TlsContext> tls, OnAccept accept)
      : context_(std::make_shared<asio::io_context>(options.io_threads)),
        work_(asio::make_work_guard(*context_)),
        acceptor_(asio::make_strand(*context_)),
        retry_(acceptor_.get_executor()),
        accept_(std::move(accept)),
        write_timeout_(options.limits.write_timeout),
        tls_(std::move(tls)) {}

  ~ListenerOn() override {
    StopAccepting();
    Join();
    if (!socket_path_.empty()) ::unlink(socket_path_.c_str());
  }

  Result<void> Bind(const typename Protocol::endpoint& endpoint) {
    boost::system::error_code error;
    auto fail = [&](const char* step) { return FromAsio(error, step); };
    acceptor_.open(endpoint.protocol(), error);
    if (error) return fail("socket");
    if constexpr (std::is_same_v<Protocol, tcp>) {
      acceptor_.set_option(tcp::acceptor::reuse_address(true), error);
    } else {
      socket_path_ = endpoint.path();
      ::unlink(socket_path_.c_str());
    }
    acceptor_.bind(endpoint, error);
    if (error) return fail("bind");
    if (!socket_path_.empty() && ::chmod(socket_path_.c_str(), 0600) != 0) {
      return Error::Sys(errno, "chmod", socket_path_);
    }
    acceptor_.listen(asio::socket_base::max_listen_connections, error);
    if (error) return fail("listen");
    local_ = acceptor_.local_endpoint(error);
    if (error) return fail("getsockname");
    return {};
  }

  void Run(int threads) {
    asio::post(acceptor_.get_executor(), [this] { Accept(); });
    for (int i = 0; i < threads; ++i) {
      threads_.emplace_back([context = context_] {
        pthread_setname_np(pthread_self(), "http-io");
        context->run();
      });
    }
  }

  std::string address() const override {
    if constexpr (std::is_same_v<Protocol, tcp>) {
      return EndpointText(local_);
    } else {
      return "unix:" + socket_path_;
    }
  }
  int port() const override {
    if constexpr (std::is_same_v<Protocol, tcp>) {
      return local_.port();
    } else {
      return 0;
    }
  }

  void UseTls(std::shared_ptr<TlsContext> tls) override {
    std::lock_guard lock(mutex_);
    tls_ = std::move(tls);
  }

  void StopAccepting() override {
    asio::post(acceptor_.get_executor(), [this] {
      boost::system::error_code ignored;  // closing
      acceptor_.close(ignored);
      retry_.cancel();
    });
  }

  void Join() override {
    work_.reset();
    for (auto& thread : threads_) thread.join();
    threads_.clear();
  }

 private:
  void Accept() {
    if (!acceptor_.is_open()) return;
    acceptor_.async_accept(
        asio::any_io_executor(asio::make_strand(*context_)),
        [this](boost::system::error_code error, typename Protocol::socket socket) {
          if (error == asio::error::operation_aborted) return;
          if (!error) {
            Accepted(std::move(socket));
            return Accept();
          }
          log::Warning("http accept failed, retrying", {{"error", FromAsio(error, "accept")}});
          retry_.expires_after(kAcceptRetry);
          retry_.async_wait([this](auto cancelled) {
            if (!cancelled) Accept();
          });
        });
  }

  void Accepted(typename Protocol::socket socket) {
    std::shared_ptr<TlsContext> tls;
    {
      std::lock_guard lock(mutex_);
      tls = tls_;
    }
    if constexpr (std::is_same_v<Protocol, tcp>) {
      boost::system::error_code error;
      auto remote = socket.remote_endpoint(error);
      if (error) return;  // gone already
      socket.set_option(tcp::no_delay(true), error);
      socket.set_option(asio::socket_base::keep_alive(true), error);
      Peer peer{.address = EndpointText(remote)};
      if (tls) {
        // The Asio context only carries the SSL_CTX, which both count.
        SSL_CTX_up_ref(tls->native());
        asio::ssl::context native(tls->native());
        return accept_(std::make_shared<AsioTransport<TlsSocket>>(
            context_, TlsSocket(std::move(socket), native), std::move(peer), write_timeout_, tls));
      }
      accept_(std::make_shared<AsioTransport<TcpSocket>>(context_, std::move(socket),
                                                         std::move(peer), write_timeout_, nullptr));
    } else {
      accept_(std::make_shared<AsioTransport<UnixSocket>>(
          context_, std::move(socket), Peer{.address = "unix"}, write_timeout_, nullptr));
    }
  }

  const std::shared_ptr<asio::io_context> context_;
  asio::executor_work_guard<asio::io_context::executor_type> work_;
  typename Protocol::acceptor acceptor_;
  asio::steady_timer retry_;
  const OnAccept accept_;
  const std::chrono::milliseconds write_timeout_;
  std::string socket_path_;
  typename Protocol::endpoint local_;
  std::vector<std::thread> threads_;
  std::mutex mutex_;
  std::shared_ptr<TlsContext> tls_;
};

template <class Protocol>
Result<std::unique_ptr<Listener>> OpenOn(const typename Protocol::endpoint& endpoint,
                                         const ServerOptions& options,
                                         std::shared_ptr<TlsContext> tls,
                                         Listener::OnAccept accept) {
  auto listener =
      std::make_unique<ListenerOn<Protocol>>(options, std::move(tls), std::move(accept));
  TRY(listener->Bind(endpoint).With("listen on " + options.listen));
  listener->Run(options.io_threads);
  return std::unique_ptr<Listener>(std::move(listener));
}

}  // namespace

Result<std::unique_ptr<Listener>> Listener::Open(const ServerOptions& options,
                                                 std::shared_ptr<TlsContext> tls, OnAccept accept) {
  constexpr std::string_view kUnix = "unix:";
  if (options.listen.starts_with(kUnix)) {
    std::string path = options.listen.substr(kUnix.size());
    if (tls) return Error(Code::kInvalidArgument, "TLS on a UNIX socket is not supported");
    if (path.empty() || path.size() > 107) {  // sun_path, unix(7)
      return Error(Code::kInvalidArgument, "socket path is empty or too long: " + path);
    }
    return OpenOn<unix_stream>(unix_stream::endpoint(path), options, nullptr, std::move(accept));
  }
  auto endpoint = TRY(ParseEndpoint(options.listen));
  return OpenOn<tcp>(endpoint, options, std::move(tls), std::move(accept));
}

}  // namespace skiff::http

#include "agent/probes/runner.h"

#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <pthread.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <boost/beast/ssl.hpp>
#include <thread>

namespace skiff::agent {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using asio::ip::tcp;
using boost::system::error_code;
using std::chrono::seconds;

// Kubelet reads no more of an answer than this.
constexpr size_t kMaxBodyBytes = 10 << 10;
constexpr size_t kMaxOutputBytes = 10 << 10;

ProbeOutcome Success() { return {ProbeOutcome::Kind::kSuccess, {}}; }
ProbeOutcome Failure(std::string output) {
  return {ProbeOutcome::Kind::kFailure, std::move(output)};
}

std::string HostPort(const std::string& host, int port) {
  return (host.find(':') == std::string::npos ? host : "[" + host + "]") + ":" +
         std::to_string(port);
}

std::string Describe(const error_code& error) {
  if (error == asio::error::connection_refused) return "connection refused";
  if (error == beast::error::timeout) return "i/o timeout";
  if (error == asio::error::host_unreachable) return "no route to host";
  if (error == http::error::end_of_stream || error == asio::error::eof) return "EOF";
  if (error == asio::error::connection_reset) return "connection reset by peer";
  return error.message();
}

// Owned by its pending operations.
class TcpCheck : public std::enable_shared_from_this<TcpCheck> {
 public:
  TcpCheck(asio::io_context& io, TcpProbe probe, ProbeRunner::Done done)
      : stream_(io), resolver_(io), probe_(std::move(probe)), done_(std::move(done)) {}

  void Start(seconds timeout) {
    stream_.expires_after(timeout);
    resolver_.async_resolve(
        probe_.host, std::to_string(probe_.port),
        [self = shared_from_this()](error_code error, tcp::resolver::results_type results) {
          if (error) return self->Finish("dial tcp: lookup " + self->probe_.host, error);
          self->stream_.async_connect(results, [self](error_code connect_error, const auto&) {
            if (connect_error) {
              return self->Finish(
                  "dial tcp " + HostPort(self->probe_.host, self->probe_.port) + ": connect",
                  connect_error);
            }
            self->done_(Success());
          });
        });
  }

 private:
  void Finish(const std::string& what, error_code error) {
    done_(Failure(what + ": " + Describe(error)));
  }

  beast::tcp_stream stream_;
  tcp::resolver resolver_;
  TcpProbe probe_;
  ProbeRunner::Done done_;
};

// Owned by its pending operations.
class HttpCheck : public std::enable_shared_from_this<HttpCheck> {
 public:
  HttpCheck(asio::io_context& io, asio::ssl::context& tls, HttpProbe probe, ProbeRunner::Done done)
      : resolver_(io), stream_(io, tls), probe_(std::move(probe)), done_(std::move(done)) {
    parser_.body_limit(kMaxBodyBytes);
  }

  void Start(seconds timeout) {
    beast::get_lowest_layer(stream_).expires_after(timeout);
    BuildRequest();
    resolver_.async_resolve(
        probe_.host, std::to_string(probe_.port),
        [self = shared_from_this()](error_code error, tcp::resolver::results_type results) {
          if (error) return self->Fail("dial tcp: lookup " + self->probe_.host, error);
          beast::get_lowest_layer(self->stream_)
              .async_connect(results, [self](error_code connect_error, const auto&) {
                if (connect_error) {
                  return self->Fail(
                      "dial tcp " + HostPort(self->probe_.host, self->probe_.port) + ": connect",
                      connect_error);
                }
                self->Handshake();
              });
        });
  }

 private:
  void BuildRequest() {
    request_.method(http::verb::get);
    request_.target(probe_.path);
    request_.version(11);
    request_.set(http::field::host, HostPort(probe_.host, probe_.port));
    request_.set(http::field::user_agent, "kube-probe/1.36");
    request_.set(http::field::accept, "*/*");
    request_.set(http::field::connection, "close");
    for (const auto& [name, value] : probe_.headers) request_.set(name, value);
  }

  void Handshake() {
    if (!probe_.https) return Send();
    stream_.async_handshake(asio::ssl::stream_base::client,
                            [self = shared_from_this()](error_code error) {
                              if (error) return self->Fail("tls handshake", error);
                              self->Send();
                            });
  }

  void Send() {
    auto sent = [self = shared_from_this()](error_code error, size_t) {
      if (error) return self->Fail("write", error);
      self->Receive();
    };
    if (probe_.https) {
      http::async_write(stream_, request_, sent);
    } else {
      http::async_write(beast::get_lowest_layer(stream_), request_, sent);
    }
  }

  void Receive() {
    // The status decides; nothing of the body is needed.
    auto received = [self = shared_from_this()](error_code error, size_t) {
      if (error) return self->Fail("read", error);
      unsigned status = self->parser_.get().result_int();
      if (status >= 200 && status < 400) return self->done_(Success());
      self->done_(Failure("HTTP probe failed with statuscode: " + std::to_string(status)));
    };
    if (probe_.https) {
      http::async_read_header(stream_, buffer_, parser_, received);
    } else {
      http::async_read_header(beast::get_lowest_layer(stream_), buffer_, parser_, received);
    }
  }

  void Fail(const std::string& what, error_code error) {
    std::string url = std::string(probe_.https ? "https" : "http") + "://" +
                      HostPort(probe_.host, probe_.port) + probe_.path;
    std::string reason = error == beast::error::timeout
                             ? "context deadline exceeded (Client.Timeout exceeded while awaiting "
                               "headers)"
                             : what + ": " + Describe(error);
    done_(Failure("Get \"" + url + "\": " + reason));
  }

  tcp::resolver resolver_;
  beast::ssl_stream<beast::tcp_stream> stream_;
  beast::flat_buffer buffer_{64 << 10};
  HttpProbe probe_;
  ProbeRunner::Done done_;
  http::request<http::empty_body> request_;
  http::response_parser<http::buffer_body> parser_;
};

ProbeOutcome RunExec(CriClient& cri, const ExecProbe& probe, seconds timeout) {
  auto output = cri.ExecSync(probe.container_id, probe.command, timeout);
  if (!output.ok()) {
    if (output.error().code() == Code::kDeadlineExceeded) {
      std::string command;
      for (const std::string& word : probe.command) command += (command.empty() ? "" : " ") + word;
      return Failure("command timed out: \"" + command + "\" timed out after " +
                     std::to_string(timeout.count()) + "s");
    }
    return {ProbeOutcome::Kind::kUnknown, output.error().message()};
  }
  if (output->exit_code == 0) return Success();
  return Failure((output->out + output->err).substr(0, kMaxOutputBytes));
}

// grpc.health.v1.Health/Check by hand: the request is {string service = 1}, the answer
// {enum status = 1} with SERVING = 1
// (https://github.com/grpc/grpc/blob/master/doc/health-checking.md).
ProbeOutcome RunGrpc(const GrpcProbe& probe, seconds timeout) {
  std::string body;
  if (!probe.service.empty() && probe.service.size() < 128) {
    body = "\x0a";
    body += static_cast<char>(probe.service.size());
    body += probe.service;
  }
  std::string address = HostPort(probe.host, probe.port);
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  grpc::GenericStub stub(
      grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments));
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + timeout);
  grpc::Slice slice(body);
  grpc::ByteBuffer request(&slice, 1);
  grpc::ByteBuffer response;
  grpc::CompletionQueue queue;
  auto call = stub.PrepareUnaryCall(&context, "/grpc.health.v1.Health/Check", request, &queue);
  call->StartCall();
  grpc::Status status;
  call->Finish(&response, &status, &call);
  void* tag = nullptr;
  bool ok = false;
  queue.Next(&tag, &ok);
  if (!status.ok()) {
    if (status.error_code() == grpc::StatusCode::UNIMPLEMENTED) {
      return Failure(
          "this server does not implement the grpc health protocol "
          "(grpc.health.v1.Health)");
    }
    return Failure("timeout: failed to connect service \"" + address + "\" within " +
                   std::to_string(timeout.count()) + "s: " + status.error_message());
  }
  std::vector<grpc::Slice> slices;
  std::string answer;
  if (response.Dump(&slices).ok()) {
    for (const grpc::Slice& part : slices) {
      answer.append(reinterpret_cast<const char*>(part.begin()), part.size());
    }
  }
  if (answer == std::string("\x08\x01", 2)) return Success();
  return Failure("service unhealthy (responded with \"NOT_SERVING\")");
}

class NodeProbeRunner : public ProbeRunner {
 public:
  NodeProbeRunner(CriClient& cri, Executor& blocking)
      : cri_(cri),
        blocking_(blocking),
        tls_(asio::ssl::context::tls_client),
        work_(asio::make_work_guard(io_)),
        thread_([this] { io_.run(); }) {
    tls_.set_verify_mode(asio::ssl::verify_none);
    ::pthread_setname_np(thread_.native_handle(), "probes");
  }
  ~NodeProbeRunner() override {
    io_.stop();
    thread_.join();
  }

  void Run(const ProbeTarget& target, seconds timeout, Done done) override {
    if (const auto* probe = std::get_if<TcpProbe>(&target)) {
      asio::post(io_, [check = std::make_shared<TcpCheck>(io_, *probe, std::move(done)), timeout] {
        check->Start(timeout);
      });
    } else if (const auto* get = std::get_if<HttpProbe>(&target)) {
      asio::post(io_, [check = std::make_shared<HttpCheck>(io_, tls_, *get, std::move(done)),
                       timeout] { check->Start(timeout); });
    } else if (const auto* exec = std::get_if<ExecProbe>(&target)) {
      blocking_.Post([this, probe = *exec, timeout, done = std::move(done)] {
        done(RunExec(cri_, probe, timeout));
      });
    } else if (const auto* grpc_probe = std::get_if<GrpcProbe>(&target)) {
      blocking_.Post([probe = *grpc_probe, timeout, done = std::move(done)] {
        done(RunGrpc(probe, timeout));
      });
    }
  }

 private:
  CriClient& cri_;
  Executor& blocking_;
  asio::ssl::context tls_;
  asio::io_context io_{1};
  asio::executor_work_guard<asio::io_context::executor_type> work_;
  std::thread thread_;
};

}  // namespace

std::unique_ptr<ProbeRunner> MakeProbeRunner(CriClient& cri, Executor& blocking) {
  return std::make_unique<NodeProbeRunner>(cri, blocking);
}

}  // namespace skiff::agent

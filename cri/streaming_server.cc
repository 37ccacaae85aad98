#include "cri/streaming_server.h"

#include <algorithm>
#include <charconv>
#include <map>
#include <mutex>
#include <utility>
#include <variant>

#include "base/http/server.h"
#include "base/log.h"
#include "base/random.h"
#include "base/streaming/fd_stream.h"
#include "base/streaming/http_stream.h"
#include "base/streaming/port_forward.h"
#include "base/streaming/upgrade.h"

namespace skiff::cri {
namespace {

using streaming::ExecSession;
using streaming::ExecStatus;
using streaming::Stream;
using StreamRef = std::shared_ptr<Stream>;

constexpr std::chrono::seconds kOfferLife{60};
constexpr size_t kMaxOffers = 1000;
// How long output is waited for after a command has ended: a descendant that keeps its pipes open
// must not hold the session.
constexpr std::chrono::seconds kDrain{2};

struct ExecOffer {
  runtime::ExecSpec spec;
  streaming::ExecStreams streams;
};
struct AttachOffer {
  std::string container_id;
  streaming::ExecStreams streams;
  bool accepts_stdin = false;
};
struct PortForwardOffer {
  std::string sandbox_id;
  std::vector<uint16_t> ports;
};
using Offer = std::variant<ExecOffer, AttachOffer, PortForwardOffer>;

// The three pipes between a session and a process: ours as streams, theirs as descriptors.
struct ProcessPipes {
  runtime::Stdio theirs;
  StreamRef in;
  StreamRef out;
  StreamRef err;
};

Result<ProcessPipes> MakePipes(streaming::IoThread& io, bool in, bool out, bool err) {
  ProcessPipes pipes;
  if (in) {
    Pipe pipe = TRY(MakePipe());
    pipes.theirs.in = std::move(pipe.read_end);
    pipes.in = streaming::MakeFdStream(io, UniqueFd(), std::move(pipe.write_end));
  }
  if (out) {
    Pipe pipe = TRY(MakePipe());
    pipes.theirs.out = std::move(pipe.write_end);
    pipes.out = streaming::MakeFdStream(io, std::move(pipe.read_end), UniqueFd());
  }
  if (err) {
    Pipe pipe = TRY(MakePipe());
    pipes.theirs.err = std::move(pipe.write_end);
    pipes.err = streaming::MakeFdStream(io, std::move(pipe.read_end), UniqueFd());
  }
  return pipes;
}

// Reads a stream to its end for nobody: what the client sends to a closed standard input.
void Discard(StreamRef stream) {
  Stream* source = stream.get();
  source->Read([stream = std::move(stream)](Result<std::string> data) {
    if (data.ok() && !data->empty()) Discard(stream);
  });
}

// One running exec or attach: counts the output pumps, and finishes the session when the process
// has ended and its output is through (or the drain is over). Lives in its callbacks.
class CommandSession : public std::enable_shared_from_this<CommandSession> {
 public:
  CommandSession(std::shared_ptr<ExecSession> session, Executor& executor)
      : session_(std::move(session)), executor_(executor) {}

  ExecSession& session() { return *session_; }

  // From the process to the client; counted.
  void PumpOut(StreamRef from, StreamRef to) {
    {
      const std::lock_guard lock(mutex_);
      ++open_outputs_;
      sources_.push_back(from);
    }
    streaming::Pump(std::move(from), std::move(to),
                    [self = shared_from_this()](Result<>) { self->OutputEnded(); });
  }
  // From the client to the process; the session does not wait for it.
  void PumpIn(StreamRef from, StreamRef to) {
    {
      const std::lock_guard lock(mutex_);
      sources_.push_back(to);
    }
    streaming::Pump(std::move(from), std::move(to), [](Result<>) {});
  }

  // The command ended so; called once.
  void SetStatus(ExecStatus status) {
    {
      const std::lock_guard lock(mutex_);
      if (status_) return;
      status_ = std::move(status);
    }
    executor_.PostAfter(kDrain, [self = shared_from_this()] { self->Finish(); });
    FinishIfDone();
  }
  // Nothing waits for a status: the end of the output is the end (attach).
  void EndWithOutput() {
    {
      const std::lock_guard lock(mutex_);
      status_ = ExecStatus::Success();
    }
    FinishIfDone();
  }
  // The client left: let go of the process's streams.
  void Abandon() {
    std::vector<StreamRef> sources;
    {
      const std::lock_guard lock(mutex_);
      sources.swap(sources_);
    }
    for (const StreamRef& source : sources) source->Reset();
  }

 private:
  void OutputEnded() {
    {
      const std::lock_guard lock(mutex_);
      --open_outputs_;
    }
    FinishIfDone();
  }
  void FinishIfDone() {
    {
      const std::lock_guard lock(mutex_);
      if (!status_ || open_outputs_ > 0) return;
    }
    Finish();
  }
  void Finish() {
    ExecStatus status;
    {
      const std::lock_guard lock(mutex_);
      if (finished_ || !status_) return;
      finished_ = true;
      status = *status_;
    }
    session_->Finish(status);
    Abandon();
  }

  const std::shared_ptr<ExecSession> session_;
  Executor& executor_;
  std::mutex mutex_;  // guards all below
  int open_outputs_ = 0;
  std::optional<ExecStatus> status_;
  bool finished_ = false;
  std::vector<StreamRef> sources_;
};

class LoopbackStreamingServer : public StreamingServer {
 public:
  LoopbackStreamingServer(runtime::Runtime& runtime, Executor& blocking)
      : runtime_(runtime), blocking_(blocking) {}

  Result<> Listen(const std::string& address) {
    http::ServerOptions options;
    options.listen = address;
    options.io_threads = 1;
    server_ = TRY(http::Server::Start(
        std::move(options),
        [this](http::Request request, std::shared_ptr<http::ResponseWriter> writer) {
          Handle(std::move(request), std::move(writer));
        },
        blocking_));
    return {};
  }
  ~LoopbackStreamingServer() override {
    if (server_) server_->Stop(std::chrono::milliseconds(0));
  }

  std::string OfferExec(runtime::ExecSpec spec, streaming::ExecStreams streams) override {
    return Publish("exec", ExecOffer{std::move(spec), streams});
  }
  std::string OfferAttach(std::string container_id, streaming::ExecStreams streams,
                          bool accepts_stdin) override {
    return Publish("attach", AttachOffer{std::move(container_id), streams, accepts_stdin});
  }
  std::string OfferPortForward(std::string sandbox_id, std::vector<uint16_t> ports) override {
    return Publish("portforward", PortForwardOffer{std::move(sandbox_id), std::move(ports)});
  }

 private:
  struct Pending {
    Offer offer;
    SteadyTime expires;
  };

  std::string Publish(const char* kind, Offer offer) {
    const std::string path = std::string("/") + kind + "/" + RandomHex(16);
    const SteadyTime now = blocking_.clock().Now();
    const std::lock_guard lock(mutex_);
    std::erase_if(offers_, [&](const auto& entry) { return entry.second.expires <= now; });
    if (offers_.size() >= kMaxOffers) {
      const auto oldest = std::min_element(
          offers_.begin(), offers_.end(),
          [](const auto& a, const auto& b) { return a.second.expires < b.second.expires; });
      offers_.erase(oldest);
    }
    offers_[path] = {std::move(offer), now + kOfferLife};
    return "http://" + server_->address() + path;
  }

  std::optional<Offer> Take(const std::string& path) {
    const std::lock_guard lock(mutex_);
    const auto it = offers_.find(path);
    if (it == offers_.end()) return std::nullopt;
    Pending pending = std::move(it->second);
    offers_.erase(it);
    if (pending.expires <= blocking_.clock().Now()) return std::nullopt;
    return std::move(pending.offer);
  }

  void Handle(http::Request request, std::shared_ptr<http::ResponseWriter> writer) {
    const streaming::HeaderList& headers = request.headers.fields();
    if (!streaming::IsUpgrade(headers)) {
      writer->Send(http::Response::Text(400, "unable to upgrade: missing upgrade headers"));
      return;
    }
    auto offer = Take(request.path);
    if (!offer) {
      writer->Send(http::Response::Text(404, "unknown or used streaming token"));
      return;
    }
    const bool forward = std::holds_alternative<PortForwardOffer>(*offer);
    auto upgrade =
        forward ? streaming::NegotiatePortForward(headers) : streaming::NegotiateExec(headers);
    if (!upgrade.ok()) {
      const int status = upgrade.error().code() == Code::kPermissionDenied ? 403 : 400;
      writer->Send(http::Response::Text(status, upgrade.error().message()));
      return;
    }
    http::StreamPtr raw = writer->Hijack();
    raw->AsyncWrite(streaming::ResponseHead(*upgrade), [](Result<>) {});
    StreamRef connection = streaming::FromRawStream(std::move(raw));
    if (forward) {
      ServeForward(std::get<PortForwardOffer>(*std::move(offer)), std::move(connection), *upgrade,
                   request.query);
    } else {
      ServeCommand(*std::move(offer), std::move(connection), *upgrade);
    }
  }

  // ---- exec and attach ----

  void ServeCommand(Offer offer, StreamRef connection, const streaming::Upgrade& upgrade) {
    const streaming::ExecStreams streams = std::holds_alternative<ExecOffer>(offer)
                                               ? std::get<ExecOffer>(offer).streams
                                               : std::get<AttachOffer>(offer).streams;
    streaming::ServeExec(
        blocking_, std::move(connection), upgrade, streams,
        [this, offer = std::move(offer)](Result<std::shared_ptr<ExecSession>> session) mutable {
          if (!session.ok()) {
            log::Debug("a streaming client did not open its streams", {{"error", session.error()}});
            return;
          }
          // The runtime's calls block; this callback must not.
          blocking_.Post([this, offer = std::move(offer), session = *std::move(session)]() mutable {
            auto command = std::make_shared<CommandSession>(session, blocking_);
            Result<> begun = std::holds_alternative<ExecOffer>(offer)
                                 ? BeginExec(std::get<ExecOffer>(std::move(offer)), command)
                                 : BeginAttach(std::get<AttachOffer>(std::move(offer)), command);
            if (!begun.ok()) session->Finish(ExecStatus::InternalError(begun.error().message()));
          });
        });
  }

  Result<> BeginExec(ExecOffer offer, const std::shared_ptr<CommandSession>& command) {
    const bool tty = offer.streams.tty;
    ExecSession& session = command->session();
    ProcessPipes pipes = TRY(MakePipes(io_, offer.streams.in && !tty, offer.streams.out && !tty,
                                       offer.streams.err && !tty));
    std::shared_ptr<runtime::ExecProcess> process =
        TRY(runtime_.Exec(offer.spec, std::move(pipes.theirs)));
    if (tty) {
      const StreamRef terminal = streaming::MakeFdStream(io_, process->TakeTerminal());
      pipes.in = offer.streams.in ? terminal : nullptr;
      pipes.out = terminal;
      session.OnResize([process](streaming::TerminalSize size) {
        // A process that has ended has no terminal any more.
        (void)process->ResizeTerminal(size.height, size.width);
      });
    }
    Connect(pipes, command);
    session.OnGone([this, command, process] {
      command->Abandon();
      blocking_.Post([process] { (void)process->Kill(); });  // it may have ended already
    });
    // The process object lives as long as its callback is pending.
    process->OnExit([command, process](const runtime::ContainerExit& exit) {
      command->SetStatus(exit.start_error.empty() ? ExecStatus::Exited(exit.status.ShellCode())
                                                  : ExecStatus::InternalError(exit.start_error));
    });
    return {};
  }

  Result<> BeginAttach(AttachOffer offer, const std::shared_ptr<CommandSession>& command) {
    ExecSession& session = command->session();
    const bool tty = offer.streams.tty;
    ProcessPipes pipes = TRY(MakePipes(io_, offer.streams.in && offer.accepts_stdin,
                                       offer.streams.out, offer.streams.err && !tty));
    TRY(runtime_.Attach(offer.container_id, std::move(pipes.theirs)));
    if (tty) {
      session.OnResize([this, id = offer.container_id](streaming::TerminalSize size) {
        blocking_.Post([this, id, size] {
          (void)runtime_.ResizeTerminal(id, size.height, size.width);  // it may have ended
        });
      });
    }
    session.OnGone([command] { command->Abandon(); });
    Connect(pipes, command);
    if (pipes.out || pipes.err) {
      command->EndWithOutput();
    } else {
      command->SetStatus(ExecStatus::Success());
    }
    return {};
  }

  static void Connect(const ProcessPipes& pipes, const std::shared_ptr<CommandSession>& command) {
    ExecSession& session = command->session();
    if (session.in() != nullptr) {
      if (pipes.in != nullptr) {
        command->PumpIn(session.in(), pipes.in);
      } else {
        Discard(session.in());
      }
    }
    if (pipes.out != nullptr) {
      if (session.out() != nullptr) {
        command->PumpOut(pipes.out, session.out());
      } else {
        Discard(pipes.out);  // a terminal that nobody watches must not block
      }
    }
    if (pipes.err != nullptr && session.err() != nullptr) {
      command->PumpOut(pipes.err, session.err());
    }
  }

  // ---- port-forward ----

  void ServeForward(PortForwardOffer offer, StreamRef connection, const streaming::Upgrade& upgrade,
                    const http::Query& query) {
    // WebSocket clients name the ports in the query.
    std::vector<uint16_t> ports;
    for (const std::string_view text : query.GetAll("port")) {
      uint16_t port = 0;
      if (std::from_chars(text.data(), text.data() + text.size(), port).ec == std::errc()) {
        ports.push_back(port);
      }
    }
    if (ports.empty()) ports = offer.ports;
    auto served = streaming::ServePortForward(blocking_, std::move(connection), upgrade, ports);
    if (!served.ok()) {
      log::Debug("a port-forward client asked for nonsense", {{"error", served.error()}});
      return;
    }
    const std::shared_ptr<streaming::PortForwardSession> session = *std::move(served);
    session->Start(
        [this, sandbox_id = offer.sandbox_id](streaming::PortConnection client) {
          blocking_.Post(
              [this, sandbox_id, client = std::move(client)] { Forward(sandbox_id, client); });
        },
        [session] {});  // keeps the session until its client is gone
  }

  void Forward(const std::string& sandbox_id, const streaming::PortConnection& client) {
    auto socket = runtime_.ConnectToPort(sandbox_id, client.port);
    if (!socket.ok()) {
      client.error->Write("port " + std::to_string(client.port) + ": " + socket.error().message(),
                          [error = client.error, data = client.data](Result<>) {
                            error->CloseWrite();
                            data->CloseWrite();
                          });
      return;
    }
    const StreamRef pod = streaming::MakeFdStream(io_, *std::move(socket));
    // Each direction ends by itself; a broken one takes the other with it.
    const auto ended = [pod, data = client.data, error = client.error](Result<> outcome) {
      if (outcome.ok()) return;
      pod->Reset();
      data->Reset();
    };
    streaming::Pump(client.data, pod, ended);
    streaming::Pump(pod, client.data, [ended, error = client.error](Result<> outcome) {
      ended(std::move(outcome));
      error->CloseWrite();
    });
  }

  runtime::Runtime& runtime_;
  Executor& blocking_;
  streaming::IoThread io_;
  std::mutex mutex_;  // guards offers_
  std::map<std::string, Pending> offers_;
  std::unique_ptr<http::Server> server_;
};

}  // namespace

Result<std::unique_ptr<StreamingServer>> StreamingServer::Start(const std::string& address,
                                                                runtime::Runtime& runtime,
                                                                Executor& blocking) {
  auto server = std::make_unique<LoopbackStreamingServer>(runtime, blocking);
  TRY(server->Listen(address));
  return std::unique_ptr<StreamingServer>(std::move(server));
}

}  // namespace skiff::cri

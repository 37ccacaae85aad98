#include "control-plane/rpc/bridges.h"

#include <optional>

namespace skiff::cp {

using streaming::ExecSession;
using streaming::ExecStatus;
using streaming::PortConnection;
using streaming::PortForwardSession;
using streaming::Pump;
using streaming::Stream;

namespace {

constexpr uint32_t kExecChannels = 5;
constexpr uint32_t kPortChannels = 2;

// ---- logs ----

class LogBridge : public std::enable_shared_from_this<LogBridge> {
 public:
  LogBridge(std::shared_ptr<Tunnel> tunnel, std::shared_ptr<http::ResponseStream> answer)
      : tunnel_(std::move(tunnel)), answer_(std::move(answer)) {}

  void Start() {
    lines_ = tunnel_->Attach(kTunnelOut);
    tunnel_->Start();
    // The answer's handler must not hold the answer.
    answer_->OnClosed([tunnel = tunnel_] { tunnel->Abort(); });
    Read();
  }

 private:
  void Read() {
    lines_->Read([self = shared_from_this()](Result<std::string> data) {
      if (!data.ok()) {
        self->answer_->Abort();
      } else if (data->empty()) {
        self->answer_->End();
      } else {
        return self->Send(std::move(*data));
      }
      self->tunnel_->Abort();
    });
  }

  void Send(std::string data) {
    constexpr size_t kQueueBytes = 256 << 10;  // well below the server's own bound
    if (answer_->queued_bytes() < kQueueBytes) {
      if (!answer_->Write(std::move(data))) return tunnel_->Abort();
      return Read();
    }
    answer_->OnDrained([self = shared_from_this(), data = std::move(data)]() mutable {
      if (!self->answer_->Write(std::move(data))) return self->tunnel_->Abort();
      self->Read();
    });
  }

  std::shared_ptr<Tunnel> tunnel_;
  std::shared_ptr<http::ResponseStream> answer_;
  std::shared_ptr<Stream> lines_;
};

// ---- exec and attach ----

class ExecBridge : public std::enable_shared_from_this<ExecBridge> {
 public:
  ExecBridge(Executor& executor, std::shared_ptr<Tunnel> tunnel,
             std::shared_ptr<ExecSession> session, std::string node)
      : strand_(executor),
        tunnel_(std::move(tunnel)),
        session_(std::move(session)),
        node_(std::move(node)) {}

  void Start() {
    session_->OnGone([tunnel = tunnel_] { tunnel->Abort(); });
    session_->OnResize([resize = tunnel_->Attach(kTunnelResize)](streaming::TerminalSize size) {
      resize->Write(streaming::FormatTerminalSize(size), nullptr);
    });
    status_stream_ = tunnel_->Attach(kTunnelStatus);
    if (auto in = session_->in()) Pump(in, tunnel_->Attach(kTunnelIn), [](Result<>) {});
    Copy(kTunnelOut, session_->out());
    Copy(kTunnelErr, session_->err());
    tunnel_->Start();
    ReadStatus();
  }

 private:
  // Output that the client did not ask for still has to be read off the tunnel.
  void Copy(uint32_t channel, std::shared_ptr<Stream> to) {
    std::shared_ptr<Stream> from = tunnel_->Attach(channel);
    if (to == nullptr) {
      tunnel_->Post([tunnel = tunnel_, channel] { tunnel->Discard(channel); });
      return;
    }
    ++copies_;
    Pump(std::move(from), std::move(to), [self = shared_from_this()](Result<>) {
      self->strand_.Post([self] {
        --self->copies_;
        self->FinishIfDone();
      });
    });
  }

  void ReadStatus() {
    status_stream_->Read([self = shared_from_this()](Result<std::string> data) {
      self->strand_.Post([self, data = std::move(data)] { self->TakeStatus(data); });
    });
  }

  void TakeStatus(const Result<std::string>& data) {
    if (data.ok() && !data->empty()) {
      status_text_ += *data;
      Result<ExecStatus> parsed = ExecStatus::FromJson(status_text_);
      if (!parsed.ok() && status_text_.size() < streaming::kMaxReadBytes) return ReadStatus();
      if (parsed.ok()) status_ = std::move(*parsed);
    }
    if (!status_) {
      status_ = ExecStatus::InternalError("the connection to node \"" + node_ +
                                          "\" was lost before the command ended");
    }
    FinishIfDone();
  }

  // The status goes out behind the last of the output.
  void FinishIfDone() {
    if (!status_ || copies_ > 0) return;
    session_->Finish(*status_);
    tunnel_->Abort();
  }

  Strand strand_;
  std::shared_ptr<Tunnel> tunnel_;
  std::shared_ptr<ExecSession> session_;
  const std::string node_;
  std::shared_ptr<Stream> status_stream_;
  int copies_ = 0;  // set up before the first callback, then on the strand
  std::string status_text_;
  std::optional<ExecStatus> status_;
};

// ---- port-forward ----

// One forwarded connection.
class PortBridge : public std::enable_shared_from_this<PortBridge> {
 public:
  PortBridge(Executor& executor, std::shared_ptr<Tunnel> tunnel, PortConnection client,
             bool half_close)
      : strand_(executor),
        tunnel_(std::move(tunnel)),
        client_(std::move(client)),
        half_close_(half_close) {}

  void Start() {
    std::shared_ptr<Stream> data = tunnel_->Attach(0);
    tunnel_->AnnouncePort(client_.port);
    Pump(client_.data, data, Ended([this](bool ok) {
           if (!ok) tunnel_->Abort();  // the client gave the connection up
         }));
    Pump(data, client_.data, Ended([this](bool ok) {
           if (!ok || !half_close_) client_.data->Reset();
         }));
    Pump(tunnel_->Attach(1), client_.error, Ended([this](bool) { client_.error->CloseWrite(); }));
    tunnel_->Start();
  }

 private:
  template <class Then>
  std::function<void(Result<>)> Ended(Then then) {
    return [self = shared_from_this(), then](Result<> outcome) {
      self->strand_.Post([self, then, ok = outcome.ok()] {
        then(ok);
        if (++self->ended_ == 3) self->tunnel_->Abort();
      });
    };
  }

  Strand strand_;
  std::shared_ptr<Tunnel> tunnel_;
  PortConnection client_;
  const bool half_close_;
  int ended_ = 0;
};

}  // namespace

void BridgeLog(Executor& executor, std::shared_ptr<Stream> messages,
               std::shared_ptr<http::ResponseStream> answer) {
  auto tunnel = Tunnel::Make(executor, std::move(messages), kTunnelOut + 1);
  std::make_shared<LogBridge>(std::move(tunnel), std::move(answer))->Start();
}

void BridgeExec(Executor& executor, std::shared_ptr<Stream> messages,
                std::shared_ptr<ExecSession> session, const std::string& node) {
  auto tunnel = Tunnel::Make(executor, std::move(messages), kExecChannels);
  std::make_shared<ExecBridge>(executor, std::move(tunnel), std::move(session), node)->Start();
}

void BridgePortForward(Executor& executor, std::shared_ptr<PortForwardSession> session,
                       OpenPortTunnel open, bool half_close) {
  // The session lives until its client leaves: its own handler holds it.
  session->Start(
      [&executor, open, half_close](PortConnection connection) {
        open(connection.port, [&executor, connection, half_close](TunnelAnswer answer) {
          if (answer.messages == nullptr) {
            connection.error->Write(answer.message, nullptr);
            connection.error->CloseWrite();
            connection.data->Reset();
            return;
          }
          auto tunnel = Tunnel::Make(executor, std::move(answer.messages), kPortChannels);
          std::make_shared<PortBridge>(executor, tunnel, connection, half_close)->Start();
        });
      },
      [session] {});
}

}  // namespace skiff::cp

#include "agent/tunnel/tunnels.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <condition_variable>
#include <future>
#include <map>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "agent/spec/pod_config.h"
#include "agent/tunnel/log_reader.h"
#include "base/log.h"
#include "base/os/unique_fd.h"
#include "base/streaming/client.h"
#include "proto/k8s/core/v1/pod.pb.h"
#include "proto/skiff/node/v1/node.pb.h"

namespace skiff::agent {
namespace {

namespace link = skiff::node::v1;
using std::chrono::seconds;
using streaming::ExecClient;
using streaming::ExecStatus;
using streaming::Stream;
using TunnelPtr = std::shared_ptr<TunnelStream>;

constexpr seconds kDialTimeout{30};

// A refusal in the API's terms.
struct Refusal {
  int http_status = 500;
  std::string reason = "InternalError";
  std::string message;
};
Refusal BadRequest(std::string message) { return {400, "BadRequest", std::move(message)}; }
Refusal RefusalOf(const Error& error) {
  switch (error.code()) {
    case Code::kNotFound: return {404, "NotFound", error.message()};
    case Code::kInvalidArgument:
    case Code::kFailedPrecondition: return BadRequest(error.message());
    case Code::kUnavailable: return {503, "ServiceUnavailable", error.message()};
    default: return {500, "InternalError", error.message()};
  }
}

// One tunnel, on a thread of the blocking executor.
class Server {
 public:
  Server(const TunnelDeps& deps, const link::TunnelRequest& request)
      : deps_(deps), request_(request) {}

  void Run() {
    auto refusal = Serve();
    if (!refusal) return;
    deps_.link.RefuseTunnel(request_.tunnel_id(), refusal->http_status, refusal->reason,
                            refusal->message);
  }

 private:
  std::optional<Refusal> Serve() {
    auto view = deps_.workers.Find(request_.namespace_(), request_.pod(), request_.pod_uid());
    if (!view.ok()) return RefusalOf(view.error());
    view_ = *view;
    if (view_->pod == nullptr) return RefusalOf(Error(Code::kNotFound, "the pod is being removed"));
    if (request_.has_logs()) return ServeLogs(request_.logs());
    if (request_.has_exec()) return ServeExec();
    if (request_.has_attach()) return ServeExec();
    if (request_.has_port_forward()) return ServePortForward();
    return BadRequest("the node does not know this kind of request");
  }

  // ---- logs ----

  std::optional<Refusal> ServeLogs(const link::TunnelRequest::Logs& request) {
    const std::string& name = request.container();
    const ObservedContainer* newest = nullptr;
    const ObservedContainer* before = nullptr;
    for (const ObservedContainer& container : view_->observed.containers) {
      if (container.name != name) continue;
      if (newest == nullptr) {
        newest = &container;
      } else if (before == nullptr) {
        before = &container;
      }
    }
    const ObservedContainer* wanted = request.previous() ? before : newest;
    // In back-off, the run that crashed is both the present and the previous one.
    if (request.previous() && before == nullptr && newest != nullptr &&
        newest->phase == ContainerPhase::kExited && newest->attempt > 0) {
      wanted = newest;
    }
    if (wanted == nullptr && request.previous()) {
      return BadRequest("previous terminated container \"" + name + "\" in pod \"" +
                        request_.pod() + "\" not found");
    }
    if (wanted == nullptr || wanted->phase == ContainerPhase::kCreated) {
      return BadRequest("container \"" + name + "\" in pod \"" + request_.pod() +
                        "\" is waiting to start: " + WaitingReasonOf(name));
    }
    LogOptions options;
    options.follow = request.follow();
    options.timestamps = request.timestamps();
    if (request.has_tail_lines()) options.tail_lines = request.tail_lines();
    if (request.has_limit_bytes()) options.limit_bytes = request.limit_bytes();
    if (request.has_since_seconds()) {
      options.since = Clock::Real().WallNow() - seconds(request.since_seconds());
    } else if (!request.since_time().empty()) {
      auto since = ParseTime(request.since_time());
      if (!since.ok()) return BadRequest("invalid sinceTime: " + since.error().message());
      options.since = *since;
    }
    if (request.stream() == "Stdout") options.stream = "stdout";
    if (request.stream() == "Stderr") options.stream = "stderr";
    std::string path = wanted->log_path;
    if (!path.starts_with('/')) {
      path = deps_.log_dir + "/" + view_->log_directory + "/" + LogPath(name, wanted->attempt);
    }
    return StreamLog(path, options, wanted->id);
  }

  std::string WaitingReasonOf(const std::string& name) const {
    for (const auto* list : {&view_->pod->status().container_statuses(),
                             &view_->pod->status().init_container_statuses()}) {
      for (const auto& status : *list) {
        if (status.name() == name && status.state().has_waiting()) {
          return status.state().waiting().reason();
        }
      }
    }
    return "ContainerCreating";
  }

  std::optional<Refusal> StreamLog(const std::string& path, const LogOptions& options,
                                   const std::string& container_id) {
    auto tunnel = deps_.link.OpenTunnel(request_.tunnel_id());
    if (!tunnel.ok()) return RefusalOf(tunnel.error());
    auto stop = std::make_shared<UniqueFd>(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    LogSink sink;
    sink.stop_fd = stop->get();
    sink.write = [&](std::string data) { return (*tunnel)->Send({1, std::move(data), false, 0}); };
    sink.running = [&] {
      auto now = deps_.workers.Find(request_.namespace_(), request_.pod(), request_.pod_uid());
      if (!now.ok()) return false;
      const ObservedContainer* container = (*now)->observed.ById(container_id);
      return container != nullptr && container->phase == ContainerPhase::kRunning;
    };
    // The request's first frame must go out even if the log is empty.
    (void)(*tunnel)->Send({1, "", false, 0});
    // Nothing comes from the user but their leaving.
    deps_.blocking.Post([tunnel = *tunnel, stop] {
      TunnelStream::Frame frame;
      while (tunnel->Receive(&frame)) {
      }
      uint64_t one = 1;
      (void)!::write(stop->get(), &one, sizeof one);
    });
    auto read = ReadLog(path, options, sink);
    if (!read.ok() && read.error().code() != Code::kNotFound) {
      log::Warning("reading a container's log failed", {{"path", path}, {"error", read.error()}});
    }
    (void)(*tunnel)->Send({1, "", true, 0});
    (*tunnel)->Finish();
    return std::nullopt;
  }

  // ---- exec and attach ----

  struct Session {
    TunnelPtr tunnel;
    std::shared_ptr<ExecClient> client;
    std::mutex mutex;
    std::condition_variable wake;
    int pumps = 0;
    std::optional<ExecStatus> status;

    void PumpDone() {
      std::lock_guard lock(mutex);
      --pumps;
      wake.notify_all();
    }
    void SetStatus(ExecStatus value) {
      std::lock_guard lock(mutex);
      if (!status) status = std::move(value);
      wake.notify_all();
    }
    // Once the output is drained and the end is known.
    ExecStatus AwaitEnd() {
      std::unique_lock lock(mutex);
      wake.wait(lock, [this] { return status.has_value(); });
      // Output that a descendant of the command holds open must not hold the end back.
      wake.wait_for(lock, seconds(10), [this] { return pumps == 0; });
      return *status;
    }
  };

  std::optional<Refusal> ServeExec() {
    ExecWish wish;
    std::string name;
    if (request_.has_exec()) {
      const auto& exec = request_.exec();
      name = exec.container();
      wish.command.assign(exec.command().begin(), exec.command().end());
      wish.in = exec.stdin();
      wish.out = exec.stdout();
      wish.err = exec.stderr();
      wish.tty = exec.tty();
      if (wish.command.empty()) return BadRequest("you must specify at least 1 command");
    } else {
      const auto& attach = request_.attach();
      name = attach.container();
      wish.in = attach.stdin();
      wish.out = attach.stdout();
      wish.err = attach.stderr();
      wish.tty = attach.tty();
    }
    if (wish.tty) wish.err = false;
    const ObservedContainer* container = view_->observed.Newest(name);
    if (container == nullptr) {
      return RefusalOf(Error(Code::kNotFound, "container not found (\"" + name + "\")"));
    }
    wish.container_id = container->id;
    auto url = deps_.cri.StreamingUrl(wish);
    if (!url.ok()) return RefusalOf(url.error());
    streaming::ExecStreams streams{wish.in, wish.out, wish.err, wish.tty};
    std::promise<Result<std::shared_ptr<ExecClient>>> dialled;
    streaming::DialExec(deps_.io, deps_.blocking, *url, deps_.transport, streams, kDialTimeout,
                        [&dialled](Result<std::shared_ptr<ExecClient>> client) {
                          dialled.set_value(std::move(client));
                        });
    auto client = dialled.get_future().get();
    if (!client.ok()) return RefusalOf(client.error());
    auto tunnel = deps_.link.OpenTunnel(request_.tunnel_id());
    if (!tunnel.ok()) return RefusalOf(tunnel.error());
    RunSession(*tunnel, *client);
    return std::nullopt;
  }

  void RunSession(const TunnelPtr& tunnel, const std::shared_ptr<ExecClient>& client) {
    auto session = std::make_shared<Session>();
    session->tunnel = tunnel;
    session->client = client;
    (void)tunnel->Send({1, "", false, 0});  // names the tunnel
    StartPump(session, client->out(), 1);
    StartPump(session, client->err(), 2);
    client->OnStatus([session](Result<ExecStatus> status) {
      session->SetStatus(status.ok() ? *status
                                     : ExecStatus::InternalError(status.error().message()));
    });
    deps_.blocking.Post([session] { FeedInput(*session); });
    ExecStatus status = session->AwaitEnd();
    (void)tunnel->Send({3, status.ToJson(), true, 0});
    tunnel->Finish();
  }

  void StartPump(const std::shared_ptr<Session>& session, std::shared_ptr<Stream> from,
                 uint32_t channel) {
    if (from == nullptr) return;
    {
      std::lock_guard lock(session->mutex);
      ++session->pumps;
    }
    deps_.blocking.Post([session, from = std::move(from), channel] {
      for (;;) {
        auto data = streaming::ReadBlocking(*from);
        if (!data.ok() || data->empty()) break;
        if (!session->tunnel->Send({channel, *std::move(data), false, 0})) break;
      }
      (void)session->tunnel->Send({channel, "", true, 0});
      session->PumpDone();
    });
  }

  // From the user to the command, until either end is gone.
  static void FeedInput(Session& session) {
    std::shared_ptr<Stream> in = session.client->in();
    TunnelStream::Frame frame;
    while (session.tunnel->Receive(&frame)) {
      if (frame.channel == 4) {
        auto size = streaming::ParseTerminalSize(frame.data);
        if (size.ok()) session.client->Resize(*size);
      } else if (frame.channel == 0 && in != nullptr) {
        if (!frame.data.empty() && !streaming::WriteBlocking(*in, std::move(frame.data)).ok()) {
          in = nullptr;  // the command reads no more; its end will come by itself
        } else if (frame.close) {
          in->CloseWrite();
        }
      }
    }
    // The user left, or all is said. A command that goes on is left alone, as by kubelet; its
    // session ends, and with it the pumps.
    session.SetStatus(ExecStatus::InternalError("the client is gone"));
    for (const auto& stream :
         {session.client->in(), session.client->out(), session.client->err()}) {
      if (stream != nullptr) stream->Reset();
    }
  }

  // ---- port-forward ----

  struct Forward {
    TunnelPtr tunnel;
    std::string url;
    // Of the receiving thread. Null: nothing more comes from the user.
    std::map<uint32_t, std::shared_ptr<Stream>> connections;
    std::vector<std::weak_ptr<Stream>> answering;  // of those, what the pod goes on to say

    // The connection lives as long as the pod says something: who forwards a port for days is not
    // to hold all that have ended.
    void CloseInput(uint32_t number) {
      std::shared_ptr<Stream> data = std::exchange(connections[number], nullptr);
      data->CloseWrite();
      std::erase_if(answering, [](const auto& stream) { return stream.expired(); });
      answering.push_back(data);
    }
    void ResetAll() {
      for (const auto& [number, data] : connections) {
        if (data != nullptr) data->Reset();
      }
      for (const auto& stream : answering) {
        if (auto data = stream.lock()) data->Reset();
      }
    }
  };

  std::optional<Refusal> ServePortForward() {
    const ObservedSandbox* sandbox = view_->observed.NewestSandbox();
    if (sandbox == nullptr || !sandbox->ready) {
      return BadRequest("unable to forward port because pod is not running. Current status=" +
                        view_->pod->status().phase());
    }
    std::vector<int> ports(request_.port_forward().ports().begin(),
                           request_.port_forward().ports().end());
    auto tunnel = deps_.link.OpenTunnel(request_.tunnel_id());
    if (!tunnel.ok()) return RefusalOf(tunnel.error());
    auto forward = std::make_shared<Forward>();
    forward->tunnel = *tunnel;
    (void)(*tunnel)->Send({0, "", false, 0});  // names the tunnel
    TunnelStream::Frame frame;
    while ((*tunnel)->Receive(&frame)) {
      if (frame.channel % 2 != 0) continue;  // nothing is said to us on the error channels
      uint32_t number = frame.channel / 2;
      if (!forward->connections.contains(number)) {
        if (frame.port == 0) continue;
        OpenConnection(forward, number, frame.port);
      }
      std::shared_ptr<Stream> data = forward->connections[number];
      if (data == nullptr) continue;
      if (!frame.data.empty()) (void)streaming::WriteBlocking(*data, std::move(frame.data));
      if (frame.close) forward->CloseInput(number);
    }
    forward->ResetAll();
    (*tunnel)->Finish();
    return std::nullopt;
  }

  void OpenConnection(const std::shared_ptr<Forward>& forward, uint32_t number, uint32_t port) {
    uint32_t data_channel = 2 * number;
    uint32_t error_channel = 2 * number + 1;
    const ObservedSandbox* sandbox = view_->observed.NewestSandbox();
    auto fail = [&](const std::string& message) {
      (void)forward->tunnel->Send({error_channel, message, true, 0});
      (void)forward->tunnel->Send({data_channel, "", true, 0});
      forward->connections[number] = nullptr;
    };
    // Each URL is good for one connection.
    auto url = deps_.cri.PortForwardUrl(sandbox->id, {static_cast<int>(port)});
    if (!url.ok()) return fail(url.error().message());
    std::promise<Result<streaming::PortConnection>> dialled;
    streaming::DialPortForward(deps_.io, deps_.blocking, *url, deps_.transport,
                               static_cast<uint16_t>(port), kDialTimeout,
                               [&dialled](Result<streaming::PortConnection> connection) {
                                 dialled.set_value(std::move(connection));
                               });
    auto connection = dialled.get_future().get();
    if (!connection.ok()) return fail(connection.error().message());
    forward->connections[number] = connection->data;
    auto pump = [&](const std::shared_ptr<Stream>& from, uint32_t channel) {
      if (from == nullptr) return;
      deps_.blocking.Post([forward, from, channel] {
        for (;;) {
          auto data = streaming::ReadBlocking(*from);
          if (!data.ok() || data->empty()) break;
          if (!forward->tunnel->Send({channel, *std::move(data), false, 0})) break;
        }
        (void)forward->tunnel->Send({channel, "", true, 0});
      });
    };
    pump(connection->data, data_channel);
    pump(connection->error, error_channel);
  }

  const TunnelDeps& deps_;
  const link::TunnelRequest& request_;
  std::shared_ptr<const PodView> view_;
};

}  // namespace

void Tunnels::Handle(const link::TunnelRequest& request) {
  deps_.blocking.Post([this, request] { Server(deps_, request).Run(); });
}

}  // namespace skiff::agent

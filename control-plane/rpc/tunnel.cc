#include "control-plane/rpc/tunnel.h"

#include <mutex>
#include <vector>

#include "base/random.h"
#include "proto/skiff/node/v1/node.pb.h"

namespace skiff::cp {

namespace {
using node::v1::TunnelFrame;
}

std::shared_ptr<Tunnel> Tunnel::Make(Executor& executor,
                                     std::shared_ptr<streaming::Stream> messages,
                                     uint32_t channels) {
  std::shared_ptr<Tunnel> tunnel(new Tunnel(executor, std::move(messages)));
  for (uint32_t id = 0; id < channels; ++id) tunnel->Open(id);
  return tunnel;
}

void Tunnel::AnnouncePort(uint16_t port) {
  TunnelFrame frame;
  frame.set_port(port);
  Post([self = std::static_pointer_cast<Tunnel>(shared_from_this()),
        bytes = frame.SerializeAsString()] { self->SendBytes(bytes, nullptr); });
}

Result<> Tunnel::OnBytes(std::string_view bytes) {
  TunnelFrame frame;
  if (!frame.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
    return Error(Code::kInvalidArgument, "not a tunnel frame");
  }
  if (!Knows(frame.channel())) return {};
  Deliver(frame.channel(), frame.data());
  if (frame.close()) DeliverEnd(frame.channel());
  return {};
}

std::string Tunnel::EncodeData(uint32_t id, std::string_view data) {
  TunnelFrame frame;
  frame.set_channel(id);
  frame.set_data(data.data(), data.size());
  return frame.SerializeAsString();
}

std::string Tunnel::EncodeEnd(uint32_t id) {
  TunnelFrame frame;
  frame.set_channel(id);
  frame.set_close(true);
  return frame.SerializeAsString();
}

// ---- the desk ----

struct TunnelDesk::State {
  explicit State(Executor& e) : executor(e) {}
  struct Waiting {
    std::string node;
    std::function<void(TunnelAnswer)> done;
    Executor::TimerId timer = 0;
  };

  Executor& executor;
  std::mutex mutex;  // a leaf
  std::map<std::string, Waiting> waiting;

  // Takes out what waits for the id, if it is that node's.
  std::function<void(TunnelAnswer)> Take(const std::string& node, const std::string& id) {
    std::lock_guard lock(mutex);
    auto found = waiting.find(id);
    if (found == waiting.end() || found->second.node != node) return nullptr;
    executor.Cancel(found->second.timer);
    auto done = std::move(found->second.done);
    waiting.erase(found);
    return done;
  }

  void Answer(std::function<void(TunnelAnswer)> done, TunnelAnswer answer) {
    executor.Post([done = std::move(done), answer = std::move(answer)]() mutable {
      done(std::move(answer));
    });
  }
};

TunnelDesk::TunnelDesk(Executor& executor) : state_(std::make_shared<State>(executor)) {}
TunnelDesk::~TunnelDesk() = default;

std::string TunnelDesk::Expect(const std::string& node, std::function<void(TunnelAnswer)> done) {
  std::string id = RandomHex(16);
  std::lock_guard lock(state_->mutex);
  if (state_->waiting.size() >= kMaxWaiting) {
    state_->Answer(std::move(done), TunnelAnswer::Refused(429, "TooManyRequests",
                                                          "too many requests wait for nodes"));
    return id;
  }
  auto timer =
      state_->executor.PostAfter(kDialTimeout, [weak = std::weak_ptr<State>(state_), node, id] {
        auto state = weak.lock();
        if (state == nullptr) return;
        if (auto expired = state->Take(node, id)) {
          expired(TunnelAnswer::Refused(504, "Timeout",
                                        "node \"" + node + "\" did not answer within 30 seconds"));
        }
      });
  state_->waiting[id] = {node, std::move(done), timer};
  return id;
}

bool TunnelDesk::Accept(const std::string& node, const std::string& tunnel_id,
                        std::shared_ptr<streaming::Stream> messages) {
  auto done = state_->Take(node, tunnel_id);
  if (!done) return false;
  state_->Answer(std::move(done), {.messages = std::move(messages)});
  return true;
}

void TunnelDesk::Refuse(const std::string& node, const std::string& tunnel_id,
                        TunnelAnswer refusal) {
  if (auto done = state_->Take(node, tunnel_id))
    state_->Answer(std::move(done), std::move(refusal));
}

void TunnelDesk::RefuseAll(const std::string& node, const TunnelAnswer& refusal) {
  std::vector<std::string> ids;
  {
    std::lock_guard lock(state_->mutex);
    for (const auto& [id, waiting] : state_->waiting) {
      if (waiting.node == node) ids.push_back(id);
    }
  }
  for (const std::string& id : ids) Refuse(node, id, refusal);
}

}  // namespace skiff::cp

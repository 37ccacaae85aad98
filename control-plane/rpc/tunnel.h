// Tunnel: one logical stream (logs, exec, attach, a forwarded connection) inside the connection
// that a node made; and the desk where requests for tunnels wait for the node to dial in.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "base/async/executor.h"
#include "base/streaming/mux.h"

namespace skiff::cp {

// The channels of the tunnel's frames (proto/skiff/node/v1 TunnelFrame).
inline constexpr uint32_t kTunnelIn = 0;
inline constexpr uint32_t kTunnelOut = 1;
inline constexpr uint32_t kTunnelErr = 2;
inline constexpr uint32_t kTunnelStatus = 3;
inline constexpr uint32_t kTunnelResize = 4;

// Channels as Streams over a connection that carries one serialised TunnelFrame in each read and
// write.
class Tunnel : public streaming::Mux {
 public:
  // channels: how many there are, from 0.
  static std::shared_ptr<Tunnel> Make(Executor& executor,
                                      std::shared_ptr<streaming::Stream> messages,
                                      uint32_t channels);
  // Tells the node which port channel 0 is for. Before other writes.
  void AnnouncePort(uint16_t port);

 private:
  using Mux::Mux;
  Result<> OnBytes(std::string_view bytes) override;
  std::string EncodeData(uint32_t id, std::string_view data) override;
  std::string EncodeEnd(uint32_t id) override;
  std::string EncodeReset(uint32_t) override { return {}; }
  std::string EncodeGoodbye() override { return {}; }
  std::string EncodeProtocolError(const Error&) override { return {}; }
};

// How a request for a tunnel was answered: with the messages of the tunnel, or with a refusal in
// the words of a Status.
struct TunnelAnswer {
  std::shared_ptr<streaming::Stream> messages;
  int http_status = 0;
  std::string reason;
  std::string message;

  static TunnelAnswer Refused(int http_status, std::string reason, std::string message) {
    return {nullptr, http_status, std::move(reason), std::move(message)};
  }
};

// Thread-safe.
class TunnelDesk {
 public:
  static constexpr std::chrono::seconds kDialTimeout{30};
  static constexpr size_t kMaxWaiting = 1000;

  // executor must outlive the desk; it runs the callbacks.
  explicit TunnelDesk(Executor& executor);
  ~TunnelDesk();

  // An id, unguessable and good for one dial from that node within the timeout. done: the answer.
  std::string Expect(const std::string& node, std::function<void(TunnelAnswer)> done);
  // The node has dialled. False when nobody waits for the id.
  bool Accept(const std::string& node, const std::string& tunnel_id,
              std::shared_ptr<streaming::Stream> messages);
  void Refuse(const std::string& node, const std::string& tunnel_id, TunnelAnswer refusal);
  // The node is gone: everything that waits for it is refused.
  void RefuseAll(const std::string& node, const TunnelAnswer& refusal);

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace skiff::cp

#include "agent/dns/server.h"

#include <pthread.h>

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <future>
#include <thread>

#include "agent/dns/cluster_names.h"
#include "agent/dns/listeners.h"
#include "agent/dns/responder.h"
#include "proto/k8s/core/v1/service.pb.h"
#include "proto/k8s/discovery/v1/discovery.pb.h"

namespace skiff::agent::dns {
namespace {

namespace asio = boost::asio;

}  // namespace

// Everything but the thread itself belongs to the thread.
class DnsServer::Impl {
 public:
  Impl(ServerConfig config, Name zone)
      : config_(std::move(config)),
        zone_(std::move(zone)),
        forwarder_(io_, Forward(config_)),
        names_(MakeNames()),
        responder_(names_, forwarder_) {}

  ~Impl() {
    if (!thread_.joinable()) return;
    asio::post(io_, [this] {
      StopListening();
      io_.stop();
    });
    thread_.join();
  }

  void StopListening() {
    for (auto& listener : udp_) listener->Stop();
    for (auto& listener : tcp_) listener->Stop();
  }

  Result<> Listen() {
    StopListening();
    udp_.clear();
    tcp_.clear();
    port_ = config_.port;
    for (const net::IpAddress& address : config_.addresses) {
      udp_.push_back(std::make_shared<UdpListener>(io_, responder_));
      TRY(udp_.back()->Start(address, port_));
      port_ = udp_.back()->port();
      tcp_.push_back(std::make_shared<TcpListener>(io_, responder_, config_.max_connections));
      TRY(tcp_.back()->Start(address, port_));
    }
    return {};
  }

  Result<> Start() {
    Result<> listening = Listen();
    // One that is free for UDP may be another's for TCP.
    for (int more = 16; !listening.ok() && config_.port == 0 && more > 0; --more) {
      listening = Listen();
    }
    TRY(std::move(listening));
    thread_ = std::thread([this] {
      pthread_setname_np(pthread_self(), "agent-dns");
      io_.run();
    });
    return {};
  }

  template <class Change>
  void Post(Change change) {
    asio::post(io_, std::move(change));
  }

  void BeginReplace() {
    Post([this] { next_ = MakeNames(); });
  }
  void SyncDone() {
    Post([this] {
      if (next_) names_ = std::move(next_);
      responder_.SetSynced();
      responder_.NamesChanged();
    });
  }
  // Where changes go: to the listing under way, or to what is served.
  template <class Change>
  void ChangeNames(Change change) {
    Post([this, change = std::move(change)] {
      change(next_ ? *next_ : *names_);
      if (!next_) responder_.NamesChanged();
    });
  }

  ServerStats GetStats() {
    std::promise<ServerStats> stats;
    Post([&] {
      stats.set_value({responder_.queries, responder_.cluster_answers, responder_.malformed,
                       forwarder_.stats()});
    });
    return stats.get_future().get();
  }
  uint16_t port() const { return port_; }

 private:
  static ForwarderConfig Forward(const ServerConfig& config) {
    ForwarderConfig forward = config.forward;
    if (config.port == 53) {
      forward.own_addresses.insert(forward.own_addresses.end(), config.addresses.begin(),
                                   config.addresses.end());
    }
    return forward;
  }
  std::unique_ptr<ClusterNames> MakeNames() const {
    return std::make_unique<ClusterNames>(zone_, config_.addresses, config_.ranges);
  }

  const ServerConfig config_;
  const Name zone_;
  asio::io_context io_{1};
  asio::executor_work_guard<asio::io_context::executor_type> work_{io_.get_executor()};
  Forwarder forwarder_;
  std::unique_ptr<ClusterNames> names_, next_;
  Responder responder_;
  std::vector<std::shared_ptr<UdpListener>> udp_;
  std::vector<std::shared_ptr<TcpListener>> tcp_;
  uint16_t port_ = 0;
  std::thread thread_;
};

DnsServer::DnsServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
DnsServer::~DnsServer() = default;

Result<std::unique_ptr<DnsServer>> DnsServer::Start(ServerConfig config) {
  auto zone = ParseName(config.zone);
  if (!zone) {
    return Error(Code::kInvalidArgument, "\"" + config.zone + "\" is no domain name");
  }
  auto impl = std::make_unique<Impl>(std::move(config), *std::move(zone));
  TRY(impl->Start());
  return std::unique_ptr<DnsServer>(new DnsServer(std::move(impl)));
}

void DnsServer::BeginReplace() { impl_->BeginReplace(); }
void DnsServer::SyncDone() { impl_->SyncDone(); }

void DnsServer::SetService(const k8s::core::v1::Service& service) {
  impl_->ChangeNames([service](ClusterNames& names) { names.SetService(service); });
}
void DnsServer::DeleteService(std::string_view name_space, std::string_view name) {
  impl_->ChangeNames([space = std::string(name_space), name = std::string(name)](
                         ClusterNames& names) { names.DeleteService(space, name); });
}
void DnsServer::SetEndpointSlice(const k8s::discovery::v1::EndpointSlice& slice) {
  impl_->ChangeNames([slice](ClusterNames& names) { names.SetSlice(slice); });
}
void DnsServer::DeleteEndpointSlice(std::string_view name_space, std::string_view name) {
  impl_->ChangeNames([space = std::string(name_space), name = std::string(name)](
                         ClusterNames& names) { names.DeleteSlice(space, name); });
}

uint16_t DnsServer::port() const { return impl_->port(); }
ServerStats DnsServer::GetStats() const { return impl_->GetStats(); }

}  // namespace skiff::agent::dns

#include "control-plane/daemon/control_plane.h"

#include <unistd.h>

#include <utility>

#include "base/async/elastic_pool.h"
#include "base/http/server.h"
#include "base/log.h"
#include "base/net/ip.h"
#include "base/os/files.h"
#include "base/os/heap.h"
#include "control-plane/api/kinds/openapi/openapi.h"
#include "control-plane/api/server.h"
#include "control-plane/controllers/controllers.h"
#include "control-plane/daemon/identity.h"
#include "control-plane/rpc/node_link.h"
#include "control-plane/scheduler/scheduler.h"
#include "control-plane/store/sqlite_store.h"

namespace skiff::cp {
namespace {

// Requests block on the store's group commit: threads are what makes groups. They go when there is
// little to do.
constexpr int kApiThreads = 16;
constexpr int kControllerThreads = 16;
constexpr std::chrono::milliseconds kDrainTime{5000};
constexpr std::chrono::hours kCertificateCheck{1};
constexpr std::chrono::seconds kTrimPeriod{30};

std::string HostName() {
  char name[256] = "";
  return ::gethostname(name, sizeof name - 1) == 0 ? name : "";
}

int PortOf(const std::string& listen) {
  return std::atoi(listen.substr(listen.rfind(':') + 1).c_str());
}

std::vector<std::string> ServerNames(const Config& config) {
  std::vector<std::string> names = {"kubernetes",
                                    "kubernetes.default",
                                    "kubernetes.default.svc",
                                    "kubernetes.default.svc." + config.cluster_domain,
                                    "localhost",
                                    "127.0.0.1",
                                    "::1",
                                    config.advertise_address};
  // The first address of a range is the kubernetes Service's.
  for (const std::string& cidr : config.service_cidrs) {
    auto services = net::IpPrefix::Parse(cidr);
    if (services.ok() && services->size() > 1) names.push_back(services->At(1).ToString());
  }
  if (auto host = HostName(); !host.empty()) names.push_back(host);
  names.insert(names.end(), config.certificate_names.begin(), config.certificate_names.end());
  return names;
}

class Daemon final : public ControlPlane {
 public:
  explicit Daemon(const Config& config)
      : config_(config),
        timers_("timers", 1),
        workers_("api", kApiThreads, timers_),
        background_("control", kControllerThreads, timers_) {}

  ~Daemon() override {
    if (api_) api_->BeginShutdown();
    background_.Cancel(certificate_timer_);
    background_.Cancel(trim_timer_);
    if (scheduler_) scheduler_->Stop();
    if (controllers_) controllers_->Stop();
    if (node_link_) node_link_->Stop();
    if (http_) http_->Stop(kDrainTime);
    background_.Stop();
    workers_.Stop();
    timers_.Stop();
    scheduler_.reset();
    controllers_.reset();
    http_.reset();
    node_link_.reset();
    api_.reset();
    store_.reset();
    log::Info("control plane stopped");
  }

  Result<void> Start() {
    TRY(MakeDirectories(config_.data_dir, 0700).With("data directory"));
    identity_ = TRY(EnsureIdentity(IdentityWanted(), Clock::Real().WallNow()));
    store_ = TRY(OpenSqliteStore({.path = config_.data_dir + "/store.db"}));
    node_link_ = NodeLink::Make();
    TRY(StartApi());
    TRY(StartControllers());
    TRY(StartNodeLink());
    TRY(StartHttp());
    CheckCertificatesLater();
    TrimLater();
    log::Info("control plane ready", {{"api", http_->address()},
                                      {"advertised", config_.advertise_address},
                                      {"revision", store_->CurrentRevision()}});
    return {};
  }

 private:
  std::string ServerUrl() const {
    const bool v6 = config_.advertise_address.find(':') != std::string::npos;
    return "https://" + (v6 ? "[" + config_.advertise_address + "]" : config_.advertise_address) +
           ":" + std::to_string(PortOf(config_.listen_address));
  }

  IdentityOptions IdentityWanted() const {
    return {config_.data_dir, config_.kubeconfig, ServerNames(config_), ServerUrl()};
  }

  http::TlsConfig Tls() const {
    return {identity_.server.certificate_pem, identity_.server.key_pem,
            identity_.ca.certificate_pem};
  }

  Result<void> StartApi() {
    ApiServer::Deps deps{*store_, kinds_, workers_, &node_link_->tunnels()};
    deps.openapi = [this](const http::Request& request) { return openapi_.Handle(request); };
    ApiServerOptions options;
    options.service_cidrs = config_.service_cidrs;
    options.first_node_port = config_.first_node_port;
    options.last_node_port = config_.last_node_port;
    options.dns_addresses = config_.cluster_dns;
    options.advertise_address = config_.advertise_address;
    options.advertise_port = PortOf(config_.listen_address);
    options.skiff_version = SKIFF_VERSION;
    api_ = TRY(ApiServer::Open(std::move(deps), options).With("API server"));
    return {};
  }

  Result<void> StartControllers() {
    ControllersDeps deps;
    deps.client = &api_->client();
    deps.executor = &background_;
    deps.cluster_ca_pem = identity_.ca.certificate_pem;
    deps.cluster_cidrs = config_.cluster_cidrs;
    deps.node_cidr_bits_ipv4 = config_.node_cidr_mask_size;
    deps.node_cidr_bits_ipv6 = config_.node_cidr_mask_size_ipv6;
    deps.service_cidrs = config_.service_cidrs;
    deps.load_balancers = config_.load_balancers;
    deps.load_balancer_pool = config_.load_balancer_pool;
    controllers_ = TRY(Controllers::Create(std::move(deps)).With("controllers"));
    controllers_->Start();
    scheduler_ = std::make_unique<Scheduler>(SchedulerDeps{&api_->client(), &background_});
    scheduler_->Start();
    return {};
  }

  Result<void> StartNodeLink() {
    NodeLinkOptions options;
    options.listen = config_.node_link_address;
    options.ca = identity_.ca;
    options.server = identity_.server;
    options.cluster_domain = config_.cluster_domain;
    options.cluster_dns = config_.cluster_dns;
    options.service_cidrs = config_.service_cidrs;
    options.cluster_cidrs = config_.cluster_cidrs;
    options.api_server = ServerUrl();
    TRY(node_link_->Start(api_->client(), std::move(options)).With("node link"));
    return {};
  }

  Result<void> StartHttp() {
    http::ServerOptions options;
    options.listen = config_.listen_address;
    options.tls = Tls();
    options.error_response = &ApiServer::ErrorResponse;
    http_ = TRY(http::Server::Start(std::move(options), api_->handler(), workers_));
    return {};
  }

  void CheckCertificatesLater() {
    certificate_timer_ = background_.PostAfter(kCertificateCheck, [this] {
      RenewCertificates();
      CheckCertificatesLater();
    });
  }

  void TrimLater() {
    trim_timer_ = background_.PostAfter(kTrimPeriod, [this] {
      TrimHeap();
      TrimLater();
    });
  }

  void RenewCertificates() {
    auto identity = EnsureIdentity(IdentityWanted(), Clock::Real().WallNow());
    if (!identity.ok()) {
      return log::Error("certificates are due and could not be renewed, trying again in an hour",
                        {{"error", identity.error()}});
    }
    identity_ = std::move(identity).value();
    if (!identity_.server_renewed) return;
    if (auto reloaded = http_->ReloadTls(Tls()); !reloaded.ok()) {
      log::Error("renewed certificate is not accepted", {{"error", reloaded.error()}});
    }
    node_link_->ReloadServerCertificate(identity_.server);
  }

  const Config config_;
  ThreadPool timers_;
  ElasticPool workers_;
  ElasticPool background_;
  const Kinds kinds_ = BuiltinKinds();
  const OpenApi openapi_{kinds_};
  Identity identity_;
  std::unique_ptr<Store> store_;
  std::unique_ptr<NodeLink> node_link_;
  std::unique_ptr<ApiServer> api_;
  std::unique_ptr<Controllers> controllers_;
  std::unique_ptr<Scheduler> scheduler_;
  std::unique_ptr<http::Server> http_;
  Executor::TimerId certificate_timer_ = 0;
  Executor::TimerId trim_timer_ = 0;
};

}  // namespace

Result<std::unique_ptr<ControlPlane>> ControlPlane::Start(const Config& config) {
  auto daemon = std::make_unique<Daemon>(config);
  TRY(daemon->Start());
  return std::unique_ptr<ControlPlane>(std::move(daemon));
}

}  // namespace skiff::cp

// All controllers and the scheduler on the real API over the SQLite store, with real threads: what
// users do, and that it ends where it should.

#include <google/protobuf/message.h>
#include <gtest/gtest.h>

#include <condition_variable>
#include <mutex>

#include "base/async/executor.h"
#include "base/os/files.h"
#include "control-plane/api/kind.h"
#include "control-plane/api/local_client.h"
#include "control-plane/controllers/controllers.h"
#include "control-plane/controllers/framework/objects.h"
#include "control-plane/controllers/framework/pods.h"
#include "control-plane/scheduler/scheduler.h"
#include "control-plane/store/sqlite_store.h"
#include "proto/codec/int_or_string.h"
#include "proto/k8s/apps/v1/apps.pb.h"
#include "proto/k8s/core/v1/config.pb.h"
#include "proto/k8s/core/v1/container.pb.h"
#include "proto/k8s/core/v1/event.pb.h"
#include "proto/k8s/core/v1/namespace.pb.h"
#include "proto/k8s/core/v1/node.pb.h"
#include "proto/k8s/core/v1/pod.pb.h"
#include "proto/k8s/core/v1/service.pb.h"
#include "proto/k8s/discovery/v1/discovery.pb.h"

namespace skiff::cp {
namespace {

using k8s::apps::v1::Deployment;
using k8s::apps::v1::ReplicaSet;
using k8s::core::v1::ConfigMap;
using k8s::core::v1::Endpoints;
using k8s::core::v1::Namespace;
using k8s::core::v1::Node;
using k8s::core::v1::Pod;
using k8s::core::v1::Service;
using k8s::discovery::v1::EndpointSlice;

// Runs every pod that has a node, and ends every pod that is to end.
class Nodes {
 public:
  Nodes(Client& client, Executor& executor) : client_(client), strand_(executor) {}
  void Start() {
    watch_ = client_.Watch<Pod>("", strand_, [this](const WatchEvent& event) {
      if (event.type == WatchEvent::Type::kAdded || event.type == WatchEvent::Type::kModified) {
        Look(static_cast<const Pod&>(*event.object));
      }
    });
  }
  void Stop() { watch_.reset(); }

 private:
  void Look(const Pod& pod) {
    if (pod.spec().node_name().empty()) return;
    if (IsBeingDeleted(pod.metadata())) {
      (void)client_.Delete<Pod>(pod.metadata().namespace_(), pod.metadata().name(),
                                {.grace_period_seconds = 0, .uid = pod.metadata().uid()});
    } else if (!IsPodReady(pod)) {
      // The newest version: the condition of the binding is in it.
      auto live = client_.Get<Pod>(pod.metadata().namespace_(), pod.metadata().name());
      if (!live.ok() || IsPodReady(**live)) return;
      Pod running = **live;
      auto* status = running.mutable_status();
      status->set_phase("Running");
      status->set_pod_ip("10.244.0." + std::to_string(++last_address_));
      status->add_pod_ips()->set_ip(status->pod_ip());
      auto* ready = status->add_conditions();
      ready->set_type("Ready");
      ready->set_status("True");
      SetTime(ready->mutable_last_transition_time(), strand_.clock().WallNow());
      (void)client_.UpdateStatus(running);
    }
  }
  Client& client_;
  Strand strand_;
  int last_address_ = 1;
  std::unique_ptr<Subscription> watch_;
};

class ClusterTest : public testing::Test {
 protected:
  ClusterTest() {
    store_ = OpenSqliteStore({.path = directory_.path() + "/store.db"}).value();
    cache_ = WatchCache::Start(*store_, kinds_).value();
    services_ = ServiceAllocator::Open(*store_, {}).value();
    registry_ = std::make_unique<Registry>(
        Registry::Deps{*store_, kinds_, *cache_, *services_, Clock::Real()});
    client_ = MakeLocalClient(*registry_, kinds_);
    controllers_ = Controllers::Create({.client = client_.get(),
                                        .executor = &pool_,
                                        .cluster_ca_pem = "PEM",
                                        .cluster_cidrs = {"10.244.0.0/16"}})
                       .value();
    scheduler_ =
        std::make_unique<Scheduler>(SchedulerDeps{.client = client_.get(), .executor = &pool_});
    nodes_ = std::make_unique<Nodes>(*client_, pool_);
    controllers_->Start();
    scheduler_->Start();
    nodes_->Start();
    WatchAll<Pod, ReplicaSet, Deployment, EndpointSlice, Endpoints, Namespace, Node, ConfigMap>();
    EXPECT_TRUE(Eventually([&] { return Exists<ConfigMap>("default", "kube-root-ca.crt"); }));
    for (const char* name : {"n1", "n2"}) CreateNode(name);
  }
  ~ClusterTest() override {
    signals_.clear();
    nodes_->Stop();
    scheduler_->Stop();
    controllers_->Stop();
    pool_.Stop();
  }

  template <class... Kinds>
  void WatchAll() {
    (signals_.push_back(client_->Watch<Kinds>("", pool_,
                                              [this](const WatchEvent&) {
                                                std::lock_guard lock(mutex_);
                                                ++changes_;
                                                changed_.notify_all();
                                              })),
     ...);
  }
  // Looks again with every change, for a bounded time.
  bool Eventually(const std::function<bool()>& condition) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    for (;;) {
      uint64_t before = 0;
      {
        std::lock_guard lock(mutex_);
        before = changes_;
      }
      if (condition()) return true;
      std::unique_lock lock(mutex_);
      if (!changed_.wait_until(lock, deadline, [&] { return changes_ != before; })) {
        return condition();
      }
    }
  }
  template <class T>
  bool Exists(const std::string& ns, const std::string& name) {
    return client_->Get<T>(ns, name).ok();
  }
  template <class T>
  size_t Count(const std::string& ns) {
    return client_->List<T>({.ns = ns}).value().items.size();
  }

  void CreateNode(const std::string& name) {
    Node node;
    node.mutable_metadata()->set_name(name);
    (void)client_->Create(node).value();
    node = *client_->Get<Node>("", name).value();
    for (auto* amounts : {node.mutable_status()->mutable_capacity(),
                          node.mutable_status()->mutable_allocatable()}) {
      (*amounts)["cpu"].set_string("8");
      (*amounts)["memory"].set_string("16Gi");
      (*amounts)["pods"].set_string("110");
    }
    auto* ready = node.mutable_status()->add_conditions();
    ready->set_type("Ready");
    ready->set_status("True");
    ready->set_reason("KubeletReady");
    for (;;) {
      auto stored = client_->UpdateStatus(node);
      if (stored.ok()) return;
      ASSERT_EQ(stored.error().code(), Code::kConflict) << stored.error().ToString();
      node.mutable_metadata()->set_resource_version(
          client_->Get<Node>("", name).value()->metadata().resource_version());
    }
  }

  void Apply(int replicas, const std::string& image) {
    Deployment deployment;
    deployment.mutable_metadata()->set_namespace_("default");
    deployment.mutable_metadata()->set_name("web");
    deployment.mutable_spec()->set_replicas(replicas);
    (*deployment.mutable_spec()->mutable_selector()->mutable_match_labels())["app"] = "web";
    auto* pod_template = deployment.mutable_spec()->mutable_template_();
    (*pod_template->mutable_metadata()->mutable_labels())["app"] = "web";
    auto* container = pod_template->mutable_spec()->add_containers();
    container->set_name("main");
    container->set_image(image);
    container->add_ports()->set_container_port(8080);
    container->mutable_ports(0)->set_name("http");
    container->mutable_ports(0)->set_protocol("TCP");
    auto stored = Exists<Deployment>("default", "web") ? client_->Update(deployment)
                                                       : client_->Create(deployment);
    ASSERT_TRUE(stored.ok()) << stored.error().ToString();
  }
  void CreateService() {
    Service service;
    service.mutable_metadata()->set_namespace_("default");
    service.mutable_metadata()->set_name("web");
    (*service.mutable_spec()->mutable_selector())["app"] = "web";
    auto* port = service.mutable_spec()->add_ports();
    port->set_port(80);
    codec::SetText(port->mutable_target_port(), "http");
    auto stored = client_->Create(service);
    ASSERT_TRUE(stored.ok()) << stored.error().ToString();
  }
  size_t ReadyEndpoints() {
    size_t ready = 0;
    auto slices = client_->List<EndpointSlice>({.ns = "default"}).value();
    for (const auto& slice : slices.items) {
      for (const auto& endpoint : slice->endpoints()) ready += endpoint.conditions().ready();
    }
    return ready;
  }
  bool IsRolledOut(int replicas) {
    auto web = client_->Get<Deployment>("default", "web").value();
    const auto& status = web->status();
    return status.observed_generation() >= web->metadata().generation() &&
           status.updated_replicas() == replicas && status.available_replicas() == replicas &&
           status.replicas() == replicas;
  }

  TempDir directory_ = TempDir::Make("cluster").value();
  ThreadPool pool_{"cluster", 4};
  const Kinds kinds_ = BuiltinKinds();
  std::unique_ptr<Store> store_;
  std::unique_ptr<WatchCache> cache_;
  std::unique_ptr<ServiceAllocator> services_;
  std::unique_ptr<Registry> registry_;
  std::unique_ptr<Client> client_;
  std::unique_ptr<Controllers> controllers_;
  std::unique_ptr<Scheduler> scheduler_;
  std::unique_ptr<Nodes> nodes_;
  std::mutex mutex_;
  std::condition_variable changed_;
  uint64_t changes_ = 0;
  std::vector<std::unique_ptr<Subscription>> signals_;
};

TEST_F(ClusterTest, FromADeploymentToEndpointsAndBack) {
  ASSERT_TRUE(
      Eventually([&] { return !client_->Get<Node>("", "n2").value()->spec().pod_cidr().empty(); }));
  CreateService();
  Apply(3, "nginx:1");
  ASSERT_TRUE(Eventually([&] { return IsRolledOut(3) && ReadyEndpoints() == 3; }));
  Apply(10, "nginx:1");
  ASSERT_TRUE(Eventually([&] { return IsRolledOut(10) && ReadyEndpoints() == 10; }));
  EXPECT_EQ(Count<ReplicaSet>("default"), 1u);
  Apply(10, "nginx:2");
  ASSERT_TRUE(Eventually([&] { return IsRolledOut(10) && ReadyEndpoints() == 10; }));
  EXPECT_EQ(Count<ReplicaSet>("default"), 2u);
  Apply(0, "nginx:2");
  ASSERT_TRUE(Eventually([&] { return Count<Pod>("default") == 0 && ReadyEndpoints() == 0; }));
  ASSERT_TRUE(client_->Delete<Deployment>("default", "web").ok());
  ASSERT_TRUE(client_->Delete<Service>("default", "web").ok());
  ASSERT_TRUE(Eventually([&] {
    return Count<ReplicaSet>("default") == 0 && Count<EndpointSlice>("default") == 0 &&
           Count<Endpoints>("default") == 0;
  }));
}

TEST_F(ClusterTest, PodsSpreadOverBothNodes) {
  Apply(8, "nginx:1");
  ASSERT_TRUE(Eventually([&] { return IsRolledOut(8); }));
  std::map<std::string, int> on_node;
  auto pods = client_->List<Pod>({.ns = "default"}).value();
  for (const auto& pod : pods.items) ++on_node[pod->spec().node_name()];
  EXPECT_EQ(on_node["n1"], 4);
  EXPECT_EQ(on_node["n2"], 4);
}

TEST_F(ClusterTest, ADeletedNamespaceLeavesNothing) {
  Namespace ns;
  ns.mutable_metadata()->set_name("team");
  ASSERT_TRUE(client_->Create(ns).ok());
  ASSERT_TRUE(Eventually([&] { return Exists<ConfigMap>("team", "kube-root-ca.crt"); }));
  Pod pod;
  pod.mutable_metadata()->set_namespace_("team");
  pod.mutable_metadata()->set_name("web");
  pod.mutable_spec()->add_containers()->set_name("main");
  pod.mutable_spec()->mutable_containers(0)->set_image("nginx");
  auto created = client_->Create(pod);
  for (int i = 0; i < 100 && !created.ok(); ++i) created = client_->Create(pod);
  ASSERT_TRUE(created.ok()) << created.error().ToString();
  ASSERT_TRUE(Eventually([&] { return IsPodReady(*client_->Get<Pod>("team", "web").value()); }));
  ASSERT_TRUE(client_->Delete<Namespace>("", "team").ok());
  ASSERT_TRUE(Eventually([&] { return !Exists<Namespace>("", "team"); }));
  EXPECT_EQ(Count<Pod>("team"), 0u);
  EXPECT_EQ(Count<ConfigMap>("team"), 0u);
  EXPECT_EQ(Count<k8s::core::v1::Event>("team"), 0u);
}

}  // namespace
}  // namespace skiff::cp

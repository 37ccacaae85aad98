#include <algorithm>
#include <array>

#include "control-plane/controllers/framework/namespaces.h"
#include "control-plane/controllers/framework/objects.h"
#include "control-plane/controllers/namespace_controllers.h"
#include "proto/k8s/core/v1/config.pb.h"
#include "proto/k8s/core/v1/namespace.pb.h"

namespace skiff::cp {
namespace {

using k8s::core::v1::ConfigMap;
using k8s::core::v1::Namespace;
using k8s::core::v1::ServiceAccount;

constexpr std::array kSystemNamespaces = {"default", "kube-node-lease", "kube-public",
                                          "kube-system"};
constexpr char kServiceAccount[] = "default";
constexpr char kCaConfigMap[] = "kube-root-ca.crt";
constexpr char kCaKey[] = "ca.crt";

class NamespaceDefaultsController : public Controller {
 public:
  NamespaceDefaultsController(Client& client, Executor& executor, std::string cluster_ca_pem)
      : Controller("namespace-defaults", client, executor),
        cluster_ca_pem_(std::move(cluster_ca_pem)),
        namespaces_(client, strand_),
        accounts_(client, strand_),
        config_maps_(client, strand_) {
    Observe<Namespace>(namespaces_, [this](const auto& before, const auto& now) {
      queue_.Add((now ? now : before)->metadata().name());
    });
    Observe<ServiceAccount>(accounts_, [this](const auto& before, const auto& now) {
      if (!now && before->metadata().name() == kServiceAccount) {
        queue_.Add(before->metadata().namespace_());
      }
    });
    Observe<ConfigMap>(config_maps_, [this](const auto& before, const auto& now) {
      const auto& meta = (now ? now : before)->metadata();
      if (meta.name() == kCaConfigMap) queue_.Add(meta.namespace_());
    });
  }

 protected:
  void OnReady() override {
    for (const char* name : kSystemNamespaces) queue_.Add(name);
  }

  Result<> Sync(const std::string& name) override {
    std::shared_ptr<const Namespace> ns = namespaces_.Find(name);
    if (!ns)
      return std::ranges::find(kSystemNamespaces, name) == kSystemNamespaces.end()
                 ? Result<>()
                 : CreateNamespace(name);
    if (ns->status().phase() == "Terminating" || IsBeingDeleted(ns->metadata())) return {};
    Result<> result = EnsureAccount(name);
    if (result.ok()) result = EnsureCa(name);
    if (!result.ok() && RefusedByEndingNamespace(client_, name, result.error())) return {};
    return result;
  }

 private:
  Result<> CreateNamespace(const std::string& name) {
    Namespace ns;
    ns.mutable_metadata()->set_name(name);
    auto created = client_.Create(ns);
    if (!created.ok() && created.error().code() != Code::kAlreadyExists) return created.error();
    return {};
  }

  Result<> EnsureAccount(const std::string& ns) {
    if (accounts_.Find(JoinKey(ns, kServiceAccount))) return {};
    ServiceAccount account;
    account.mutable_metadata()->set_name(kServiceAccount);
    account.mutable_metadata()->set_namespace_(ns);
    auto created = client_.Create(account);
    if (!created.ok() && created.error().code() != Code::kAlreadyExists) return created.error();
    return {};
  }

  Result<> EnsureCa(const std::string& ns) {
    std::shared_ptr<const ConfigMap> existing = config_maps_.Find(JoinKey(ns, kCaConfigMap));
    ConfigMap wanted;
    if (existing) wanted = *existing;
    wanted.mutable_metadata()->set_name(kCaConfigMap);
    wanted.mutable_metadata()->set_namespace_(ns);
    (*wanted.mutable_metadata()->mutable_annotations())["kubernetes.io/description"] =
        "Contains a CA bundle that can be used to verify the API server when using internal "
        "endpoints such as the internal service IP or kubernetes.default.svc.";
    wanted.mutable_data()->clear();
    (*wanted.mutable_data())[kCaKey] = cluster_ca_pem_;
    if (existing && Equal(wanted, *existing)) return {};
    auto stored = existing ? client_.Update(wanted) : client_.Create(wanted);
    if (!stored.ok() && stored.error().code() != Code::kAlreadyExists) return stored.error();
    return {};
  }

  const std::string cluster_ca_pem_;
  Informer<Namespace> namespaces_;
  Informer<ServiceAccount> accounts_;
  Informer<ConfigMap> config_maps_;
};

}  // namespace

std::shared_ptr<Controller> MakeNamespaceDefaultsController(Client& client, Executor& executor,
                                                            std::string cluster_ca_pem) {
  return std::make_shared<NamespaceDefaultsController>(client, executor, std::move(cluster_ca_pem));
}

}  // namespace skiff::cp

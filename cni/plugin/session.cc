#include "cni/plugin/session.h"

#include <fcntl.h>
#include <sys/file.h>

#include <algorithm>
#include <cerrno>
#include <optional>
#include <tuple>
#include <utility>

#include "base/net/conntrack.h"
#include "base/net/families.h"
#include "base/net/iptables.h"
#include "base/net/rtnl.h"
#include "base/net/short_hash.h"
#include "base/os/files.h"
#include "cni/plugin/rule_check.h"
#include "cni/rules.h"

namespace skiff::cni {
namespace {

bool HasPrefixOf(const std::vector<net::IpPrefix>& prefixes, net::IpFamily family) {
  return std::any_of(prefixes.begin(), prefixes.end(),
                     [family](const net::IpPrefix& prefix) { return prefix.family() == family; });
}

Json PrefixTexts(const std::vector<net::IpPrefix>& prefixes) {
  Json texts = Json::array();
  for (const net::IpPrefix& prefix : prefixes) texts.push_back(prefix.ToString());
  return texts;
}

}  // namespace

std::string ChainsOf(const std::string& network) {
  return "SKC" + net::ShortHashBase32(network, 5);
}

// Looks for the machine's programs when the first of them is needed: most runs need none.
class PluginSession::Iptables : public net::Iptables {
 public:
  Result<net::Iptables*> Get() const {
    if (!opened_) opened_ = net::SystemIptables::Open();
    if (!opened_->ok()) return opened_->error();
    return static_cast<net::Iptables*>(opened_->value().get());
  }
  Result<> Restore(net::IpFamily family, std::string_view payload) override {
    return TRY(Get())->Restore(family, payload);
  }
  Result<std::string> Save(net::IpFamily family, std::string_view table) override {
    return TRY(Get())->Save(family, table);
  }
  Result<bool> ChainExists(net::IpFamily family, std::string_view table,
                           std::string_view chain) override {
    return TRY(Get())->ChainExists(family, table, chain);
  }
  Result<std::vector<std::string>> ListChain(net::IpFamily family, std::string_view table,
                                             std::string_view chain) override {
    return TRY(Get())->ListChain(family, table, chain);
  }
  bool Supports(net::IpFamily family) const override {
    auto found = Get();
    if (found.ok()) return (*found)->Supports(family);
    // What could not be asked may well be there: the call that needs it says what is wrong.
    return found.error().code() != Code::kNotFound;
  }

 private:
  mutable std::optional<Result<std::unique_ptr<net::SystemIptables>>> opened_;
};

PluginSession::PluginSession(const PluginSettings& settings)
    : settings_(settings),
      directory_(settings.data_dir + "/" + settings.name),
      iptables_(std::make_unique<Iptables>()),
      conntrack_(std::make_unique<net::SystemConntrack>()) {}
PluginSession::~PluginSession() = default;

Result<std::unique_ptr<PluginSession>> PluginSession::Open(const PluginSettings& settings,
                                                           const std::string& interface) {
  std::unique_ptr<PluginSession> session(new PluginSession(settings));
  TRY(MakeDirectories(session->directory_, 0700));
  const std::string lock = session->directory_ + "/lock";
  session->lock_ = TRY(OpenFile(lock, O_RDWR | O_CREAT, 0600));
  while (::flock(session->lock_.get(), LOCK_EX) != 0) {
    if (errno != EINTR) return Error::Sys(errno, "flock", lock);
  }
  session->boot_id_ = TRY(RunningBootId());
  BridgeConfig config{.bridge = settings.bridge,
                      .chains = ChainsOf(settings.name),
                      .state_dir = session->directory_,
                      .mtu = settings.mtu,
                      .masquerade = settings.masquerade,
                      .boot_id = session->boot_id_};
  if (!interface.empty()) config.pod_interface = interface;
  session->network_ =
      TRY(BridgeNetwork::Open(std::move(config), *session->iptables_, *session->conntrack_));
  return session;
}

std::string PluginSession::StampOf(uint32_t mtu) const {
  return RenderDocument({{"boot", boot_id_},
                         {"bridge", settings_.bridge},
                         {"podCidrs", PrefixTexts(settings_.pod_cidrs)},
                         {"clusterCidrs", PrefixTexts(settings_.cluster_cidrs)},
                         {"ipMasq", settings_.masquerade},
                         {"wantedMtu", settings_.mtu},
                         {"mtu", mtu}}) +
         "\n";
}

Result<bool> PluginSession::RulesStand() {
  const std::string chains = ChainsOf(settings_.name);
  for (net::IpFamily family : net::kIpFamilies) {
    if (!HasPrefixOf(settings_.pod_cidrs, family)) continue;
    for (const auto& [table, from, to] : {std::tuple("nat", "POSTROUTING", "-POSTROUTING"),
                                          std::tuple("filter", "FORWARD", "-FORWARD")}) {
      if (TRY(ChainMentions(family, table, from, chains + to))) continue;
      // iptables-legacy, or they are gone.
      auto rules = iptables_->ListChain(family, table, from);
      if (!rules.ok() && rules.error().code() != Code::kNotFound) return std::move(rules).error();
      const bool there =
          rules.ok() && std::any_of(rules->begin(), rules->end(), [&](const std::string& rule) {
            return rule.ends_with(" -j " + chains + to);
          });
      if (!there) return false;
    }
  }
  return true;
}

// Two networks on one bridge would take each other's addresses away.
Result<> PluginSession::ClaimBridge() {
  const std::string claims = settings_.data_dir + "/bridges";
  const std::string claim = claims + "/" + settings_.bridge;
  TRY(MakeDirectories(claims, 0700));
  auto owner = ReadFile(claim);
  if (owner.ok() && *owner != settings_.name) {
    net::Rtnl rtnl = TRY(net::Rtnl::Open());
    if (rtnl.LinkIndex(settings_.bridge).ok()) {
      return Error(Code::kInvalidArgument, "bridge " + settings_.bridge + " is that of network " +
                                               *owner + "; name another one");
    }
  }
  return WriteFileAtomic(claim, settings_.name, Durability::kNone);
}

Result<> PluginSession::SetUp() {
  const std::string file = directory_ + "/node.json";
  auto stamp = ReadFile(file, kDocumentLimitBytes);
  auto made = stamp.ok() ? ParseDocument(*stamp) : Result<Json>(Json::object());
  auto mtu = made.ok() ? NumberField(*made, "mtu") : Result<std::optional<uint32_t>>(std::nullopt);
  const uint32_t known_mtu = mtu.ok() ? mtu->value_or(0) : 0;
  if (known_mtu != 0 && *stamp == StampOf(known_mtu) && TRY(RulesStand())) {
    network_->AdoptPodCidrs(settings_.pod_cidrs, settings_.cluster_cidrs, known_mtu);
    return {};
  }
  TRY(ClaimBridge());
  TRY(network_->SetPodCidrs(settings_.pod_cidrs, settings_.cluster_cidrs));
  return WriteFileAtomic(file, StampOf(network_->mtu()), Durability::kNone);
}

Result<std::vector<Lease>> PluginSession::Leases() const {
  return TRY(LeaseTable::Open(directory_, boot_id_))->All();
}

Result<> PluginSession::DropDead() {
  net::Rtnl rtnl = TRY(net::Rtnl::Open());
  for (const Lease& lease : TRY(Leases())) {
    auto index = rtnl.LinkIndex(lease.attachment.host_interface);
    if (index.ok() || index.error().code() != Code::kNotFound) continue;
    TRY(network_->Detach(lease.sandbox_id));
  }
  return {};
}

Result<> PluginSession::CheckFree() {
  const uint64_t taken = TRY(Leases()).size();
  for (const net::IpPrefix& cidr : settings_.pod_cidrs) {
    // Without network, gateway and broadcast address.
    if (cidr.size() >= 4 && taken < cidr.size() - 3) continue;
    return Error(Code::kResourceExhausted, "every address of " + cidr.ToString() + " is taken");
  }
  return {};
}

Result<> PluginSession::CheckIptables() {
  TRY(iptables_->Get());
  return {};
}

}  // namespace skiff::cni

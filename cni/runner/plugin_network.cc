#include "cni/runner/plugin_network.h"

#include <algorithm>
#include <mutex>
#include <set>
#include <shared_mutex>

#include "base/log.h"
#include "base/net/rtnl.h"
#include "base/os/files.h"
#include "cni/leases.h"
#include "cni/runner/arguments.h"
#include "cni/runner/attachments.h"
#include "cni/runner/config_directory.h"
#include "cni/sandbox_turns.h"

namespace skiff::cni {
namespace {

// Of VERSION and STATUS, which answer from what the plugin knows.
constexpr std::chrono::seconds kQueryDeadline{10};

Result<> KernelLoopback(const net::Netns& netns) {
  net::Rtnl inside = TRY(net::Rtnl::OpenIn(netns));
  return inside.Apply(net::rtnl::SetUp(TRY(inside.LinkIndex("lo")), true));
}

// A network that pods can be attached to.
struct ActiveNetwork {
  FoundNetwork found;
  CniVersion version;
};
using ActivePtr = std::shared_ptr<const ActiveNetwork>;

std::string TypesOf(const NetworkConfig& network) {
  std::string text;
  for (const PluginConfig& plugin : network.plugins) {
    text += (text.empty() ? "" : ", ") + plugin.type;
  }
  return text;
}

}  // namespace

class PluginNetwork::Impl {
 public:
  Impl(PluginNetworkConfig config, std::unique_ptr<AttachmentTable> records)
      : config_(std::move(config)), queries_(config_.programs), records_(std::move(records)) {
    queries_.deadline = std::min<std::chrono::milliseconds>(queries_.deadline, kQueryDeadline);
  }

  Result<> Watch();
  void Load();
  Result<Attachment> Attach(const AttachRequest& request);
  Result<> Detach(const std::string& sandbox_id);
  Result<> Check(const std::string& sandbox_id);
  Result<Attachment> Get(const std::string& sandbox_id) const;
  Result<> Recover(const std::set<std::string>& live);
  Result<> Reconcile();
  void SetPodCidrs(const std::vector<net::IpPrefix>& pod_cidrs) {
    std::lock_guard lock(mutex_);
    pod_cidrs_ = pod_cidrs;
  }
  std::string Unready() const {
    std::lock_guard lock(mutex_);
    return unready_;
  }
  bool Configured() const {
    std::lock_guard lock(mutex_);
    return configured_;
  }
  void OnChange(std::function<void()> changed) {
    std::lock_guard lock(change_mutex_);
    changed_ = std::move(changed);
  }
  std::vector<std::string> Attached() const;

 private:
  ActivePtr Active() const {
    std::lock_guard lock(mutex_);
    return active_;
  }
  Result<AttachmentRecord> Draft(const AttachRequest& request, const ActiveNetwork& active) const;
  Result<Attachment> Connect(AttachmentRecord& record, const net::Netns& netns);
  Result<> Undo(const AttachmentRecord& record);
  Result<> UndoById(const std::string& sandbox_id);
  void RetryUndoing();
  void CollectGarbage();
  Result<ActivePtr> Use(FoundNetwork found);
  void Publish(bool configured, ActivePtr active, std::string unready);

  const PluginNetworkConfig config_;
  PluginPrograms queries_;
  const std::unique_ptr<AttachmentTable> records_;
  SandboxTurns turns_;
  // Plugins must not be asked to collect garbage while they make or undo something.
  std::shared_mutex garbage_mutex_;
  std::mutex load_mutex_;  // one Load at a time
  std::mutex change_mutex_;
  std::function<void()> changed_;  // guarded by change_mutex_
  mutable std::mutex mutex_;
  // Guarded by mutex_.
  bool configured_ = false;
  ActivePtr active_;  // null: none, or one that cannot be used
  std::string unready_ = "no CNI configuration was read yet";
  std::vector<net::IpPrefix> pod_cidrs_;
  std::set<std::string> undone_in_vain_;   // by Recover
  std::unique_ptr<DirectoryWatch> watch_;  // last: its thread uses all of the above
};

Result<> PluginNetwork::Impl::Watch() {
  watch_ = TRY(DirectoryWatch::Start(config_.config_directory, [this] { Load(); }));
  return {};
}

Result<ActivePtr> PluginNetwork::Impl::Use(FoundNetwork found) {
  CniVersion version = TRY(Chain::AgreeOnVersion(queries_, found.network).With(found.file));
  return ActivePtr(std::make_shared<const ActiveNetwork>(
      ActiveNetwork{.found = std::move(found), .version = version}));
}

// Reads the folder; where its network is another one than before, or could not be used, asks its
// plugins for their versions. Then asks for their status.
void PluginNetwork::Impl::Load() {
  std::lock_guard load(load_mutex_);
  auto loaded = LoadNetwork(config_.config_directory);
  if (!loaded.ok()) return Publish(true, nullptr, loaded.error().message());
  if (!*loaded)
    return Publish(false, nullptr, "no CNI configuration in " + config_.config_directory);
  ActivePtr active = Active();
  FoundNetwork& found = **loaded;
  const bool same =
      active != nullptr && active->found.file == found.file &&
      RenderNetworkConfig(active->found.network) == RenderNetworkConfig(found.network);
  if (!same) {
    auto used = Use(std::move(found));
    if (!used.ok()) return Publish(true, nullptr, used.error().message());
    active = *std::move(used);
  }
  Result<> status = Chain(queries_, active->found.network, active->version).Status();
  Publish(true, active, status.ok() ? "" : status.error().message());
}

void PluginNetwork::Impl::Publish(bool configured, ActivePtr active, std::string unready) {
  bool switched = false, news = false;
  {
    std::lock_guard lock(mutex_);
    switched = configured_ != configured;
    news = active_ != active || unready_ != unready;
    configured_ = configured;
    active_ = active;
    unready_ = unready;
  }
  if (news && active != nullptr) {
    log::Info("the pod network is made by CNI plugins",
              {{"file", active->found.file},
               {"network", active->found.network.name},
               {"plugins", TypesOf(active->found.network)},
               {"version", ToString(active->version)}});
  }
  if (news && configured && !unready.empty()) {
    log::Warning("the CNI plugins' network is not ready", {{"why", unready}});
  }
  if (!switched) return;
  std::lock_guard lock(change_mutex_);
  if (changed_) changed_();
}

Result<AttachmentRecord> PluginNetwork::Impl::Draft(const AttachRequest& request,
                                                    const ActiveNetwork& active) const {
  auto arguments = TRY(PluginArguments(request));
  AttachmentRecord record{.boot_id = config_.boot_id,
                          .pod = request.pod_namespace + "/" + request.pod_name,
                          .network = active.found.network,
                          .version = active.version};
  record.call = {.container_id = request.sandbox_id,
                 .netns = request.netns_path,
                 .interface = config_.pod_interface,
                 .arguments = std::move(arguments)};
  std::lock_guard lock(mutex_);
  record.call.capabilities = CapabilityArguments(request, pod_cidrs_);
  return record;
}

// On failure the record's result is what is known of what was made.
Result<Attachment> PluginNetwork::Impl::Connect(AttachmentRecord& record, const net::Netns& netns) {
  TRY(config_.set_up_loopback(netns).With("loopback"));
  record.result = TRY(Chain(config_.programs, record.network, record.version).Add(record.call));
  Attachment attachment = TRY(AttachmentOf(record.result, record.version, record.call.interface)
                                  .With("network " + record.network.name));
  TRY(records_->Put(record));
  return attachment;
}

Result<Attachment> PluginNetwork::Impl::Attach(const AttachRequest& request) {
  if (!IsValidSandboxId(request.sandbox_id) || !IsValidContainerId(request.sandbox_id)) {
    return Error(Code::kInvalidArgument, "\"" + request.sandbox_id + "\" is not a sandbox id");
  }
  SandboxTurns::Turn turn(turns_, request.sandbox_id);
  net::Netns netns = TRY(net::Netns::Open(request.netns_path));
  if (auto had = records_->Find(request.sandbox_id)) {
    if (!had->result.is_null() && had->call.netns == request.netns_path &&
        had->boot_id == config_.boot_id) {
      return AttachmentOf(had->result, had->version, had->call.interface);
    }
    std::shared_lock using_plugins(garbage_mutex_);
    TRY(Undo(*had));
  }
  ActivePtr active = Active();
  if (active == nullptr) {
    Load();  // a plugin may have been installed since
    active = Active();
    if (active == nullptr) return Error(Code::kFailedPrecondition, Unready());
  }
  AttachmentRecord record = TRY(Draft(request, *active));
  std::shared_lock using_plugins(garbage_mutex_);
  TRY(records_->Put(record));
  Result<Attachment> connected = Connect(record, netns);
  if (connected.ok()) return connected;
  Result<> undone = Undo(record);
  std::string context = "attach sandbox " + request.sandbox_id;
  // The record stays where undoing fails too: Detach or Recover finishes it.
  if (!undone.ok()) context += " (and undoing it failed: " + undone.error().message() + ")";
  return std::move(connected).error().With(context);
}

// Idempotent, as DEL is.
Result<> PluginNetwork::Impl::Undo(const AttachmentRecord& record) {
  ChainCall call = record.call;
  if (!net::Netns::Open(call.netns).ok()) call.netns.clear();
  TRY(Chain(config_.programs, record.network, record.version)
          .Delete(call, record.result.is_null() ? nullptr : &record.result)
          .With("network " + record.network.name));
  return records_->Remove(record.call.container_id);
}

Result<> PluginNetwork::Impl::UndoById(const std::string& sandbox_id) {
  SandboxTurns::Turn turn(turns_, sandbox_id);
  auto record = records_->Find(sandbox_id);
  if (record == nullptr) return {};
  std::shared_lock using_plugins(garbage_mutex_);
  return Undo(*record);
}

Result<> PluginNetwork::Impl::Detach(const std::string& sandbox_id) {
  return UndoById(sandbox_id).With("detach sandbox " + sandbox_id);
}

Result<> PluginNetwork::Impl::Check(const std::string& sandbox_id) {
  SandboxTurns::Turn turn(turns_, sandbox_id);
  auto record = records_->Find(sandbox_id);
  if (record == nullptr || record->result.is_null()) {
    return Error(Code::kNotFound, "sandbox " + sandbox_id + " is not attached");
  }
  std::shared_lock using_plugins(garbage_mutex_);
  auto checked =
      Chain(config_.programs, record->network, record->version).Check(record->call, record->result);
  if (checked.ok()) return {};
  return Error(Code::kFailedPrecondition, checked.error().message());
}

Result<Attachment> PluginNetwork::Impl::Get(const std::string& sandbox_id) const {
  auto record = records_->Find(sandbox_id);
  if (record == nullptr || record->result.is_null()) {
    return Error(Code::kNotFound, "sandbox " + sandbox_id + " is not attached");
  }
  return AttachmentOf(record->result, record->version, record->call.interface);
}

std::vector<std::string> PluginNetwork::Impl::Attached() const {
  std::vector<std::string> ids;
  for (const auto& record : records_->All()) ids.push_back(record->call.container_id);
  return ids;
}

Result<> PluginNetwork::Impl::Recover(const std::set<std::string>& live) {
  for (const auto& record : records_->All()) {
    const std::string& id = record->call.container_id;
    const bool attached = record->boot_id == config_.boot_id && !record->result.is_null();
    if (attached && live.contains(id)) continue;
    Result<> undone = UndoById(id);
    if (undone.ok()) continue;
    // What is gone for good must not keep the node from starting.
    log::Warning("cannot undo what CNI plugins made for a pod that is gone; trying on",
                 {{"pod", record->pod}, {"sandbox", id}, {"error", undone.error()}});
    std::lock_guard lock(mutex_);
    undone_in_vain_.insert(id);
  }
  CollectGarbage();
  return {};
}

void PluginNetwork::Impl::RetryUndoing() {
  std::set<std::string> ids;
  {
    std::lock_guard lock(mutex_);
    ids = undone_in_vain_;
  }
  for (const std::string& id : ids) {
    if (!UndoById(id).ok()) continue;
    std::lock_guard lock(mutex_);
    undone_in_vain_.erase(id);
  }
}

void PluginNetwork::Impl::CollectGarbage() {
  ActivePtr active = Active();
  if (active == nullptr) return;
  std::unique_lock alone(garbage_mutex_);
  std::vector<std::pair<std::string, std::string>> valid;
  for (const auto& record : records_->All()) {
    if (record->network.name != active->found.network.name) continue;
    valid.emplace_back(record->call.container_id, record->call.interface);
  }
  Result<> collected =
      Chain(config_.programs, active->found.network, active->version).CollectGarbage(valid);
  if (!collected.ok()) {
    log::Warning("CNI plugins cannot collect garbage; what they left of pods that are gone stays",
                 {{"network", active->found.network.name}, {"error", collected.error()}});
  }
}

Result<> PluginNetwork::Impl::Reconcile() {
  RetryUndoing();
  Load();
  return {};
}

Result<std::unique_ptr<PluginNetwork>> PluginNetwork::Open(PluginNetworkConfig config) {
  if (!IsValidInterfaceName(config.pod_interface)) {
    return Error(Code::kInvalidArgument, "interface names have 1 to 15 characters");
  }
  if (config.boot_id.empty()) config.boot_id = TRY(RunningBootId());
  if (!config.set_up_loopback) config.set_up_loopback = KernelLoopback;
  auto records = TRY(AttachmentTable::Open(config.state_dir + "/attachments"));
  auto impl = std::make_unique<Impl>(std::move(config), std::move(records));
  impl->Load();
  TRY(impl->Watch());
  impl->Load();  // what changed before it was watched
  return std::unique_ptr<PluginNetwork>(new PluginNetwork(std::move(impl)));
}

PluginNetwork::PluginNetwork(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
PluginNetwork::~PluginNetwork() = default;

bool PluginNetwork::Configured() const { return impl_->Configured(); }
void PluginNetwork::OnChange(std::function<void()> changed) { impl_->OnChange(std::move(changed)); }
std::vector<std::string> PluginNetwork::Attached() const { return impl_->Attached(); }
Result<Attachment> PluginNetwork::Attach(const AttachRequest& request) {
  return impl_->Attach(request);
}
Result<> PluginNetwork::Detach(const std::string& sandbox_id) { return impl_->Detach(sandbox_id); }
Result<> PluginNetwork::Check(const std::string& sandbox_id) { return impl_->Check(sandbox_id); }
Result<Attachment> PluginNetwork::Get(const std::string& sandbox_id) const {
  return impl_->Get(sandbox_id);
}
Result<> PluginNetwork::Recover(const std::vector<std::string>& live_sandbox_ids) {
  return impl_->Recover({live_sandbox_ids.begin(), live_sandbox_ids.end()});
}
Result<> PluginNetwork::SetPodCidrs(const std::vector<net::IpPrefix>& pod_cidrs,
                                    const std::vector<net::IpPrefix>&) {
  impl_->SetPodCidrs(pod_cidrs);
  return {};
}
Result<> PluginNetwork::Reconcile() { return impl_->Reconcile(); }
std::string PluginNetwork::Unready() const { return impl_->Unready(); }

}  // namespace skiff::cni

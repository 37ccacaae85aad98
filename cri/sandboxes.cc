// The sandbox half of RuntimeService.
#include <mutex>
#include <optional>

#include "base/log.h"
#include "base/os/files.h"
#include "base/random.h"
#include "cri/render.h"
#include "cri/runtime_service.h"
#include "cri/translate.h"

namespace skiff::cri {
namespace {

constexpr mode_t kFileMode = 0644;

// Work that may be done by whoever comes first: another thread, or the one that needs it.
struct Attaching {
  std::once_flag once;
  Result<cni::Attachment> result = Error(Code::kInternal, "not attached");
};

// Whom a sandbox's files belong to, where not to us. Containers have them as bind mounts: readable
// for every user of theirs, and their root's, whom a user namespace makes another one out here. (An
// id-mapped mount would do that too, but tmpfs, where these files are, has them since Linux 6.3
// only.)
std::optional<FileOwner> OwnerOfFiles(const api::UserNamespace& users) {
  if (users.mode() != api::POD || users.uids().empty() || users.gids().empty()) return {};
  return FileOwner{users.uids(0).host_id(), users.gids(0).host_id()};
}

}  // namespace

std::string RuntimeService::SandboxDirectory(const std::string& id) const {
  return deps_.state_dir + "/sandboxes/" + id;
}

void RuntimeService::Observe(Sandbox& sandbox) {
  sandbox.UpdateView([&](SandboxView& view) {
    if (auto status = deps_.runtime->Sandbox(sandbox.id); status.ok()) {
      view.state = status->state;
      view.created = status->created;
      view.netns_path = status->netns_path;
      view.cgroup_path = status->cgroup_path;
      view.pause_pid = status->pause_pid;
    } else {
      view.state = runtime::SandboxState::kStopped;
      view.pause_pid = 0;
    }
    view.addresses.clear();
    if (!sandbox.has_network || view.state != runtime::SandboxState::kReady) return;
    auto attachment = deps_.network->Get(sandbox.id);
    if (!attachment.ok()) return;
    for (const cni::PodAddress& address : attachment->addresses) {
      view.addresses.push_back(address.address.ToString());
    }
    view.host_interface = attachment->host_interface;
  });
}

Result<> RuntimeService::WriteSandboxFiles(const Sandbox& sandbox) const {
  const std::string directory = SandboxDirectory(sandbox.id);
  const api::PodSandboxConfig& config = sandbox.request.config();
  const std::optional<FileOwner> owner =
      OwnerOfFiles(config.linux().security_context().namespace_options().userns_options());
  const auto write = [&](const char* name, std::string_view text) {
    return WriteFileInPlace(directory + "/" + name, text, kFileMode, owner);
  };
  // By its name a sandbox is known to be whole, so it has its text and its owner before.
  const auto write_last = [&](std::string_view text) {
    return WriteFileAtomic(directory + "/" + kLastSandboxFile, text, Durability::kNone, kFileMode,
                           owner);
  };
  TRY(MakeDirectories(directory, 0711));
  std::string resolv = RenderResolvConf(config.dns_config());
  if (resolv.empty()) resolv = ReadFile("/etc/resolv.conf").value_or("");
  TRY(write("resolv.conf", resolv));
  std::string hostname = config.hostname();
  if (hostname.empty()) hostname = ReadFile("/proc/sys/kernel/hostname").value_or("");
  while (hostname.ends_with('\n')) hostname.pop_back();
  TRY(write("hostname", hostname + "\n"));
  if (!sandbox.has_network) return write_last(ReadFile("/etc/hosts").value_or(""));
  // kubelet mounts a file of its own over this one; other clients get names that resolve.
  std::string hosts = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n";
  for (const std::string& address : sandbox.view().addresses) {
    hosts += address + "\t" + hostname + "\n";
  }
  return write_last(hosts);
}

// Network and processes come up side by side; either's failure is the call's. Where no thread is
// free for the network it comes behind the processes, so that calls never wait for each other.
Result<> RuntimeService::BringUp(const SandboxPtr& sandbox, const cni::AttachRequest& network) {
  auto attaching = std::make_shared<Attaching>();
  auto attach = [attaching, network, pods = deps_.network] {
    std::call_once(attaching->once,
                   [&] { attaching->result = pods->Attach(network).With("pod network"); });
  };
  if (sandbox->has_network) deps_.blocking->Post(attach);
  auto started = deps_.runtime->StartSandbox(sandbox->id);
  if (sandbox->has_network) {
    attach();
    if (started.ok()) TRY(attaching->result);
  }
  TRY(std::move(started));
  Observe(*sandbox);
  return WriteSandboxFiles(*sandbox);
}

Result<> RuntimeService::RunPodSandbox(const api::RunPodSandboxRequest& request,
                                       api::RunPodSandboxResponse* response) {
  const std::string id = RandomHex(kIdBytes);
  SandboxPlan plan = TRY(PlanSandbox(request.config(), request.runtime_handler(), id));
  if (!plan.spec.user_namespace.empty() && !UserNamespaces().ok()) return UserNamespaces().error();
  const std::string key = SandboxKey(request.config().metadata());
  if (auto reserved = table_.Reserve(key, id); !reserved.ok()) {
    // The same request again, whose answer was lost or whose client gave up, is answered again.
    const auto holder = table_.FindSandbox(table_.Holder(key));
    if (holder.ok() && (*holder)->view().state == runtime::SandboxState::kReady &&
        (*holder)->request.SerializeAsString() == request.SerializeAsString()) {
      response->set_pod_sandbox_id((*holder)->id);
      return {};
    }
    if (!holder.ok() || (*holder)->came_up) return std::move(reserved).error();
    // What did not come up and could not be removed then can be removed now, perhaps.
    api::RemovePodSandboxRequest removal;
    removal.set_pod_sandbox_id((*holder)->id);
    api::RemovePodSandboxResponse removed;
    TRY(RemovePodSandbox(removal, &removed));
    TRY(table_.Reserve(key, id));
  }
  auto sandbox = std::make_shared<Sandbox>();
  sandbox->id = id;
  sandbox->request = request;
  sandbox->has_network = plan.has_network;
  std::unique_lock operation(sandbox->operation);
  plan.spec.client_data = request.SerializeAsString();
  auto created = deps_.runtime->CreateSandbox(plan.spec);
  if (!created.ok()) {
    (void)deps_.runtime->RemoveSandbox(id);  // Recover removes what is left
    table_.Release(key);
    return std::move(created).error();
  }
  plan.network.netns_path = created->netns_path;
  if (!request.config().log_directory().empty()) {
    // A container's log needs it; that a log cannot be written shows there.
    (void)MakeDirectories(request.config().log_directory(), 0755);
  }
  if (auto up = BringUp(sandbox, plan.network); !up.ok()) {
    if (auto gone = Dispose(sandbox); !gone.ok()) {
      log::Warning("a sandbox that did not come up cannot be removed; listing it as not ready",
                   {{"sandbox", id}, {"error", gone.error()}});
      Observe(*sandbox);
      sandbox->came_up = false;
      table_.Add(sandbox);  // so that the client removes it: it has its name until then
    } else {
      table_.Release(key);
    }
    return std::move(up).error();
  }
  table_.Add(sandbox);
  operation.unlock();
  Tell(sandbox, api::CONTAINER_STARTED_EVENT);
  response->set_pod_sandbox_id(id);
  return {};
}

// Kills the processes and frees the address. The caller holds the sandbox's operation lock.
Result<> RuntimeService::Halt(const SandboxPtr& sandbox) {
  TRY(deps_.runtime->StopSandbox(sandbox->id));
  Result<> detached;
  if (sandbox->has_network) detached = deps_.network->Detach(sandbox->id);
  for (const ContainerPtr& container : table_.ContainersOf(sandbox->id)) Observe(*container);
  Observe(*sandbox);
  return detached;
}

// Everything of the sandbox but its table entry. Its processes go first, whatever is the matter
// with the rest; its records last, for an address or a host port that nobody names would be taken
// until the next start.
Result<> RuntimeService::Dispose(const SandboxPtr& sandbox) {
  TRY(deps_.runtime->StopSandbox(sandbox->id));
  if (sandbox->has_network) TRY(deps_.network->Detach(sandbox->id));
  TRY(deps_.runtime->RemoveSandbox(sandbox->id));
  return RemoveTree(SandboxDirectory(sandbox->id));
}

Result<> RuntimeService::StopPodSandbox(const api::StopPodSandboxRequest& request,
                                        api::StopPodSandboxResponse*) {
  const auto found = table_.FindSandbox(request.pod_sandbox_id());
  if (!found.ok()) {
    if (found.error().code() == Code::kNotFound) return {};
    return found.error();
  }
  const SandboxPtr& sandbox = *found;
  std::unique_lock operation(sandbox->operation);
  auto halted = Halt(sandbox);
  operation.unlock();
  if (sandbox->view().state != runtime::SandboxState::kReady) {
    Tell(sandbox, api::CONTAINER_STOPPED_EVENT);
  }
  return halted;
}

Result<> RuntimeService::RemovePodSandbox(const api::RemovePodSandboxRequest& request,
                                          api::RemovePodSandboxResponse*) {
  const auto found = table_.FindSandbox(request.pod_sandbox_id());
  if (!found.ok()) {
    if (found.error().code() == Code::kNotFound) return {};
    return found.error();
  }
  const SandboxPtr& sandbox = *found;
  std::unique_lock operation(sandbox->operation);
  if (!table_.FindSandbox(sandbox->id).ok()) return {};  // removed while we waited
  if (auto stopped = deps_.runtime->StopSandbox(sandbox->id); !stopped.ok()) return stopped;
  for (const ContainerPtr& container : table_.ContainersOf(sandbox->id)) {
    const std::lock_guard container_operation(container->operation);
    TRY(Discard(container));
  }
  TRY(Dispose(sandbox));
  sandbox->UpdateView([](SandboxView& view) { view.state = runtime::SandboxState::kStopped; });
  stats_.Forget(sandbox->id);
  // First the table: who lists after the event must not find it.
  table_.RemoveSandbox(sandbox->id);
  // Those whose creation ended meanwhile; one that ends from now on finds the sandbox gone.
  for (const ContainerPtr& container : table_.ContainersOf(sandbox->id)) {
    const std::lock_guard container_operation(container->operation);
    TRY(Discard(container));
  }
  Tell(sandbox, api::CONTAINER_DELETED_EVENT);
  return {};
}

Result<> RuntimeService::PodSandboxStatus(const api::PodSandboxStatusRequest& request,
                                          api::PodSandboxStatusResponse* response) {
  const SandboxPtr sandbox = TRY(table_.FindSandbox(request.pod_sandbox_id()));
  *response->mutable_status() = RenderSandboxStatus(*sandbox);
  for (const ContainerPtr& container : table_.ContainersOf(sandbox->id)) {
    *response->add_containers_statuses() = RenderContainerStatus(*container);
  }
  response->set_timestamp(Nanoseconds(Clock::Real().WallNow()));
  if (request.verbose()) (*response->mutable_info())["info"] = SandboxInfo(*sandbox);
  return {};
}

Result<> RuntimeService::ListPodSandbox(const api::ListPodSandboxRequest& request,
                                        api::ListPodSandboxResponse* response) {
  for (const SandboxPtr& sandbox : table_.Sandboxes()) {
    api::PodSandbox item = RenderSandbox(*sandbox);
    if (Matches(request.filter(), item)) *response->add_items() = std::move(item);
  }
  return {};
}

// kubelet has resized the pod's cgroup itself; there is nothing of ours that depends on its size.
Result<> RuntimeService::UpdatePodSandboxResources(
    const api::UpdatePodSandboxResourcesRequest& request, api::UpdatePodSandboxResourcesResponse*) {
  TRY(table_.FindSandbox(request.pod_sandbox_id()));
  TRY(PlanResources(request.resources()));
  TRY(PlanResources(request.overhead()));
  return {};
}

Result<> RuntimeService::PortForward(const api::PortForwardRequest& request,
                                     api::PortForwardResponse* response) {
  const SandboxPtr sandbox = TRY(table_.FindSandbox(request.pod_sandbox_id()));
  if (sandbox->view().state != runtime::SandboxState::kReady) {
    return Error(Code::kFailedPrecondition, "pod sandbox " + sandbox->id + " is not ready");
  }
  std::vector<uint16_t> ports;
  for (const int32_t port : request.port()) {
    if (port < 1 || port > 65535) return Error(Code::kInvalidArgument, "ports are 1 to 65535");
    ports.push_back(static_cast<uint16_t>(port));
  }
  response->set_url(deps_.streaming->OfferPortForward(sandbox->id, std::move(ports)));
  return {};
}

}  // namespace skiff::cri

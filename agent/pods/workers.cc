#include "agent/pods/workers.h"

#include <algorithm>
#include <set>

#include "base/log.h"
#include "proto/k8s/core/v1/pod.pb.h"

namespace skiff::agent {
namespace {

namespace core = k8s::core::v1;
using std::chrono::milliseconds;
using std::chrono::seconds;

// Names and uids become paths and cgroups. The API server has checked them; a node does not take
// its word for it.
bool SafeName(const std::string& name) {
  return !name.empty() && name.size() <= 253 && name.find('/') == std::string::npos &&
         name.find('\0') == std::string::npos && name != "." && name != "..";
}

bool SafePod(const core::Pod& pod) {
  const auto& metadata = pod.metadata();
  if (!SafeName(metadata.name()) || !SafeName(metadata.namespace_()) || !SafeName(metadata.uid())) {
    return false;
  }
  for (const auto* list : {&pod.spec().containers(), &pod.spec().init_containers()}) {
    for (const core::Container& container : *list) {
      if (!SafeName(container.name())) return false;
    }
  }
  for (const core::Volume& volume : pod.spec().volumes()) {
    if (!SafeName(volume.name())) return false;
  }
  return true;
}

bool NamesObject(const core::Pod& pod, const std::string& kind, const std::string& name) {
  bool secret = kind == "Secret";
  for (const core::Volume& volume : pod.spec().volumes()) {
    const auto& source = volume.volume_source();
    if (secret && source.secret().secret_name() == name) return true;
    if (!secret && source.has_config_map() &&
        source.config_map().local_object_reference().name() == name) {
      return true;
    }
    for (const auto& part : source.projected().sources()) {
      if (secret && part.secret().local_object_reference().name() == name) return true;
      if (!secret && part.config_map().local_object_reference().name() == name) return true;
    }
  }
  for (const auto* list : {&pod.spec().containers(), &pod.spec().init_containers()}) {
    for (const core::Container& container : *list) {
      for (const auto& from : container.env_from()) {
        if (secret && from.secret_ref().local_object_reference().name() == name) return true;
        if (!secret && from.config_map_ref().local_object_reference().name() == name) return true;
      }
      for (const auto& variable : container.env()) {
        const auto& source = variable.value_from();
        if (secret && source.secret_key_ref().local_object_reference().name() == name) return true;
        if (!secret && source.config_map_key_ref().local_object_reference().name() == name) {
          return true;
        }
      }
    }
  }
  return false;
}

}  // namespace

PodWorkers::PodWorkers(const PodDeps& deps)
    : deps_(deps), self_(std::make_shared<PodWorkers*>(this)) {}

PodWorkers::~PodWorkers() {
  {
    std::lock_guard lock(stop_mutex_);
    stopping_ = true;
  }
  stop_wake_.notify_all();
  deps_.cri.CancelWatch();
  if (watcher_.joinable()) watcher_.join();
  std::lock_guard lock(mutex_);
  for (auto& [uid, entry] : workers_) entry.worker->Stop();
  *self_ = nullptr;
}

std::shared_ptr<PodWorker> PodWorkers::AddWorker(const PodIdentity& identity) {
  auto worker = PodWorker::Make(deps_, identity,
                                [weak = std::weak_ptr<PodWorkers*>(self_)](const std::string& uid) {
                                  if (auto self = weak.lock(); self != nullptr && *self != nullptr)
                                    (*self)->Forget(uid);
                                });
  workers_[identity.uid] = Entry{identity, worker, nullptr};
  return worker;
}

void PodWorkers::Forget(const std::string& uid) {
  std::lock_guard lock(mutex_);
  auto found = workers_.find(uid);
  if (found == workers_.end()) return;
  found->second.worker->Stop();
  workers_.erase(found);
}

void PodWorkers::SetDesired(const std::vector<PodPtr>& pods) {
  std::vector<std::pair<std::shared_ptr<PodWorker>, PodPtr>> wanted;
  std::vector<std::shared_ptr<PodWorker>> unwanted;
  {
    std::lock_guard lock(mutex_);
    std::set<std::string> uids;
    for (const PodPtr& pod : pods) {
      const auto& metadata = pod->metadata();
      if (!SafePod(*pod)) {
        log::Error("refusing a pod whose names are not fit for paths", {{"pod", metadata.name()}});
        continue;
      }
      uids.insert(metadata.uid());
      auto found = workers_.find(metadata.uid());
      if (found == workers_.end()) {
        AddWorker({metadata.uid(), metadata.namespace_(), metadata.name()});
        found = workers_.find(metadata.uid());
      } else if (found->second.pod == pod) {
        continue;
      }
      found->second.pod = pod;
      wanted.emplace_back(found->second.worker, pod);
    }
    for (auto& [uid, entry] : workers_) {
      if (!uids.contains(uid)) unwanted.push_back(entry.worker);
    }
  }
  for (auto& [worker, pod] : wanted) worker->SetPod(pod);
  for (auto& worker : unwanted) worker->Remove();
  AdoptOrphansIfDue();
}

// A look costs the more the more pods there are, and pods come by the hundred.
void PodWorkers::AdoptOrphansIfDue() {
  {
    std::lock_guard lock(mutex_);
    const SteadyTime now = deps_.blocking.clock().Now();
    if (now < orphans_due_) return;
    orphans_due_ = now + kOrphanPause;
  }
  deps_.blocking.Post([weak = std::weak_ptr<PodWorkers*>(self_)] {
    auto self = weak.lock();
    if (self == nullptr || *self == nullptr || (*self)->AdoptOrphans()) return;
    std::lock_guard lock((*self)->mutex_);
    (*self)->orphans_due_ = {};
  });
}

// False: something is left to do.
bool PodWorkers::AdoptOrphans() {
  auto present = deps_.cri.ListPods();
  if (!present.ok()) {
    log::Warning("cannot list the runtime's pods; orphans stay for now",
                 {{"error", present.error()}});
    return false;
  }
  for (const PodIdentity& identity : *present) {
    if (!SafeName(identity.uid) || !SafeName(identity.name) || !SafeName(identity.name_space)) {
      continue;
    }
    std::shared_ptr<PodWorker> worker;
    {
      std::lock_guard lock(mutex_);
      if (workers_.contains(identity.uid)) continue;
      worker = AddWorker(identity);
    }
    log::Info("stopping a pod that is not wanted here",
              {{"pod", identity.name}, {"uid", identity.uid}});
    worker->Remove();
  }
  // What a crash left of pods that even the runtime has forgotten.
  bool complete = true;
  for (const std::string& uid : FindLeftovers(deps_)) {
    {
      std::lock_guard lock(mutex_);
      // A uid that is not wanted now never will be: uids are not given twice.
      if (workers_.contains(uid) || !SafeName(uid)) continue;
    }
    auto released = ReleasePodStep(deps_, uid, "");
    if (!released.ok()) {
      log::Warning("cannot remove what a pod left; trying again later",
                   {{"uid", uid}, {"error", released.error()}});
      complete = false;
    }
  }
  return complete;
}

void PodWorkers::ObjectChanged(const std::string& kind, const std::string& name_space,
                               const std::string& name) {
  std::vector<std::shared_ptr<PodWorker>> concerned;
  {
    std::lock_guard lock(mutex_);
    for (auto& [uid, entry] : workers_) {
      if (entry.pod != nullptr && entry.identity.name_space == name_space &&
          NamesObject(*entry.pod, kind, name)) {
        concerned.push_back(entry.worker);
      }
    }
  }
  for (auto& worker : concerned) worker->ObjectsChanged();
}

void PodWorkers::RepeatReports() {
  std::lock_guard lock(mutex_);
  for (auto& [uid, entry] : workers_) entry.worker->Repeat();
}

void PodWorkers::Wake(const std::string& uid) {
  std::lock_guard lock(mutex_);
  auto found = workers_.find(uid);
  if (found != workers_.end()) found->second.worker->Wake();
}

void PodWorkers::WakeAll() {
  std::lock_guard lock(mutex_);
  for (auto& [uid, entry] : workers_) entry.worker->Wake();
}

Result<std::shared_ptr<const PodView>> PodWorkers::Find(const std::string& name_space,
                                                        const std::string& name,
                                                        const std::string& uid) const {
  std::lock_guard lock(mutex_);
  for (const auto& [entry_uid, entry] : workers_) {
    if (entry.identity.name != name || entry.identity.name_space != name_space) continue;
    if (!uid.empty() && uid != entry_uid) continue;
    auto view = entry.worker->view();
    if (view == nullptr) return Error(Code::kUnavailable, "the pod is not known yet");
    return view;
  }
  return Error(Code::kNotFound, "pods \"" + name + "\" not found on this node");
}

size_t PodWorkers::size() const {
  std::lock_guard lock(mutex_);
  return workers_.size();
}

void PodWorkers::StartWatching() {
  watcher_ = std::thread([this] { Watch(); });
}

// False when it is time to stop.
bool PodWorkers::Sleep(milliseconds time) {
  std::unique_lock lock(stop_mutex_);
  return !stop_wake_.wait_for(lock, time, [this] { return stopping_; });
}

void PodWorkers::Watch() {
  milliseconds delay(100);
  while (Sleep(milliseconds(0))) {
    auto ended = deps_.cri.WatchEvents(
        [&] {
          delay = milliseconds(100);
          WakeAll();  // what happened while nobody listened
        },
        [this](const std::string& uid) { Wake(uid); });
    if (!ended.ok() && ended.error().code() == Code::kUnimplemented) {
      log::Info("the runtime has no container events; looking every second");
      Relist();
      return;
    }
    if (!Sleep(delay)) return;
    log::Debug("the stream of container events ended; opening it again");
    delay = std::min(delay * 2, milliseconds(5000));
  }
}

// For runtimes without events: one list call a second tells which pods to look at.
void PodWorkers::Relist() {
  std::map<std::string, std::string> seen;
  while (Sleep(seconds(1))) {
    auto now = deps_.cri.Fingerprints();
    if (!now.ok()) continue;
    for (const auto& [uid, fingerprint] : *now) {
      auto before = seen.find(uid);
      if (before == seen.end() || before->second != fingerprint) Wake(uid);
    }
    for (const auto& [uid, fingerprint] : seen) {
      if (!now->contains(uid)) Wake(uid);
    }
    seen = *std::move(now);
  }
}

}  // namespace skiff::agent

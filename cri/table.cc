#include "cri/table.h"

namespace skiff::cri {
namespace {

template <class Map>
auto FindByPrefix(const Map& map, std::string_view prefix, const char* kind)
    -> Result<typename Map::mapped_type> {
  if (const auto exact = map.find(prefix); exact != map.end()) return exact->second;
  const auto first = map.lower_bound(prefix);
  if (prefix.empty() || first == map.end() || !first->first.starts_with(prefix)) {
    return Error(Code::kNotFound, std::string(kind) + " \"" + std::string(prefix) + "\" not found");
  }
  const auto second = std::next(first);
  if (second != map.end() && second->first.starts_with(prefix)) {
    return Error(Code::kInvalidArgument,
                 std::string(kind) + " id prefix \"" + std::string(prefix) + "\" is ambiguous");
  }
  return first->second;
}

template <class Map>
std::vector<typename Map::mapped_type> Values(const Map& map) {
  std::vector<typename Map::mapped_type> values;
  values.reserve(map.size());
  for (const auto& [id, value] : map) values.push_back(value);
  return values;
}

}  // namespace

std::string SandboxKey(const api::PodSandboxMetadata& metadata) {
  return metadata.namespace_() + "/" + metadata.name() + "/" + metadata.uid() + "/" +
         std::to_string(metadata.attempt());
}

std::string ContainerKey(const std::string& sandbox_id, const api::ContainerMetadata& metadata) {
  return sandbox_id + "//" + metadata.name() + "/" + std::to_string(metadata.attempt());
}

Result<> Table::Reserve(const std::string& key, const std::string& id) {
  std::unique_lock lock(mutex_);
  auto holder = names_.end();
  settled_.wait(lock, [&] {
    holder = names_.find(key);
    return holder == names_.end() || sandboxes_.contains(holder->second) ||
           containers_.contains(holder->second);
  });
  if (holder != names_.end()) {
    return Error(Code::kAlreadyExists, "the name " + key + " is taken by " + holder->second);
  }
  names_.emplace(key, id);
  return {};
}

std::string Table::Holder(const std::string& key) const {
  std::lock_guard lock(mutex_);
  const auto it = names_.find(key);
  return it == names_.end() ? "" : it->second;
}

void Table::Release(const std::string& key) {
  std::lock_guard lock(mutex_);
  names_.erase(key);
  settled_.notify_all();
}

void Table::Add(SandboxPtr sandbox) {
  std::lock_guard lock(mutex_);
  names_[SandboxKey(sandbox->request.config().metadata())] = sandbox->id;
  sandboxes_[sandbox->id] = std::move(sandbox);
  settled_.notify_all();
}

void Table::Add(ContainerPtr container) {
  std::lock_guard lock(mutex_);
  names_[ContainerKey(container->sandbox_id, container->fixed.metadata())] = container->id;
  containers_[container->id] = std::move(container);
  settled_.notify_all();
}

void Table::RemoveSandbox(const std::string& id) {
  std::lock_guard lock(mutex_);
  const auto it = sandboxes_.find(id);
  if (it == sandboxes_.end()) return;
  names_.erase(SandboxKey(it->second->request.config().metadata()));
  sandboxes_.erase(it);
}

void Table::RemoveContainer(const std::string& id) {
  std::lock_guard lock(mutex_);
  const auto it = containers_.find(id);
  if (it == containers_.end()) return;
  names_.erase(ContainerKey(it->second->sandbox_id, it->second->fixed.metadata()));
  containers_.erase(it);
}

Result<SandboxPtr> Table::FindSandbox(std::string_view id_or_prefix) const {
  std::lock_guard lock(mutex_);
  return FindByPrefix(sandboxes_, id_or_prefix, "pod sandbox");
}

Result<ContainerPtr> Table::FindContainer(std::string_view id_or_prefix) const {
  std::lock_guard lock(mutex_);
  return FindByPrefix(containers_, id_or_prefix, "container");
}

std::vector<SandboxPtr> Table::Sandboxes() const {
  std::lock_guard lock(mutex_);
  return Values(sandboxes_);
}

std::vector<ContainerPtr> Table::Containers() const {
  std::lock_guard lock(mutex_);
  return Values(containers_);
}

std::vector<ContainerPtr> Table::ContainersOf(const std::string& sandbox_id) const {
  std::lock_guard lock(mutex_);
  std::vector<ContainerPtr> found;
  for (const auto& [id, container] : containers_) {
    if (container->sandbox_id == sandbox_id) found.push_back(container);
  }
  return found;
}

}  // namespace skiff::cri

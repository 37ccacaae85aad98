#include "control-plane/controllers/framework/controller.h"

#include <algorithm>

namespace skiff::cp {

Controller::Controller(std::string name, Client& client, Executor& executor)
    : client_(client),
      strand_(executor),
      queue_(std::move(name), strand_, [this](const std::string& key) { return Sync(key); }) {}

void Controller::Observe(ObjectCache& cache, ObjectCache::OnChange on_change) {
  observed_.push_back({&cache, std::move(on_change)});
}

void Controller::Start() {
  for (Observed& observed : observed_) {
    observed.cache->Start(weak_from_this(), observed.on_change, [this] { OnSynced(); });
  }
}

void Controller::Stop() {
  stopped_ = true;
  queue_.Stop();
  for (Observed& observed : observed_) observed.cache->Stop();
}

void Controller::OnSynced() {
  if (ready_ || !std::ranges::all_of(
                    observed_, [](const Observed& observed) { return observed.cache->synced(); })) {
    return;
  }
  ready_ = true;
  OnReady();
  queue_.Start(weak_from_this());
}

void Controller::After(std::chrono::nanoseconds delay, std::function<void()> work) {
  strand_.PostAfter(delay, [owner = weak_from_this(), work = std::move(work)] {
    std::shared_ptr<Controller> alive = owner.lock();
    if (alive && !alive->stopped_) work();
  });
}

void Controller::Every(std::chrono::nanoseconds period, std::function<void()> work) {
  After(period, [this, period, work = std::move(work)] {
    work();
    Every(period, work);
  });
}

}  // namespace skiff::cp

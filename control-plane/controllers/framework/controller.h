// Controller: what every controller is: a strand, informers and a work queue.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/async/executor.h"
#include "control-plane/api/client.h"
#include "control-plane/controllers/framework/informer.h"
#include "control-plane/controllers/framework/work_queue.h"

namespace skiff::cp {

// Lives in a shared_ptr. Start and Stop from anywhere, all else on the strand. Once stopped no new
// work begins; what is running keeps the controller alive until it is done.
class Controller : public std::enable_shared_from_this<Controller> {
 public:
  virtual ~Controller() = default;
  void Start();
  void Stop();

 protected:
  Controller(std::string name, Client& client, Executor& executor);

  // Brings the world to what the key's object wants. An error brings the key back later.
  virtual Result<> Sync(const std::string& key) = 0;
  // All caches are filled; runs once, before the first Sync.
  virtual void OnReady() {}

  // In the constructor: a cache that is watched, and what a change of it means. before is null for
  // a new object, now is null for one that is gone.
  template <class T>
  void Observe(Informer<T>& informer, std::function<void(const std::shared_ptr<const T>& before,
                                                         const std::shared_ptr<const T>& now)>
                                          on_change) {
    Observe(informer.cache(),
            [on_change = std::move(on_change)](const ObjectPtr& before, const ObjectPtr& now) {
              on_change(Informer<T>::As(before), Informer<T>::As(now));
            });
  }
  void Observe(ObjectCache& cache, ObjectCache::OnChange on_change);

  // Runs the work on the strand after the delay, unless stopped.
  void After(std::chrono::nanoseconds delay, std::function<void()> work);
  // Runs the work again and again, first after one period.
  void Every(std::chrono::nanoseconds period, std::function<void()> work);

  WallTime Now() const { return strand_.clock().WallNow(); }

  Client& client_;
  Strand strand_;
  WorkQueue queue_;

 private:
  struct Observed {
    ObjectCache* cache;
    ObjectCache::OnChange on_change;
  };
  void OnSynced();

  std::vector<Observed> observed_;
  bool ready_ = false;
  std::atomic<bool> stopped_ = false;
};

}  // namespace skiff::cp

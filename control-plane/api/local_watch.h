// In-process subscriptions to the watch cache (Client::WatchObjects).
#pragma once

#include <memory>
#include <string_view>

#include "base/async/executor.h"
#include "control-plane/api/cache/watch_cache.h"
#include "control-plane/api/client.h"

namespace skiff::cp {

// The cache, the kinds and the executor must outlive the subscription.
std::unique_ptr<Subscription> SubscribeLocally(WatchCache& cache, const KindInfo& kind,
                                               const KindInfo& stored, std::string_view ns,
                                               Executor& executor, Client::WatchCallback callback);

}  // namespace skiff::cp

// MemoryStore: the store without a disk, for unit tests. Commit runs done before it returns;
// watches and lease expiry run on the executor, so that a ManualExecutor makes them deterministic.
#pragma once

#include <memory>

#include "base/async/executor.h"
#include "control-plane/store/store.h"

namespace skiff::cp {

// The executor must outlive the store.
std::unique_ptr<Store> MakeMemoryStore(Executor& executor);

}  // namespace skiff::cp

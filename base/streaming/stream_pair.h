// Two streams in memory, each the other's peer: for tests and for joining two parts of one process.
#pragma once

#include <memory>
#include <utility>

#include "base/async/executor.h"
#include "base/streaming/stream.h"

namespace skiff::streaming {

// Callbacks run on the executor, which must outlive both. A write is done once the other end has
// read down to less than capacity_bytes.
std::pair<std::shared_ptr<Stream>, std::shared_ptr<Stream>> MakeStreamPair(
    Executor& executor, size_t capacity_bytes = 64 << 10);

}  // namespace skiff::streaming

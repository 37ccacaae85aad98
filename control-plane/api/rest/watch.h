// Watches: a stream of a kind's changes to one client. Holds no thread between events.
#pragma once

#include <memory>

#include "base/async/executor.h"
#include "base/http/server.h"
#include "control-plane/api/registry/registry.h"
#include "control-plane/api/rest/present.h"
#include "control-plane/api/rest/selection.h"

namespace skiff::cp {

struct WatchStart {
  Registry& registry;
  Executor& workers;  // encodes and writes; outlives the watches
  View view;
  const KindInfo* stored = nullptr;
  std::string ns;
  ListParameters parameters;
};

// Answers through the writer from now on until the client leaves, the timeout, or the server's end.
// Errors of the watch itself (410) are events in the stream, as clients expect.
ApiResult<void> StartWatch(WatchStart start, std::shared_ptr<http::ResponseWriter> writer);

}  // namespace skiff::cp

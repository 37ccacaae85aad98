// TunnelCall: one Tunnel RPC as a Stream of messages, for Tunnel to make channels of.
#pragma once

#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/server_callback.h>

#include <functional>
#include <memory>
#include <string>

#include "base/async/executor.h"
#include "base/streaming/stream.h"

namespace skiff::cp {

// Called with the first message, which names the tunnel, and the stream of all the messages. False:
// nobody waits for it, and the call ends with NOT_FOUND.
using TunnelArrival =
    std::function<bool(const std::string& first, std::shared_ptr<streaming::Stream> messages)>;

// The reactor for a new call; it lives until gRPC is done with it. context is the call's own.
grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* BeginTunnelCall(
    Executor& executor, grpc::CallbackServerContext& context, TunnelArrival arrival);

}  // namespace skiff::cp

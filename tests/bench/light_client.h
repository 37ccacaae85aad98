// LightClient: unary gRPC calls over one connection to a Unix socket, one at a time, each by the
// thread that asks. It costs a fifth of the CPU time of grpc++'s channel, so a load program that
// shares its machine with the server it measures leaves the machine to the server.
#pragma once

#include <google/protobuf/message_lite.h>

#include <memory>
#include <string>

#include "base/result.h"

namespace skiff::bench {

// One thread at a time.
class LightClient {
 public:
  // `endpoint`: a path, or unix:// before it.
  static Result<std::unique_ptr<LightClient>> Connect(const std::string& endpoint);
  ~LightClient();

  // `method`: the whole path, "/runtime.v1.RuntimeService/Version". The server's status, or
  // kUnavailable where the connection failed: the client is of no use then.
  Result<> Call(const std::string& method, const google::protobuf::MessageLite& request,
                google::protobuf::MessageLite* response);

 private:
  class Impl;
  explicit LightClient(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace skiff::bench

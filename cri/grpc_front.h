// GrpcFront: CRI's two services and the import of image archives on gRPC's callback API.
//
// gRPC's threads only hand over: each call runs on the blocking executor, so a slow one holds no
// other up, and a followed event stream holds no thread at all.
#pragma once

#include <memory>
#include <string>

#include "base/async/executor.h"
#include "base/result.h"

namespace grpc {
class Channel;
class Status;
}  // namespace grpc

namespace skiff::runtime {
class ImageStore;
}  // namespace skiff::runtime

namespace skiff::cri {

class ImageService;
class RuntimeService;

// Where calls run. Two, so that calls that wait for something never hold up those that only read.
struct CallExecutors {
  Executor& blocking;
  Executor& reading;
};

class GrpcFront {
 public:
  // socket: a path, made anew with mode 0600; empty: in-process only. The executors, the services
  // and the store must outlive the front.
  static Result<std::unique_ptr<GrpcFront>> Start(const std::string& socket,
                                                  RuntimeService& runtime, ImageService& images,
                                                  runtime::ImageStore& store,
                                                  const CallExecutors& executors);
  virtual ~GrpcFront() = default;
  // A channel of this process to the same services.
  virtual std::shared_ptr<grpc::Channel> InProcessChannel() = 0;
  // No new calls; those under way get the grace, then are cancelled. Idempotent.
  virtual void Stop() = 0;
};

}  // namespace skiff::cri

// The ImageArchives service (proto/skiff/admin/v1/admin.proto) over the image store.
#pragma once

#include <memory>

#include "base/async/executor.h"

namespace grpc {
class Service;
}  // namespace grpc

namespace skiff::runtime {
class ImageStore;
}  // namespace skiff::runtime

namespace skiff::cri {

// Each import holds one thread of blocking for as long as it takes. Both must outlive the service.
std::unique_ptr<grpc::Service> MakeArchiveService(runtime::ImageStore& images, Executor& blocking);

}  // namespace skiff::cri

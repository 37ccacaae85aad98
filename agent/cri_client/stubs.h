// The CRI stubs themselves: only for adapters that make them (DialCri, the in-process runtime, the
// fake), because this header brings gRPC with it.
#pragma once

#include <memory>

#include "agent/cri_client/cri_client.h"
#include "proto/cri/runtime/v1/api.grpc.pb.h"

namespace skiff::agent {

struct CriStubs {
  std::shared_ptr<::runtime::v1::RuntimeService::StubInterface> runtime;
  std::shared_ptr<::runtime::v1::ImageService::StubInterface> images;
};

}  // namespace skiff::agent

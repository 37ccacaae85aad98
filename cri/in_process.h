// The generated CRI stubs over a CriServer of the same process.
//
// Unary calls go straight to the service, without a socket and without serialisation, on the
// calling thread (the context's deadline is the service's own business then). Streaming and
// asynchronous calls run over gRPC's in-process channel, so that cancelling their context works.
#pragma once

#include <memory>

#include "cri/server.h"
#include "proto/cri/runtime/v1/api.grpc.pb.h"

namespace skiff::cri {

// Each must be destroyed before the server.
std::shared_ptr<::runtime::v1::RuntimeService::StubInterface> InProcessRuntimeStub(
    CriServer& server);
std::shared_ptr<::runtime::v1::ImageService::StubInterface> InProcessImageStub(CriServer& server);

}  // namespace skiff::cri

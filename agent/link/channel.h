// gRPC channels to the control plane. An adapter: brings gRPC with it.
#pragma once

#include <grpcpp/channel.h>

#include <memory>
#include <string>

#include "base/pki/pki.h"

namespace skiff::agent {

// TLS with that CA alone; mutual where a key pair is given.
std::shared_ptr<grpc::Channel> MakeLinkChannel(const std::string& server, const std::string& ca_pem,
                                               const pki::KeyPair* identity);

}  // namespace skiff::agent

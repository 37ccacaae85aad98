#include "agent/link/channel.h"

#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/support/channel_arguments.h>

namespace skiff::agent {

std::shared_ptr<grpc::Channel> MakeLinkChannel(const std::string& server, const std::string& ca_pem,
                                               const pki::KeyPair* identity) {
  grpc::SslCredentialsOptions tls;
  tls.pem_root_certs = ca_pem;
  if (identity != nullptr) {
    tls.pem_cert_chain = identity->certificate_pem;
    tls.pem_private_key = identity->key_pem;
  }
  grpc::ChannelArguments arguments;
  // A dead path is noticed within half a minute, whatever TCP believes.
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 20'000);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 10'000);
  arguments.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 500);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 10'000);
  arguments.SetMaxReceiveMessageSize(16 << 20);
  // Each channel its own connection: a renewed certificate must not ride on an old one.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  return grpc::CreateCustomChannel(server, grpc::SslCredentials(tls), arguments);
}

}  // namespace skiff::agent

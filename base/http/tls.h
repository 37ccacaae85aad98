// The TLS side of the server: an OpenSSL context from PEM texts, and who a peer is.
#pragma once

#include <memory>

#include "base/http/message.h"
#include "base/http/server.h"
#include "base/result.h"

typedef struct ssl_st SSL;
typedef struct ssl_ctx_st SSL_CTX;

namespace skiff::http {

// Owns an SSL_CTX. Immutable; shared by the connections made with it.
class TlsContext {
 public:
  static Result<std::shared_ptr<TlsContext>> Make(const TlsConfig& config);
  ~TlsContext();
  TlsContext(const TlsContext&) = delete;
  TlsContext& operator=(const TlsContext&) = delete;
  SSL_CTX* native() const { return context_; }

 private:
  explicit TlsContext(SSL_CTX* context) : context_(context) {}
  SSL_CTX* context_;
};

// After the handshake: the client certificate's subject, or why it was not accepted.
void ReadPeerCertificate(SSL* ssl, Peer& peer);

}  // namespace skiff::http

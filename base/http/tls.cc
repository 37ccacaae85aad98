#include "base/http/tls.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <string>

namespace skiff::http {
namespace {

struct Free {
  void operator()(BIO* bio) const { BIO_free(bio); }
  void operator()(X509* certificate) const { X509_free(certificate); }
  void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
};
using BioPtr = std::unique_ptr<BIO, Free>;
using CertificatePtr = std::unique_ptr<X509, Free>;
using KeyPtr = std::unique_ptr<EVP_PKEY, Free>;

Error SslError(Code code, const char* what) {
  char text[256] = "no certificate in the text";
  if (unsigned long number = ERR_get_error()) ERR_error_string_n(number, text, sizeof text);
  ERR_clear_error();
  return {code, std::string(what) + ": " + text};
}

BioPtr ReadOnly(const std::string& text) {
  return BioPtr(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
}

Result<void> UseChain(SSL_CTX* context, const std::string& pem) {
  BioPtr bio = ReadOnly(pem);
  CertificatePtr leaf(PEM_read_bio_X509(bio.get(), nullptr, nullptr, nullptr));
  if (!leaf || SSL_CTX_use_certificate(context, leaf.get()) != 1) {
    return SslError(Code::kInvalidArgument, "server certificate");
  }
  while (X509* next = PEM_read_bio_X509(bio.get(), nullptr, nullptr, nullptr)) {
    // Takes ownership on success only.
    if (SSL_CTX_add_extra_chain_cert(context, next) != 1) {
      X509_free(next);
      return SslError(Code::kInvalidArgument, "server certificate chain");
    }
  }
  ERR_clear_error();  // the end of the text is an error to OpenSSL
  return {};
}

Result<void> UseKey(SSL_CTX* context, const std::string& pem) {
  BioPtr bio = ReadOnly(pem);
  KeyPtr key(PEM_read_bio_PrivateKey(bio.get(), nullptr, nullptr, nullptr));
  if (!key || SSL_CTX_use_PrivateKey(context, key.get()) != 1 ||
      SSL_CTX_check_private_key(context) != 1) {
    return SslError(Code::kInvalidArgument, "server key");
  }
  return {};
}

// Every certificate is let through the handshake; ReadPeerCertificate reads the verdict, so that a
// client with a bad one gets an answer (401) it can show instead of a broken connection.
int AcceptForNow(int, X509_STORE_CTX*) { return 1; }

Result<void> UseClientCa(SSL_CTX* context, const std::string& pem) {
  BioPtr bio = ReadOnly(pem);
  X509_STORE* store = SSL_CTX_get_cert_store(context);
  int count = 0;
  while (true) {
    CertificatePtr ca(PEM_read_bio_X509(bio.get(), nullptr, nullptr, nullptr));
    if (!ca) break;
    if (X509_STORE_add_cert(store, ca.get()) != 1 ||
        SSL_CTX_add_client_CA(context, ca.get()) != 1) {
      return SslError(Code::kInvalidArgument, "client CA");
    }
    ++count;
  }
  if (count == 0) return SslError(Code::kInvalidArgument, "client CA");
  ERR_clear_error();
  SSL_CTX_set_verify(context, SSL_VERIFY_PEER, AcceptForNow);
  return {};
}

int SelectAlpn(SSL*, const unsigned char** out, unsigned char* out_length, const unsigned char* in,
               unsigned int in_length, void*) {
  static constexpr unsigned char kHttp11[] = "\x08http/1.1";
  if (SSL_select_next_proto(const_cast<unsigned char**>(out), out_length, kHttp11,
                            sizeof kHttp11 - 1, in, in_length) != OPENSSL_NPN_NEGOTIATED) {
    return SSL_TLSEXT_ERR_NOACK;
  }
  return SSL_TLSEXT_ERR_OK;
}

std::string EntryText(const X509_NAME_ENTRY* entry) {
  unsigned char* text = nullptr;
  int length = ASN1_STRING_to_UTF8(&text, X509_NAME_ENTRY_get_data(entry));
  if (length < 0) return {};
  std::string result(reinterpret_cast<char*>(text), static_cast<size_t>(length));
  OPENSSL_free(text);
  return result;
}

}  // namespace

Result<std::shared_ptr<TlsContext>> TlsContext::Make(const TlsConfig& config) {
  SSL_CTX* raw = SSL_CTX_new(TLS_server_method());
  if (raw == nullptr) return SslError(Code::kInternal, "SSL_CTX_new");
  std::shared_ptr<TlsContext> context(new TlsContext(raw));
  SSL_CTX_set_min_proto_version(raw, TLS1_2_VERSION);
  // No resumption: a resumed session would carry a client certificate past a change of the CA.
  SSL_CTX_set_options(raw, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION |
                               SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
  SSL_CTX_set_session_cache_mode(raw, SSL_SESS_CACHE_OFF);
  // Idle watches are many: give their buffers back.
  SSL_CTX_set_mode(raw, SSL_MODE_RELEASE_BUFFERS);
  // TLS 1.2 with forward secrecy and AEAD only; TLS 1.3's suites are all of that kind.
  if (SSL_CTX_set_cipher_list(raw, "ECDHE+AESGCM:ECDHE+CHACHA20") != 1) {
    return SslError(Code::kInternal, "cipher list");
  }
  SSL_CTX_set_alpn_select_cb(raw, SelectAlpn, nullptr);
  TRY(UseChain(raw, config.certificate_chain_pem));
  TRY(UseKey(raw, config.private_key_pem));
  if (!config.client_ca_pem.empty()) TRY(UseClientCa(raw, config.client_ca_pem));
  return context;
}

TlsContext::~TlsContext() { SSL_CTX_free(context_); }

void ReadPeerCertificate(SSL* ssl, Peer& peer) {
  peer.tls = true;
  CertificatePtr certificate(SSL_get1_peer_certificate(ssl));
  if (!certificate) return;
  if (long verdict = SSL_get_verify_result(ssl); verdict != X509_V_OK) {
    peer.certificate_error = X509_verify_cert_error_string(verdict);
    return;
  }
  peer.certificate = true;
  const X509_NAME* name = X509_get_subject_name(certificate.get());
  for (int i = 0; i < X509_NAME_entry_count(name); ++i) {
    const X509_NAME_ENTRY* entry = X509_NAME_get_entry(name, i);
    int field = OBJ_obj2nid(X509_NAME_ENTRY_get_object(entry));
    if (field == NID_commonName) peer.common_name = EntryText(entry);
    if (field == NID_organizationName) peer.organizations.push_back(EntryText(entry));
  }
}

}  // namespace skiff::http

#include "agent/link/credentials.h"

#include <grpcpp/grpcpp.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>

#include <memory>

#include "agent/link/channel.h"
#include "base/log.h"
#include "base/os/files.h"
#include "proto/skiff/node/v1/node.grpc.pb.h"

namespace skiff::agent {
namespace {

namespace link = skiff::node::v1;
using std::chrono::seconds;

constexpr seconds kJoinDeadline{20};

template <auto Free>
struct Deleter {
  template <class T>
  void operator()(T* object) const {
    Free(object);
  }
};
using BioPtr = std::unique_ptr<BIO, Deleter<BIO_free_all>>;
using ContextPtr = std::unique_ptr<SSL_CTX, Deleter<SSL_CTX_free>>;

Error TlsError(const std::string& server) {
  char text[256] = "the connection failed";
  if (unsigned long code = ERR_get_error()) ERR_error_string_n(code, text, sizeof text);
  return Error(Code::kUnavailable, "TLS to " + server + ": " + text);
}

Result<std::string> ToPem(X509* certificate) {
  BioPtr memory(BIO_new(BIO_s_mem()));
  if (memory == nullptr || PEM_write_bio_X509(memory.get(), certificate) != 1) {
    return Error(Code::kInternal, "cannot write a certificate");
  }
  char* data = nullptr;
  long length = BIO_get_mem_data(memory.get(), &data);
  return std::string(data, static_cast<size_t>(length));
}

std::string CaPath(const JoinOptions& options) { return options.directory + "/ca.crt"; }
std::string CertificatePath(const JoinOptions& options) { return options.directory + "/node.crt"; }
std::string KeyPath(const JoinOptions& options) { return options.directory + "/node.key"; }

Result<> Save(const JoinOptions& options, const NodeCredentials& credentials) {
  TRY(MakeDirectories(options.directory, 0700));
  TRY(WriteFileAtomic(CaPath(options), credentials.ca_pem, Durability::kPower, 0644));
  return pki::SaveKeyPair(credentials.node, CertificatePath(options), KeyPath(options));
}

Result<NodeCredentials> Load(const JoinOptions& options) {
  NodeCredentials credentials;
  credentials.node = TRY(pki::LoadKeyPair(CertificatePath(options), KeyPath(options)));
  credentials.ca_pem = TRY(ReadFile(CaPath(options), 1 << 20));
  auto info = TRY(pki::ReadCertificate(credentials.node.certificate_pem));
  if (info.subject != pki::NodeSubject(options.node_name)) {
    return Error(Code::kFailedPrecondition, "the certificate in " + options.directory + " is for " +
                                                info.subject.common_name + ", not for node " +
                                                options.node_name +
                                                "; remove it to join under the new name");
  }
  return credentials;
}

// Joins answer in the user's terms: what was wrong with the token.
Error JoinError(const JoinOptions& options, const grpc::Status& status) {
  switch (status.error_code()) {
    case grpc::StatusCode::UNAUTHENTICATED:
      return Error(Code::kUnauthenticated,
                   "the control plane refused the join token: " + status.error_message() +
                       "; make a new one with \"skiff token create\"");
    case grpc::StatusCode::ALREADY_EXISTS:
      return Error(Code::kAlreadyExists,
                   "node name " + options.node_name + " is taken: " + status.error_message());
    case grpc::StatusCode::INVALID_ARGUMENT:
      return Error(Code::kInvalidArgument, "join refused: " + status.error_message());
    default:
      return Error(Code::kUnavailable, "cannot reach the control plane at " + options.server +
                                           ": " + status.error_message());
  }
}

Result<NodeCredentials> Join(const JoinOptions& options) {
  std::string ca_pem;
  if (!options.ca_file.empty()) {
    ca_pem = TRY(ReadFile(options.ca_file, 1 << 20));
  } else if (!options.ca_hash.empty()) {
    ca_pem = TRY(FetchPinnedCa(options.server, options.ca_hash));
  } else {
    return Error(Code::kFailedPrecondition,
                 "joining needs the cluster's CA: give its hash (--ca-hash) or its file "
                 "(--ca-file)");
  }
  NodeCredentials credentials;
  credentials.node.key_pem = TRY(pki::MakeKey());
  auto stub = link::NodeLink::NewStub(MakeLinkChannel(options.server, ca_pem, nullptr));
  link::JoinRequest request;
  request.set_token(options.token);
  request.set_node_name(options.node_name);
  request.set_csr_pem(
      TRY(pki::MakeRequest(credentials.node.key_pem, pki::NodeSubject(options.node_name))));
  request.set_agent_version(options.agent_version);
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + kJoinDeadline);
  link::JoinResponse response;
  grpc::Status status = stub->Join(&context, request, &response);
  if (!status.ok()) return JoinError(options, status);
  credentials.node.certificate_pem = response.certificate_pem();
  credentials.ca_pem = response.ca_pem().empty() ? ca_pem : response.ca_pem();
  TRY(pki::CheckKeyMatches(credentials.node));
  TRY(Save(options, credentials));
  log::Info("joined the cluster", {{"node", options.node_name}, {"server", options.server}});
  return credentials;
}

}  // namespace

Result<std::string> FetchPinnedCa(const std::string& server, const std::string& ca_hash) {
  ContextPtr context(SSL_CTX_new(TLS_client_method()));
  if (context == nullptr) return TlsError(server);
  // Nothing is trusted here and nothing secret is sent: only the certificates are looked at.
  SSL_CTX_set_verify(context.get(), SSL_VERIFY_NONE, nullptr);
  // gRPC servers end handshakes that do not offer HTTP/2.
  static constexpr unsigned char kAlpn[] = {2, 'h', '2'};
  SSL_CTX_set_alpn_protos(context.get(), kAlpn, sizeof kAlpn);
  BioPtr connection(BIO_new_ssl_connect(context.get()));
  if (connection == nullptr) return TlsError(server);
  BIO_set_conn_hostname(connection.get(), server.c_str());
  SSL* ssl = nullptr;
  BIO_get_ssl(connection.get(), &ssl);
  std::string host = server.substr(0, server.rfind(':'));
  if (ssl != nullptr) SSL_set_tlsext_host_name(ssl, host.c_str());
  if (BIO_do_connect_retry(connection.get(), static_cast<int>(kJoinDeadline.count()), 50) != 1 ||
      BIO_do_handshake(connection.get()) != 1) {
    return TlsError(server);
  }
  STACK_OF(X509)* chain = SSL_get_peer_cert_chain(ssl);
  for (int i = 0; chain != nullptr && i < sk_X509_num(chain); ++i) {
    std::string pem = TRY(ToPem(sk_X509_value(chain, i)));
    auto hash = pki::PublicKeyHash(pem);
    if (hash.ok() && *hash == ca_hash) return pem;
  }
  return Error(Code::kUnauthenticated,
               "the control plane at " + server +
                   " does not belong to the cluster of this token: its CA is not " + ca_hash);
}

Result<NodeCredentials> LoadOrJoin(const JoinOptions& options) {
  auto present = Load(options);
  if (present.ok() || present.error().code() != Code::kNotFound) return present;
  if (options.token.empty()) {
    return Error(Code::kFailedPrecondition,
                 "this node has not joined a cluster and has no join token; make one on the "
                 "control plane with \"skiff token create\"");
  }
  return Join(options);
}

Result<NodeCredentials> Renew(const JoinOptions& options, const NodeCredentials& present) {
  NodeCredentials renewed;
  renewed.node.key_pem = TRY(pki::MakeKey());
  auto stub =
      link::NodeLink::NewStub(MakeLinkChannel(options.server, present.ca_pem, &present.node));
  link::RenewRequest request;
  request.set_csr_pem(
      TRY(pki::MakeRequest(renewed.node.key_pem, pki::NodeSubject(options.node_name))));
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + kJoinDeadline);
  link::RenewResponse response;
  grpc::Status status = stub->Renew(&context, request, &response);
  if (!status.ok()) {
    return Error(Code::kUnavailable, "renew the node's certificate: " + status.error_message());
  }
  renewed.node.certificate_pem = response.certificate_pem();
  renewed.ca_pem = response.ca_pem().empty() ? present.ca_pem : response.ca_pem();
  TRY(pki::CheckKeyMatches(renewed.node));
  TRY(Save(options, renewed));
  return renewed;
}

}  // namespace skiff::agent

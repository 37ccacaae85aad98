// The cluster's certificates: ECDSA P-256 keys, one self-signed CA, leaves for servers, clients and
// nodes (RFC 5280), all as PEM text.
//
// Values in, values out; no call keeps state, so all of it is thread-safe. Keys are PKCS #8
// ("BEGIN PRIVATE KEY"). Errors: InvalidArgument for text that is not what it should be (the
// message says which), Internal when OpenSSL itself fails.
#pragma once

#include <chrono>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/result.h"

namespace skiff::pki {

// A certificate and the private key to it. key_pem is a secret: never logged, mode 0600 on disk.
struct KeyPair {
  std::string certificate_pem;
  std::string key_pem;
};

// Who a certificate names. Kubernetes reads the user from CN and the groups from O
// (https://kubernetes.io/docs/reference/access-authn-authz/authentication/#x509-client-certificates).
struct Subject {
  std::string common_name;
  std::vector<std::string> organizations;
  bool operator==(const Subject&) const = default;
};
// CN=system:node:NAME, O=system:nodes.
Subject NodeSubject(std::string_view node_name);

struct CertificateInfo {
  Subject subject;
  std::string issuer_common_name;
  std::string serial_hex;
  WallTime not_before;
  WallTime not_after;
  std::vector<std::string> dns_names;
  std::vector<std::string> ip_addresses;  // as inet_ntop(3) prints them
  bool is_ca = false;
};

inline constexpr std::chrono::hours kCaValidity{24 * 3650};
inline constexpr std::chrono::hours kLeafValidity{24 * 365};

// A new self-signed CA. not_before is an hour before now, for clocks that lag.
Result<KeyPair> MakeCa(std::string_view common_name, WallTime now,
                       std::chrono::seconds validity = kCaValidity);

// A new key; the secret half of a request.
Result<std::string> MakeKey();
// A PKCS #10 request for the subject, signed with the key.
Result<std::string> MakeRequest(std::string_view key_pem, const Subject& subject);
// The subject a request asks for, once its own signature is checked (proof of possession).
Result<Subject> ReadRequest(std::string_view csr_pem);

enum class Usage { kServer, kClient, kServerAndClient };

struct LeafOptions {
  Subject subject;
  Usage usage = Usage::kClient;
  // Subject alternative names: an entry that parses as an address is an IP SAN, any other a DNS
  // SAN.
  std::vector<std::string> names;
  std::chrono::seconds validity = kLeafValidity;  // cut to the CA's own end
};
// A new key and its certificate, signed by the CA.
Result<KeyPair> MakeLeaf(const KeyPair& ca, const LeafOptions& options, WallTime now);
// A certificate for the key of a request, whose signature is checked. The subject and the names
// come from the options alone: what the request asks for is not trusted.
Result<std::string> SignRequest(const KeyPair& ca, std::string_view csr_pem,
                                const LeafOptions& options, WallTime now);

// The first certificate in the text.
Result<CertificateInfo> ReadCertificate(std::string_view certificate_pem);
// When its owner should renew it: two thirds of its life after not_before.
WallTime RenewalTime(const CertificateInfo& info);

// "sha256:<hex>" over the certificate's SubjectPublicKeyInfo: the pin of join tokens, equal to
// kubeadm's --discovery-token-ca-cert-hash.
Result<std::string> PublicKeyHash(std::string_view certificate_pem);

// Whether the CA signed the certificate, it holds at the time, and its key usage allows the use.
// Unauthenticated otherwise, with OpenSSL's reason.
Result<> VerifyChain(std::string_view ca_pem, std::string_view certificate_pem, Usage usage,
                     WallTime now);
// Whether the private key belongs to the certificate. InvalidArgument otherwise.
Result<> CheckKeyMatches(const KeyPair& pair);

// Files, each replaced in one durable step: the certificate 0644, the key 0600 and written first,
// so that a certificate on disk always has its key.
Result<> SaveKeyPair(const KeyPair& pair, const std::string& certificate_path,
                     const std::string& key_path);
// NotFound when either file is missing; InvalidArgument when they do not belong together.
Result<KeyPair> LoadKeyPair(const std::string& certificate_path, const std::string& key_path);

}  // namespace skiff::pki

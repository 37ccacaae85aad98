// Making keys, requests and certificates.

#include <arpa/inet.h>

#include <algorithm>

#include "base/pki/openssl.h"
#include "base/pki/pki.h"

namespace skiff::pki {

using namespace internal;

namespace {

// Clocks of nodes and clients may lag behind ours by this.
constexpr std::chrono::hours kBackdate{1};

Result<std::string> TakeText(BIO* bio) {
  char* data = nullptr;
  long size = BIO_get_mem_data(bio, &data);
  if (size <= 0) return OpensslError(Code::kInternal, "write PEM");
  return std::string(data, static_cast<size_t>(size));
}

Result<std::string> KeyToPem(EVP_PKEY* key) {
  BioPtr bio(BIO_new(BIO_s_mem()));
  if (!bio ||
      PEM_write_bio_PKCS8PrivateKey(bio.get(), key, nullptr, nullptr, 0, nullptr, nullptr) != 1) {
    return OpensslError(Code::kInternal, "write private key");
  }
  return TakeText(bio.get());
}

Result<std::string> CertificateToPem(X509* certificate) {
  BioPtr bio(BIO_new(BIO_s_mem()));
  if (!bio || PEM_write_bio_X509(bio.get(), certificate) != 1) {
    return OpensslError(Code::kInternal, "write certificate");
  }
  return TakeText(bio.get());
}

Result<KeyPtr> GenerateKey() {
  KeyPtr key(EVP_EC_gen("P-256"));
  if (!key) return OpensslError(Code::kInternal, "generate P-256 key");
  return key;
}

Result<> AddNameEntry(X509_NAME* name, int nid, std::string_view value) {
  if (X509_NAME_add_entry_by_NID(name, nid, MBSTRING_UTF8,
                                 reinterpret_cast<const unsigned char*>(value.data()),
                                 static_cast<int>(value.size()), -1, 0) != 1) {
    return OpensslError(Code::kInvalidArgument,
                        "subject entry \"" + std::string(value) + "\" is not acceptable");
  }
  return {};
}

Result<NamePtr> MakeName(const Subject& subject) {
  NamePtr name(X509_NAME_new());
  if (!name) return OpensslError(Code::kInternal, "make name");
  for (const std::string& organization : subject.organizations) {
    TRY(AddNameEntry(name.get(), NID_organizationName, organization));
  }
  TRY(AddNameEntry(name.get(), NID_commonName, subject.common_name));
  return name;
}

Result<> SetTime(ASN1_TIME* target, WallTime time) {
  if (ASN1_TIME_set(target, std::chrono::system_clock::to_time_t(time)) == nullptr) {
    return OpensslError(Code::kInternal, "set validity");
  }
  return {};
}

// 128 random bits with the top one clear, so that the number is positive (RFC 5280, 4.1.2.2).
Result<> SetRandomSerial(X509* certificate) {
  NumberPtr number(BN_new());
  if (!number || BN_rand(number.get(), 127, BN_RAND_TOP_ANY, BN_RAND_BOTTOM_ANY) != 1 ||
      BN_to_ASN1_INTEGER(number.get(), X509_get_serialNumber(certificate)) == nullptr) {
    return OpensslError(Code::kInternal, "make serial number");
  }
  return {};
}

Result<> AddExtension(X509* certificate, X509* issuer, int nid, const char* value) {
  X509V3_CTX context;
  X509V3_set_ctx_nodb(&context);
  X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
  ExtensionPtr extension(X509V3_EXT_conf_nid(nullptr, &context, nid, value));
  if (!extension || X509_add_ext(certificate, extension.get(), -1) != 1) {
    return OpensslError(Code::kInternal, std::string("add extension ") + OBJ_nid2sn(nid));
  }
  return {};
}

Result<> AppendAltName(GENERAL_NAMES* names, const std::string& text) {
  unsigned char address[16];
  GENERAL_NAME* name = GENERAL_NAME_new();
  if (name == nullptr) return OpensslError(Code::kInternal, "make alternative name");
  sk_GENERAL_NAME_push(names, name);  // owned by the list from here
  int size = 0;
  if (::inet_pton(AF_INET, text.c_str(), address) == 1) {
    size = 4;
  } else if (::inet_pton(AF_INET6, text.c_str(), address) == 1) {
    size = 16;
  }
  ASN1_STRING* value = size > 0 ? ASN1_OCTET_STRING_new() : ASN1_IA5STRING_new();
  int stored = value == nullptr ? 0
               : size > 0       ? ASN1_STRING_set(value, address, size)
                          : ASN1_STRING_set(value, text.data(), static_cast<int>(text.size()));
  if (stored != 1) {
    ASN1_STRING_free(value);
    return OpensslError(Code::kInternal, "set alternative name");
  }
  GENERAL_NAME_set0_value(name, size > 0 ? GEN_IPADD : GEN_DNS, value);
  return {};
}

Result<> AddAltNames(X509* certificate, const std::vector<std::string>& names) {
  if (names.empty()) return {};
  AltNamesPtr list(GENERAL_NAMES_new());
  if (!list) return OpensslError(Code::kInternal, "make alternative names");
  for (const std::string& name : names) TRY(AppendAltName(list.get(), name));
  if (X509_add1_ext_i2d(certificate, NID_subject_alt_name, list.get(), 0, 0) != 1) {
    return OpensslError(Code::kInternal, "add alternative names");
  }
  return {};
}

const char* ExtendedUsage(Usage usage) {
  switch (usage) {
    case Usage::kServer: return "serverAuth";
    case Usage::kClient: return "clientAuth";
    case Usage::kServerAndClient: return "serverAuth,clientAuth";
  }
  return "clientAuth";
}

// What CA and leaves have in common: version 3, serial, subject, validity, key.
Result<CertPtr> StartCertificate(const Subject& subject, EVP_PKEY* key, WallTime from,
                                 WallTime until) {
  CertPtr certificate(X509_new());
  if (!certificate || X509_set_version(certificate.get(), X509_VERSION_3) != 1) {
    return OpensslError(Code::kInternal, "make certificate");
  }
  TRY(SetRandomSerial(certificate.get()));
  TRY(SetTime(X509_getm_notBefore(certificate.get()), from));
  TRY(SetTime(X509_getm_notAfter(certificate.get()), until));
  NamePtr name = TRY(MakeName(subject));
  if (X509_set_subject_name(certificate.get(), name.get()) != 1 ||
      X509_set_pubkey(certificate.get(), key) != 1) {
    return OpensslError(Code::kInternal, "fill certificate");
  }
  return certificate;
}

Result<> Sign(X509* certificate, EVP_PKEY* key) {
  if (X509_sign(certificate, key, EVP_sha256()) == 0) {
    return OpensslError(Code::kInternal, "sign certificate");
  }
  return {};
}

Result<std::string> IssueLeaf(const KeyPair& ca, EVP_PKEY* public_key, const LeafOptions& options,
                              WallTime now) {
  CertPtr issuer = TRY(ParseCertificate(ca.certificate_pem).With("CA"));
  KeyPtr issuer_key = TRY(ParseKey(ca.key_pem).With("CA"));
  CertificateInfo issuer_info = TRY(ReadCertificate(ca.certificate_pem));
  WallTime until = std::min(now + options.validity, issuer_info.not_after);
  if (until <= now) return Error(Code::kFailedPrecondition, "the CA certificate has expired");
  CertPtr leaf = TRY(StartCertificate(options.subject, public_key, now - kBackdate, until));
  if (X509_set_issuer_name(leaf.get(), X509_get_subject_name(issuer.get())) != 1) {
    return OpensslError(Code::kInternal, "set issuer");
  }
  TRY(AddExtension(leaf.get(), issuer.get(), NID_basic_constraints, "critical,CA:FALSE"));
  TRY(AddExtension(leaf.get(), issuer.get(), NID_key_usage, "critical,digitalSignature"));
  TRY(AddExtension(leaf.get(), issuer.get(), NID_ext_key_usage, ExtendedUsage(options.usage)));
  TRY(AddExtension(leaf.get(), issuer.get(), NID_authority_key_identifier, "keyid:always"));
  TRY(AddAltNames(leaf.get(), options.names));
  TRY(Sign(leaf.get(), issuer_key.get()));
  return CertificateToPem(leaf.get());
}

// The request, its self-signature checked: the sender holds the private key.
Result<RequestPtr> CheckedRequest(std::string_view csr_pem) {
  RequestPtr request = TRY(ParseRequest(csr_pem));
  EVP_PKEY* key = X509_REQ_get0_pubkey(request.get());
  if (key == nullptr || X509_REQ_verify(request.get(), key) != 1) {
    return OpensslError(Code::kInvalidArgument, "certificate request: signature does not match");
  }
  return request;
}

}  // namespace

Subject NodeSubject(std::string_view node_name) {
  return {"system:node:" + std::string(node_name), {"system:nodes"}};
}

Result<KeyPair> MakeCa(std::string_view common_name, WallTime now, std::chrono::seconds validity) {
  KeyPtr key = TRY(GenerateKey());
  CertPtr ca = TRY(
      StartCertificate({std::string(common_name), {}}, key.get(), now - kBackdate, now + validity));
  if (X509_set_issuer_name(ca.get(), X509_get_subject_name(ca.get())) != 1) {
    return OpensslError(Code::kInternal, "set issuer");
  }
  TRY(AddExtension(ca.get(), ca.get(), NID_basic_constraints, "critical,CA:TRUE"));
  TRY(AddExtension(ca.get(), ca.get(), NID_key_usage,
                   "critical,digitalSignature,keyEncipherment,keyCertSign,cRLSign"));
  TRY(AddExtension(ca.get(), ca.get(), NID_subject_key_identifier, "hash"));
  TRY(Sign(ca.get(), key.get()));
  std::string certificate = TRY(CertificateToPem(ca.get()));
  std::string key_pem = TRY(KeyToPem(key.get()));
  return KeyPair{std::move(certificate), std::move(key_pem)};
}

Result<std::string> MakeKey() {
  KeyPtr key = TRY(GenerateKey());
  return KeyToPem(key.get());
}

Result<std::string> MakeRequest(std::string_view key_pem, const Subject& subject) {
  KeyPtr key = TRY(ParseKey(key_pem));
  RequestPtr request(X509_REQ_new());
  NamePtr name = TRY(MakeName(subject));
  if (!request || X509_REQ_set_version(request.get(), X509_REQ_VERSION_1) != 1 ||
      X509_REQ_set_subject_name(request.get(), name.get()) != 1 ||
      X509_REQ_set_pubkey(request.get(), key.get()) != 1 ||
      X509_REQ_sign(request.get(), key.get(), EVP_sha256()) == 0) {
    return OpensslError(Code::kInternal, "make certificate request");
  }
  BioPtr bio(BIO_new(BIO_s_mem()));
  if (!bio || PEM_write_bio_X509_REQ(bio.get(), request.get()) != 1) {
    return OpensslError(Code::kInternal, "write certificate request");
  }
  return TakeText(bio.get());
}

Result<KeyPair> MakeLeaf(const KeyPair& ca, const LeafOptions& options, WallTime now) {
  KeyPtr key = TRY(GenerateKey());
  std::string certificate = TRY(IssueLeaf(ca, key.get(), options, now));
  std::string key_pem = TRY(KeyToPem(key.get()));
  return KeyPair{std::move(certificate), std::move(key_pem)};
}

Result<std::string> SignRequest(const KeyPair& ca, std::string_view csr_pem,
                                const LeafOptions& options, WallTime now) {
  RequestPtr request = TRY(CheckedRequest(csr_pem));
  return IssueLeaf(ca, X509_REQ_get0_pubkey(request.get()), options, now);
}

Result<Subject> ReadRequest(std::string_view csr_pem) {
  RequestPtr request = TRY(CheckedRequest(csr_pem));
  return SubjectOf(X509_REQ_get_subject_name(request.get()));
}

}  // namespace skiff::pki

// Reading, pinning and verifying certificates, and keeping them in files.

#include <arpa/inet.h>

#include "base/os/files.h"
#include "base/pki/openssl.h"
#include "base/pki/pki.h"

namespace skiff::pki {

using namespace internal;

namespace {

std::string Hex(const unsigned char* bytes, size_t size) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  text.reserve(size * 2);
  for (size_t i = 0; i < size; ++i) {
    text += kDigits[bytes[i] >> 4];
    text += kDigits[bytes[i] & 15];
  }
  return text;
}

std::string Utf8(const ASN1_STRING* value) {
  unsigned char* bytes = nullptr;
  int size = ASN1_STRING_to_UTF8(&bytes, value);
  if (size < 0) return {};
  std::string text(reinterpret_cast<char*>(bytes), static_cast<size_t>(size));
  OPENSSL_free(bytes);
  return text;
}

Result<WallTime> ReadTime(const ASN1_TIME* time) {
  tm fields{};
  if (ASN1_TIME_to_tm(time, &fields) != 1) {
    return OpensslError(Code::kInvalidArgument, "certificate: bad validity");
  }
  return std::chrono::system_clock::from_time_t(::timegm(&fields));
}

void ReadAltNames(X509* certificate, CertificateInfo& info) {
  AltNamesPtr names(static_cast<GENERAL_NAMES*>(
      X509_get_ext_d2i(certificate, NID_subject_alt_name, nullptr, nullptr)));
  for (int i = 0; names && i < sk_GENERAL_NAME_num(names.get()); ++i) {
    const GENERAL_NAME* name = sk_GENERAL_NAME_value(names.get(), i);
    if (name->type == GEN_DNS) info.dns_names.push_back(Utf8(name->d.dNSName));
    if (name->type != GEN_IPADD) continue;
    int size = ASN1_STRING_length(name->d.iPAddress);
    char text[INET6_ADDRSTRLEN];
    if ((size == 4 || size == 16) &&
        ::inet_ntop(size == 4 ? AF_INET : AF_INET6, ASN1_STRING_get0_data(name->d.iPAddress), text,
                    sizeof text) != nullptr) {
      info.ip_addresses.emplace_back(text);
    }
  }
}

int Purpose(Usage usage) {
  return usage == Usage::kClient ? X509_PURPOSE_SSL_CLIENT : X509_PURPOSE_SSL_SERVER;
}

}  // namespace

Subject internal::SubjectOf(const X509_NAME* name) {
  Subject subject;
  for (int i = 0; i < X509_NAME_entry_count(name); ++i) {
    const X509_NAME_ENTRY* entry = X509_NAME_get_entry(name, i);
    int nid = OBJ_obj2nid(X509_NAME_ENTRY_get_object(entry));
    std::string value = Utf8(X509_NAME_ENTRY_get_data(entry));
    if (nid == NID_commonName) subject.common_name = std::move(value);
    if (nid == NID_organizationName) subject.organizations.push_back(std::move(value));
  }
  return subject;
}

Result<CertificateInfo> ReadCertificate(std::string_view certificate_pem) {
  CertPtr certificate = TRY(ParseCertificate(certificate_pem));
  CertificateInfo info;
  info.subject = SubjectOf(X509_get_subject_name(certificate.get()));
  info.issuer_common_name = SubjectOf(X509_get_issuer_name(certificate.get())).common_name;
  const ASN1_INTEGER* serial = X509_get0_serialNumber(certificate.get());
  info.serial_hex =
      Hex(ASN1_STRING_get0_data(serial), static_cast<size_t>(ASN1_STRING_length(serial)));
  info.not_before = TRY(ReadTime(X509_get0_notBefore(certificate.get())));
  info.not_after = TRY(ReadTime(X509_get0_notAfter(certificate.get())));
  info.is_ca = X509_check_ca(certificate.get()) == 1;
  ReadAltNames(certificate.get(), info);
  return info;
}

WallTime RenewalTime(const CertificateInfo& info) {
  return info.not_before + (info.not_after - info.not_before) / 3 * 2;
}

Result<std::string> PublicKeyHash(std::string_view certificate_pem) {
  CertPtr certificate = TRY(ParseCertificate(certificate_pem));
  unsigned char* der = nullptr;
  int size = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(certificate.get()), &der);
  if (size <= 0) return OpensslError(Code::kInternal, "encode public key");
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned int digest_size = 0;
  int done =
      EVP_Digest(der, static_cast<size_t>(size), digest, &digest_size, EVP_sha256(), nullptr);
  OPENSSL_free(der);
  if (done != 1) return OpensslError(Code::kInternal, "hash public key");
  return "sha256:" + Hex(digest, digest_size);
}

Result<> VerifyChain(std::string_view ca_pem, std::string_view certificate_pem, Usage usage,
                     WallTime now) {
  CertPtr ca = TRY(ParseCertificate(ca_pem).With("CA"));
  CertPtr certificate = TRY(ParseCertificate(certificate_pem));
  StorePtr store(X509_STORE_new());
  StoreContextPtr context(X509_STORE_CTX_new());
  if (!store || !context || X509_STORE_add_cert(store.get(), ca.get()) != 1 ||
      X509_STORE_CTX_init(context.get(), store.get(), certificate.get(), nullptr) != 1) {
    return OpensslError(Code::kInternal, "prepare verification");
  }
  X509_STORE_CTX_set_time(context.get(), 0, std::chrono::system_clock::to_time_t(now));
  X509_STORE_CTX_set_purpose(context.get(), Purpose(usage));
  if (X509_verify_cert(context.get()) != 1) {
    int reason = X509_STORE_CTX_get_error(context.get());
    ERR_clear_error();
    return Error(Code::kUnauthenticated,
                 std::string("certificate is not valid: ") + X509_verify_cert_error_string(reason));
  }
  if (usage == Usage::kServerAndClient) {
    return VerifyChain(ca_pem, certificate_pem, Usage::kClient, now);
  }
  return {};
}

Result<> CheckKeyMatches(const KeyPair& pair) {
  CertPtr certificate = TRY(ParseCertificate(pair.certificate_pem));
  KeyPtr key = TRY(ParseKey(pair.key_pem));
  if (X509_check_private_key(certificate.get(), key.get()) != 1) {
    ERR_clear_error();
    return Error(Code::kInvalidArgument, "the private key does not belong to the certificate");
  }
  return {};
}

Result<> SaveKeyPair(const KeyPair& pair, const std::string& certificate_path,
                     const std::string& key_path) {
  TRY(WriteFileAtomic(key_path, pair.key_pem, Durability::kPower, 0600));
  return WriteFileAtomic(certificate_path, pair.certificate_pem, Durability::kPower, 0644);
}

Result<KeyPair> LoadKeyPair(const std::string& certificate_path, const std::string& key_path) {
  KeyPair pair;
  pair.certificate_pem = TRY(ReadFile(certificate_path));
  pair.key_pem = TRY(ReadFile(key_path));
  TRY(CheckKeyMatches(pair).With(certificate_path));
  return pair;
}

}  // namespace skiff::pki

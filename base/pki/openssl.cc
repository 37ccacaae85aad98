#include "base/pki/openssl.h"

#include <climits>

namespace skiff::pki::internal {

namespace {

// No certificate, key or request of ours comes near this.
constexpr size_t kMaxPemBytes = 256 << 10;

template <class T, class Reader>
Result<T> Parse(std::string_view pem, const char* what, Reader reader) {
  if (pem.size() > kMaxPemBytes) {
    return Error(Code::kInvalidArgument, std::string(what) + ": text is too long");
  }
  BioPtr bio = ReadOnlyBio(pem);
  if (!bio) return OpensslError(Code::kInternal, what);
  T object(reader(bio.get(), nullptr, NoPassphrase, nullptr));
  if (!object) return OpensslError(Code::kInvalidArgument, std::string("not a PEM ") + what);
  return object;
}

}  // namespace

Error OpensslError(Code code, std::string_view what) {
  std::string message(what);
  if (unsigned long error = ERR_get_error(); error != 0) {
    char text[256];
    ERR_error_string_n(error, text, sizeof text);
    message.append(": ").append(text);
  }
  ERR_clear_error();
  return Error(code, std::move(message));
}

int NoPassphrase(char*, int, int, void*) { return -1; }

BioPtr ReadOnlyBio(std::string_view text) {
  return BioPtr(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
}

Result<CertPtr> ParseCertificate(std::string_view pem) {
  return Parse<CertPtr>(pem, "certificate", PEM_read_bio_X509);
}

Result<KeyPtr> ParseKey(std::string_view pem) {
  return Parse<KeyPtr>(pem, "private key", PEM_read_bio_PrivateKey);
}

Result<RequestPtr> ParseRequest(std::string_view pem) {
  return Parse<RequestPtr>(pem, "certificate request", PEM_read_bio_X509_REQ);
}

}  // namespace skiff::pki::internal

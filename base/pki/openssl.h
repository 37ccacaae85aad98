// Owning pointers and error text for OpenSSL objects; private to base/pki.
#pragma once

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <memory>
#include <string>
#include <string_view>

#include "base/pki/pki.h"

namespace skiff::pki::internal {

template <auto kFree>
struct Freer {
  template <class T>
  void operator()(T* object) const {
    kFree(object);
  }
};
template <class T, auto kFree>
using Owned = std::unique_ptr<T, Freer<kFree>>;

using BioPtr = Owned<BIO, BIO_free_all>;
using KeyPtr = Owned<EVP_PKEY, EVP_PKEY_free>;
using CertPtr = Owned<X509, X509_free>;
using RequestPtr = Owned<X509_REQ, X509_REQ_free>;
using NamePtr = Owned<X509_NAME, X509_NAME_free>;
using ExtensionPtr = Owned<X509_EXTENSION, X509_EXTENSION_free>;
using NumberPtr = Owned<BIGNUM, BN_free>;
using IntegerPtr = Owned<ASN1_INTEGER, ASN1_INTEGER_free>;
using TimePtr = Owned<ASN1_TIME, ASN1_TIME_free>;
using AltNamesPtr = Owned<GENERAL_NAMES, GENERAL_NAMES_free>;
using StorePtr = Owned<X509_STORE, X509_STORE_free>;
using StoreContextPtr = Owned<X509_STORE_CTX, X509_STORE_CTX_free>;

// The oldest error of this thread's OpenSSL queue, which is emptied.
Error OpensslError(Code code, std::string_view what);

// Keys that need a passphrase are refused instead of asking on the terminal.
int NoPassphrase(char* buffer, int size, int writing, void* context);

BioPtr ReadOnlyBio(std::string_view text);
Result<CertPtr> ParseCertificate(std::string_view pem);
Result<KeyPtr> ParseKey(std::string_view pem);
Result<RequestPtr> ParseRequest(std::string_view pem);
Subject SubjectOf(const X509_NAME* name);

}  // namespace skiff::pki::internal

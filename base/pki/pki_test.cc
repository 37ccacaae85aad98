#include "base/pki/pki.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "base/os/files.h"
#include "base/os/spawn.h"

namespace skiff::pki {
namespace {

using std::chrono::hours;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

const WallTime kNow{std::chrono::seconds(1'800'000'000)};

KeyPair TestCa() { return MakeCa("skiff", kNow).value(); }

TEST(PkiTest, CaDescribesItself) {
  CertificateInfo info = ReadCertificate(TestCa().certificate_pem).value();
  EXPECT_TRUE(info.is_ca);
  EXPECT_EQ(info.subject.common_name, "skiff");
  EXPECT_EQ(info.issuer_common_name, "skiff");
  EXPECT_EQ(info.not_after, kNow + kCaValidity);
}

TEST(PkiTest, ServerLeafCarriesNamesAndVerifiesForItsUseOnly) {
  KeyPair ca = TestCa();
  KeyPair leaf = MakeLeaf(ca,
                          {.subject = {"apiserver", {}},
                           .usage = Usage::kServer,
                           .names = {"kubernetes.default.svc", "10.96.0.1", "fd00::1"}},
                          kNow)
                     .value();
  CertificateInfo info = ReadCertificate(leaf.certificate_pem).value();
  EXPECT_THAT(info.dns_names, ElementsAre("kubernetes.default.svc"));
  EXPECT_THAT(info.ip_addresses, ElementsAre("10.96.0.1", "fd00::1"));
  EXPECT_FALSE(info.is_ca);
  EXPECT_TRUE(VerifyChain(ca.certificate_pem, leaf.certificate_pem, Usage::kServer, kNow).ok());
  EXPECT_EQ(
      VerifyChain(ca.certificate_pem, leaf.certificate_pem, Usage::kClient, kNow).error().code(),
      Code::kUnauthenticated);
}

TEST(PkiTest, VerificationMindsTimeAndIssuer) {
  KeyPair ca = TestCa();
  std::string leaf =
      MakeLeaf(ca, {.subject = {"admin", {"system:masters"}}}, kNow).value().certificate_pem;
  EXPECT_TRUE(VerifyChain(ca.certificate_pem, leaf, Usage::kClient, kNow).ok());
  // A client whose clock lags by half an hour still accepts it.
  EXPECT_TRUE(
      VerifyChain(ca.certificate_pem, leaf, Usage::kClient, kNow - std::chrono::minutes(30)).ok());
  Result<> late = VerifyChain(ca.certificate_pem, leaf, Usage::kClient, kNow + hours(24 * 366));
  ASSERT_FALSE(late.ok());
  EXPECT_THAT(late.error().message(), HasSubstr("expired"));
  EXPECT_FALSE(VerifyChain(TestCa().certificate_pem, leaf, Usage::kClient, kNow).ok());
}

TEST(PkiTest, LeafNeverOutlivesItsCa) {
  KeyPair ca = MakeCa("short", kNow, hours(48)).value();
  KeyPair leaf = MakeLeaf(ca, {.subject = {"x", {}}}, kNow).value();
  EXPECT_EQ(ReadCertificate(leaf.certificate_pem).value().not_after, kNow + hours(48));
  EXPECT_EQ(MakeLeaf(ca, {.subject = {"x", {}}}, kNow + hours(49)).error().code(),
            Code::kFailedPrecondition);
}

TEST(PkiTest, NodeRequestIsSignedWithTheNamesOfTheIssuer) {
  KeyPair ca = TestCa();
  std::string key = MakeKey().value();
  // The node asks to be somebody else; the signer decides.
  std::string request = MakeRequest(key, {"admin", {"system:masters"}}).value();
  EXPECT_EQ(ReadRequest(request).value(), (Subject{"admin", {"system:masters"}}));
  std::string certificate = SignRequest(ca, request, {.subject = NodeSubject("n1")}, kNow).value();
  EXPECT_EQ(ReadCertificate(certificate).value().subject,
            (Subject{"system:node:n1", {"system:nodes"}}));
  EXPECT_TRUE(CheckKeyMatches({certificate, key}).ok());
  EXPECT_TRUE(VerifyChain(ca.certificate_pem, certificate, Usage::kClient, kNow).ok());
}

TEST(PkiTest, RequestWithABrokenSignatureIsRefused) {
  std::string request = MakeRequest(MakeKey().value(), NodeSubject("n1")).value();
  size_t near_end = request.find("\n-----END") - 6;
  request[near_end] = request[near_end] == 'A' ? 'B' : 'A';
  EXPECT_EQ(SignRequest(TestCa(), request, {.subject = NodeSubject("n1")}, kNow).error().code(),
            Code::kInvalidArgument);
}

TEST(PkiTest, GarbageIsInvalidArgument) {
  for (std::string text :
       {std::string(), std::string("hello"), std::string(1 << 20, 'x'),
        std::string("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")}) {
    EXPECT_EQ(ReadCertificate(text).error().code(), Code::kInvalidArgument);
    EXPECT_EQ(ReadRequest(text).error().code(), Code::kInvalidArgument);
    EXPECT_EQ(MakeRequest(text, {"a", {}}).error().code(), Code::kInvalidArgument);
  }
}

TEST(PkiTest, RenewalIsAtTwoThirds) {
  CertificateInfo info;
  info.not_before = kNow;
  info.not_after = kNow + hours(90);
  EXPECT_EQ(RenewalTime(info), kNow + hours(60));
}

TEST(PkiTest, PublicKeyHashEqualsOpensslsOwn) {
  // The recipe of kubeadm's documentation, run by the openssl program.
  std::string pem = TestCa().certificate_pem;
  std::string script =
      "openssl x509 -pubkey -noout | openssl pkey -pubin -outform der | openssl dgst -sha256 -hex";
  Result<ProgramOutput> output = RunProgram(
      {.path = "/bin/sh", .argv = {"sh", "-c", script}, .env = {"PATH=/usr/bin:/bin"}}, pem);
  if (!output.ok() || !output->status.Success()) GTEST_SKIP() << "needs the openssl program";
  std::string hex = output->out.substr(output->out.rfind(' ') + 1);
  hex.pop_back();
  EXPECT_EQ(PublicKeyHash(pem).value(), "sha256:" + hex);
}

TEST(PkiTest, FilesKeepTheirModesAndMustMatch) {
  TempDir directory = TempDir::Make().value();
  std::string certificate = directory.path() + "/a.crt", key = directory.path() + "/a.key";
  EXPECT_EQ(LoadKeyPair(certificate, key).error().code(), Code::kNotFound);
  KeyPair ca = TestCa();
  ASSERT_TRUE(SaveKeyPair(ca, certificate, key).ok());
  EXPECT_EQ(LoadKeyPair(certificate, key).value().key_pem, ca.key_pem);
  struct stat status;
  ASSERT_EQ(::stat(key.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 0600u);
  ASSERT_EQ(::stat(certificate.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 0644u);
  ASSERT_TRUE(SaveKeyPair({ca.certificate_pem, MakeKey().value()}, certificate, key).ok());
  EXPECT_EQ(LoadKeyPair(certificate, key).error().code(), Code::kInvalidArgument);
}

}  // namespace
}  // namespace skiff::pki

#include "control-plane/daemon/identity.h"

#include <algorithm>
#include <set>

#include "base/log.h"
#include "base/os/files.h"
#include "proto/codec/base64.h"

namespace skiff::cp {
namespace {

constexpr std::string_view kCertificateKey = "client-certificate-data: ";
constexpr const char* kCaKey = "certificate-authority-data: ";
constexpr const char* kServerKey = "server: ";

Result<pki::KeyPair> EnsureCa(const std::string& directory, WallTime now) {
  const std::string certificate = directory + "/ca.crt";
  const std::string key = directory + "/ca.key";
  auto loaded = pki::LoadKeyPair(certificate, key);
  if (loaded.ok() || loaded.error().code() != Code::kNotFound) return loaded;
  auto ca = TRY(pki::MakeCa("skiff-ca", now));
  TRY(pki::SaveKeyPair(ca, certificate, key));
  log::Info("made the cluster's certificate authority", {{"path", certificate}});
  return ca;
}

// Whether the certificate still does for a server of these names under this CA.
bool StillFits(const pki::KeyPair& server, const pki::KeyPair& ca,
               const std::vector<std::string>& names, WallTime now) {
  auto info = pki::ReadCertificate(server.certificate_pem);
  if (!info.ok() || now >= pki::RenewalTime(*info)) return false;
  auto chain =
      pki::VerifyChain(ca.certificate_pem, server.certificate_pem, pki::Usage::kServer, now);
  if (!chain.ok()) return false;
  std::set<std::string> present(info->dns_names.begin(), info->dns_names.end());
  present.insert(info->ip_addresses.begin(), info->ip_addresses.end());
  return std::all_of(names.begin(), names.end(),
                     [&](const auto& name) { return present.contains(name); });
}

Result<pki::KeyPair> EnsureServer(const std::string& directory, const pki::KeyPair& ca,
                                  const std::vector<std::string>& names, WallTime now,
                                  bool* renewed) {
  const std::string certificate = directory + "/server.crt";
  const std::string key = directory + "/server.key";
  auto loaded = pki::LoadKeyPair(certificate, key);
  if (loaded.ok() && StillFits(*loaded, ca, names, now)) return loaded;
  pki::LeafOptions options;
  options.subject.common_name = "kube-apiserver";
  options.usage = pki::Usage::kServer;
  options.names = names;
  auto server = TRY(pki::MakeLeaf(ca, options, now));
  TRY(pki::SaveKeyPair(server, certificate, key));
  *renewed = true;
  log::Info("made the API server's certificate", {{"path", certificate}});
  return server;
}

bool KubeconfigStillFits(const std::string& text, const IdentityOptions& options,
                         const pki::KeyPair& ca, WallTime now) {
  if (text.find(kServerKey + options.server_url + "\n") == text.npos) return false;
  if (text.find(kCaKey + codec::EncodeBase64(ca.certificate_pem)) == text.npos) return false;
  auto info = pki::ReadCertificate(ClientCertificateOf(text));
  return info.ok() && now < pki::RenewalTime(*info);
}

Result<void> EnsureKubeconfig(const IdentityOptions& options, const pki::KeyPair& ca,
                              WallTime now) {
  auto present = ReadFile(options.kubeconfig);
  if (present.ok() && KubeconfigStillFits(*present, options, ca, now)) return {};
  pki::LeafOptions admin;
  admin.subject = {"kubernetes-admin", {"system:masters"}};
  admin.usage = pki::Usage::kClient;
  auto pair = TRY(pki::MakeLeaf(ca, admin, now));
  std::string directory = options.kubeconfig.substr(0, options.kubeconfig.rfind('/'));
  if (!directory.empty() && directory != options.kubeconfig) TRY(MakeDirectories(directory));
  TRY(WriteFileAtomic(options.kubeconfig,
                      MakeKubeconfig(options.server_url, ca.certificate_pem, pair),
                      Durability::kPower, 0600));
  log::Info("wrote the administrator's kubeconfig", {{"path", options.kubeconfig}});
  return {};
}

}  // namespace

Result<Identity> EnsureIdentity(const IdentityOptions& options, WallTime now) {
  const std::string directory = options.data_dir + "/pki";
  TRY(MakeDirectories(directory, 0700));
  Identity identity;
  identity.ca = TRY(EnsureCa(directory, now).With("cluster CA"));
  identity.server =
      TRY(EnsureServer(directory, identity.ca, options.names, now, &identity.server_renewed)
              .With("API server certificate"));
  TRY(EnsureKubeconfig(options, identity.ca, now).With("administrator's kubeconfig"));
  return identity;
}

std::string MakeKubeconfig(const std::string& server_url, const std::string& ca_pem,
                           const pki::KeyPair& client) {
  return "apiVersion: v1\n"
         "kind: Config\n"
         "clusters:\n"
         "- name: skiff\n"
         "  cluster:\n"
         "    " +
         std::string(kServerKey) + server_url +
         "\n"
         "    " +
         kCaKey + codec::EncodeBase64(ca_pem) +
         "\n"
         "users:\n"
         "- name: kubernetes-admin\n"
         "  user:\n"
         "    " +
         std::string(kCertificateKey) + codec::EncodeBase64(client.certificate_pem) +
         "\n"
         "    client-key-data: " +
         codec::EncodeBase64(client.key_pem) +
         "\n"
         "contexts:\n"
         "- name: kubernetes-admin@skiff\n"
         "  context:\n"
         "    cluster: skiff\n"
         "    user: kubernetes-admin\n"
         "current-context: kubernetes-admin@skiff\n";
}

std::string ClientCertificateOf(const std::string& kubeconfig) {
  size_t at = kubeconfig.find(kCertificateKey);
  if (at == kubeconfig.npos) return {};
  at += kCertificateKey.size();
  size_t end = std::min(kubeconfig.find('\n', at), kubeconfig.size());
  return codec::DecodeBase64(std::string_view(kubeconfig).substr(at, end - at)).value_or("");
}

}  // namespace skiff::cp

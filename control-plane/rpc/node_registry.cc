#include "control-plane/rpc/node_registry.h"

#include <algorithm>
#include <array>

#include "base/log.h"
#include "control-plane/rpc/join_token.h"
#include "control-plane/rpc/write_back.h"
#include "proto/k8s/core/v1/config.pb.h"
#include "proto/k8s/core/v1/node.pb.h"

namespace skiff::cp {

namespace {

namespace core = k8s::core::v1;

constexpr std::string_view kNodeUserPrefix = "system:node:";
constexpr const char* kNodesGroup = "system:nodes";

std::string_view KeysOf(const core::Node& node) {
  auto found = node.metadata().annotations().find(kNodeKeyAnnotation);
  return found == node.metadata().annotations().end() ? std::string_view() : found->second;
}

// The annotation holds hashes separated by blanks.
bool HasKey(const core::Node& node, std::string_view key_hash) {
  std::string_view keys = KeysOf(node);
  size_t at = keys.find(key_hash);
  return !key_hash.empty() && at != std::string_view::npos;
}

void SetKeys(core::Node* node, const std::string& keys) {
  (*node->mutable_metadata()->mutable_annotations())[kNodeKeyAnnotation] = keys;
}

// A fresh Node as the API should see it until its machine has connected.
core::Node NewNode(const std::string& name, const std::string& key_hash) {
  core::Node node;
  node.mutable_metadata()->set_name(name);
  (*node.mutable_metadata()->mutable_labels())["kubernetes.io/hostname"] = name;
  SetKeys(&node, key_hash);
  return node;
}

bool IsSubdomainLabel(std::string_view label) {
  auto alnum = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); };
  return !label.empty() && label.size() <= 63 && alnum(label.front()) && alnum(label.back()) &&
         std::all_of(label.begin(), label.end(), [&](char c) { return alnum(c) || c == '-'; });
}

}  // namespace

bool IsNodeName(std::string_view name) {
  if (name.empty() || name.size() > 253) return false;
  for (size_t at = 0; at <= name.size();) {
    size_t dot = std::min(name.find('.', at), name.size());
    if (!IsSubdomainLabel(name.substr(at, dot - at))) return false;
    at = dot + 1;
  }
  return true;
}

bool MayNodeSetLabel(std::string_view key) {
  static constexpr std::array kAllowed = {
      std::string_view("kubernetes.io/hostname"),
      std::string_view("kubernetes.io/arch"),
      std::string_view("kubernetes.io/os"),
      std::string_view("beta.kubernetes.io/arch"),
      std::string_view("beta.kubernetes.io/os"),
      std::string_view("beta.kubernetes.io/instance-type"),
      std::string_view("node.kubernetes.io/instance-type"),
      std::string_view("failure-domain.beta.kubernetes.io/region"),
      std::string_view("failure-domain.beta.kubernetes.io/zone"),
      std::string_view("topology.kubernetes.io/region"),
      std::string_view("topology.kubernetes.io/zone"),
  };
  if (std::find(kAllowed.begin(), kAllowed.end(), key) != kAllowed.end()) return true;
  std::string_view prefix = key.substr(0, key.find('/'));
  if (prefix.size() == key.size()) return true;
  auto within = [prefix](std::string_view domain) {
    return prefix == domain ||
           (prefix.ends_with(domain) && prefix[prefix.size() - domain.size() - 1] == '.');
  };
  if (within("kubelet.kubernetes.io") || within("node.kubernetes.io")) return true;
  return !within("kubernetes.io") && !within("k8s.io");
}

// ---- joining ----

Result<JoinOutcome> NodeRegistry::Join(
    std::string_view token, const std::string& node, std::string_view csr_pem,
    const std::function<bool(const std::string&)>& is_connected) {
  if (!IsNodeName(node)) {
    return Error(Code::kInvalidArgument,
                 "the node name \"" + node +
                     "\" is not a lower-case DNS name (RFC 1123); set another with --node-name");
  }
  std::string certificate =
      TRY(pki::SignRequest(ca_, csr_pem, {.subject = pki::NodeSubject(node)}, clock_.WallNow()));
  std::string key_hash = TRY(pki::PublicKeyHash(certificate));
  // The key is admitted behind the token's check and before its use is recorded: a failure in
  // between costs the user nothing.
  TRY(UseToken(token, {node, key_hash}, false));
  TRY(AdmitKey(node, key_hash, is_connected));
  TRY(UseToken(token, {node, key_hash}, true));
  log::Info("node joined", {{"node", node}});
  return JoinOutcome{std::move(certificate), ca_.certificate_pem};
}

Result<> NodeRegistry::UseToken(std::string_view text, const TokenUse& use, bool record) {
  JoinToken token = TRY(JoinToken::Parse(text));
  return RetryOnConflict([&]() -> Result<> {
    auto secret = client_.Get<core::Secret>("kube-system", token.SecretName());
    if (!secret.ok() && secret.error().code() != Code::kNotFound) return secret.error();
    TRY(CheckToken(secret.ok() ? secret->get() : nullptr, token, use, clock_.WallNow()));
    if (!record) return {};
    std::optional<core::Secret> changed = RecordUse(**secret, use);
    if (changed) TRY(client_.Update(*changed));
    return {};
  });
}

Result<> NodeRegistry::AdmitKey(const std::string& node, const std::string& key_hash,
                                const std::function<bool(const std::string&)>& is_connected) {
  return RetryOnConflict([&]() -> Result<> {
    auto stored = client_.Get<core::Node>({}, node);
    if (!stored.ok()) {
      if (stored.error().code() != Code::kNotFound) return stored.error();
      TRY(client_.Create(NewNode(node, key_hash)));
      return {};
    }
    if (HasKey(**stored, key_hash)) return {};
    if (is_connected(node)) {
      return Error(Code::kAlreadyExists,
                   "the node name \"" + node +
                       "\" belongs to another machine, which is connected; choose another with "
                       "--node-name, or `kubectl delete node " +
                       node + "` first");
    }
    core::Node changed = **stored;
    SetKeys(&changed, key_hash);
    TRY(client_.Update(changed));
    return {};
  });
}

// ---- afterwards ----

Result<std::string> NodeRegistry::Authenticate(std::string_view certificate_pem) {
  pki::CertificateInfo info = TRY(pki::ReadCertificate(certificate_pem));
  const std::string& user = info.subject.common_name;
  const auto& groups = info.subject.organizations;
  if (!user.starts_with(kNodeUserPrefix) ||
      std::find(groups.begin(), groups.end(), kNodesGroup) == groups.end()) {
    return Error(Code::kPermissionDenied, "\"" + user + "\" is not a node");
  }
  std::string name = user.substr(kNodeUserPrefix.size());
  auto node = client_.Get<core::Node>({}, name);
  if (!node.ok() && node.error().code() != Code::kNotFound) return node.error();
  std::string advice = "; join again with a token from `skiff token create`";
  if (!node.ok()) {
    return Error(Code::kPermissionDenied,
                 "node \"" + name + "\" has been deleted from the cluster" + advice);
  }
  // A Node without the annotation was written by an administrator, who vouches for it.
  if (!KeysOf(**node).empty() && !HasKey(**node, TRY(pki::PublicKeyHash(certificate_pem)))) {
    return Error(Code::kPermissionDenied,
                 "the name \"" + name + "\" has been taken over by another machine" + advice);
  }
  return name;
}

Result<JoinOutcome> NodeRegistry::Renew(const std::string& node, std::string_view csr_pem) {
  std::string certificate =
      TRY(pki::SignRequest(ca_, csr_pem, {.subject = pki::NodeSubject(node)}, clock_.WallNow()));
  std::string key_hash = TRY(pki::PublicKeyHash(certificate));
  Result<> admitted = RetryOnConflict([&]() -> Result<> {
    auto stored = TRY(client_.Get<core::Node>({}, node));
    if (HasKey(*stored, key_hash)) return {};
    core::Node changed = *stored;
    // The present key stays valid until the new one has been used: the answer may be lost.
    std::string_view keys = KeysOf(*stored);
    std::string present(keys.substr(0, keys.find(' ')));
    SetKeys(&changed, present.empty() ? key_hash : present + " " + key_hash);
    TRY(client_.Update(changed));
    return {};
  });
  TRY(std::move(admitted));
  return JoinOutcome{std::move(certificate), ca_.certificate_pem};
}

Result<> NodeRegistry::Register(const std::string& node, std::string_view certificate_pem,
                                const core::Node& said) {
  std::string key_hash = TRY(pki::PublicKeyHash(certificate_pem));
  Result<> described = RetryOnConflict([&]() -> Result<> {
    auto stored = TRY(client_.Get<core::Node>({}, node));
    core::Node changed = *stored;
    SetKeys(&changed, key_hash);
    auto& labels = *changed.mutable_metadata()->mutable_labels();
    for (const auto& [key, value] : said.metadata().labels()) {
      if (MayNodeSetLabel(key)) labels[key] = value;
    }
    labels["kubernetes.io/hostname"] = node;
    auto& annotations = *changed.mutable_metadata()->mutable_annotations();
    for (const auto& [key, value] : said.metadata().annotations()) {
      if (key != kNodeKeyAnnotation) annotations[key] = value;
    }
    if (SameBytes(changed, *stored)) return {};
    TRY(client_.Update(changed));
    return {};
  });
  TRY(std::move(described));
  if (!said.has_status()) return {};
  return RetryOnConflict([&]() -> Result<> {
    auto stored = TRY(client_.Get<core::Node>({}, node));
    core::Node changed = *stored;
    *changed.mutable_status() = said.status();
    if (SameBytes(changed, *stored)) return {};
    TRY(client_.UpdateStatus(changed));
    return {};
  });
}

}  // namespace skiff::cp

// ConfigMap, Secret and ServiceAccount.
#include <algorithm>

#include "control-plane/api/kinds/cells.h"
#include "control-plane/api/kinds/config_keys.h"
#include "control-plane/api/kinds/kinds.h"
#include "control-plane/api/kinds/label_rules.h"
#include "proto/k8s/core/v1/config.pb.h"
#include "proto/k8s/core/v1/reference.pb.h"
#include "proto/k8s/meta/v1/object.pb.h"

namespace skiff::cp {
namespace {

namespace core = k8s::core::v1;

constexpr size_t kMaxBytes = 1024 * 1024;  // of the values of one object

template <class Map>
size_t TotalBytes(const Map& data) {
  size_t total = 0;
  for (const auto& [key, value] : data) total += value.size();
  return total;
}

template <class Map>
void CheckKeys(const Map& data, const FieldPath& path, FieldErrors& errors) {
  std::vector<std::string> keys;
  for (const auto& [key, value] : data) keys.push_back(key);
  std::sort(keys.begin(), keys.end());
  for (const std::string& key : keys) AddInvalid(CheckConfigKey(key), path.Key(key), key, errors);
}

template <class Map>
bool SameMap(const Map& a, const Map& b) {
  return a.size() == b.size() && std::all_of(a.begin(), a.end(), [&](const auto& entry) {
           auto found = b.find(entry.first);
           return found != b.end() && found->second == entry.second;
         });
}

// What "immutable: true" forbids for good.
template <class Object>
bool CheckImmutable(const Object& object, const Object& old, FieldErrors& errors) {
  if (!old.immutable()) return false;
  if (!object.immutable()) {
    errors.Forbidden(FieldPath("immutable"), "field is immutable when `immutable` is set");
  }
  if (!SameMap(object.data(), old.data())) {
    errors.Forbidden(FieldPath("data"), "field is immutable when `immutable` is set");
  }
  return true;
}

void ValidateConfigMap(const core::ConfigMap& map, FieldErrors& errors) {
  CheckKeys(map.data(), FieldPath("data"), errors);
  for (const auto& [key, value] : map.binary_data()) {
    if (map.data().contains(key)) {
      errors.Invalid(FieldPath("data").Key(key), key, "duplicate of key present in binaryData");
    }
  }
  CheckKeys(map.binary_data(), FieldPath("binaryData"), errors);
  if (TotalBytes(map.data()) + TotalBytes(map.binary_data()) > kMaxBytes) {
    errors.TooLong(FieldPath(), kMaxBytes);
  }
}

void ValidateConfigMapUpdate(const core::ConfigMap& map, const core::ConfigMap& old,
                             FieldErrors& errors) {
  if (CheckImmutable(map, old, errors) && !SameMap(map.binary_data(), old.binary_data())) {
    errors.Forbidden(FieldPath("binaryData"), "field is immutable when `immutable` is set");
  }
  ValidateConfigMap(map, errors);
}

std::vector<TableCell> ConfigMapRow(const core::ConfigMap& map, WallTime now) {
  return {map.metadata().name(), static_cast<int64_t>(map.data_size() + map.binary_data_size()),
          AgeCell(map.metadata(), now)};
}

void SetSecretDefaults(core::Secret& secret) {
  if (secret.type().empty()) secret.set_type("Opaque");
  // stringData is only for writing.
  for (const auto& [key, value] : secret.string_data()) (*secret.mutable_data())[key] = value;
  secret.clear_string_data();
}

struct RequiredKeys {
  const char* type;
  std::vector<const char*> keys;
};

void ValidateSecretType(const core::Secret& secret, FieldErrors& errors) {
  static const auto& required = *new std::vector<RequiredKeys>{
      {"kubernetes.io/dockercfg", {".dockercfg"}},
      {"kubernetes.io/dockerconfigjson", {".dockerconfigjson"}},
      {"kubernetes.io/ssh-auth", {"ssh-privatekey"}},
      {"kubernetes.io/tls", {"tls.crt", "tls.key"}},
  };
  FieldPath data("data");
  for (const RequiredKeys& rule : required) {
    if (secret.type() != rule.type) continue;
    for (const char* key : rule.keys) {
      if (!secret.data().contains(key)) errors.Required(data.Key(key));
    }
  }
  constexpr char kAccount[] = "kubernetes.io/service-account.name";
  auto account = secret.metadata().annotations().find(kAccount);
  bool named = account != secret.metadata().annotations().end() && !account->second.empty();
  if (secret.type() == "kubernetes.io/service-account-token" && !named) {
    errors.Required(FieldPath("metadata").Child("annotations").Key(kAccount));
  }
  if (secret.type() == "kubernetes.io/basic-auth" && !secret.data().contains("username") &&
      !secret.data().contains("password")) {
    errors.Required(data.Key("username"));
    errors.Required(data.Key("password"));
  }
}

void ValidateSecret(const core::Secret& secret, FieldErrors& errors) {
  CheckKeys(secret.data(), FieldPath("data"), errors);
  if (TotalBytes(secret.data()) > kMaxBytes) errors.TooLong(FieldPath("data"), kMaxBytes);
  ValidateSecretType(secret, errors);
}

void ValidateSecretUpdate(const core::Secret& secret, const core::Secret& old,
                          FieldErrors& errors) {
  if (secret.type() != old.type()) {
    errors.Invalid(FieldPath("type"), secret.type(), "field is immutable");
  }
  CheckImmutable(secret, old, errors);
  ValidateSecret(secret, errors);
}

std::vector<TableCell> SecretRow(const core::Secret& secret, WallTime now) {
  return {secret.metadata().name(), secret.type(), static_cast<int64_t>(secret.data_size()),
          AgeCell(secret.metadata(), now)};
}

std::map<std::string, std::string> SecretFields(const core::Secret& secret) {
  return {{"type", secret.type()}};
}

std::vector<TableCell> ServiceAccountRow(const core::ServiceAccount& account, WallTime now) {
  return {account.metadata().name(), static_cast<int64_t>(account.secrets_size()),
          AgeCell(account.metadata(), now)};
}

}  // namespace

KindInfo ConfigMapKind() {
  KindInfo kind;
  kind.version = "v1";
  kind.kind = "ConfigMap";
  kind.plural = "configmaps";
  kind.singular = "configmap";
  kind.short_names = {"cm"};
  kind.prototype = &core::ConfigMap::default_instance();
  kind.list_prototype = &core::ConfigMapList::default_instance();
  kind.rules.validate = On<core::ConfigMap>(&ValidateConfigMap);
  kind.rules.validate_update = On<core::ConfigMap>(&ValidateConfigMapUpdate);
  kind.rules.columns = {NameColumn(), Column("Data", "The number of entries"), AgeColumn()};
  kind.rules.table_row = On<core::ConfigMap>(&ConfigMapRow);
  return kind;
}

KindInfo SecretKind() {
  KindInfo kind;
  kind.version = "v1";
  kind.kind = "Secret";
  kind.plural = "secrets";
  kind.singular = "secret";
  kind.prototype = &core::Secret::default_instance();
  kind.list_prototype = &core::SecretList::default_instance();
  kind.rules.set_defaults = On<core::Secret>(&SetSecretDefaults);
  kind.rules.validate = On<core::Secret>(&ValidateSecret);
  kind.rules.validate_update = On<core::Secret>(&ValidateSecretUpdate);
  kind.rules.columns = {NameColumn(), Column("Type", "What the secret is for"),
                        Column("Data", "The number of entries"), AgeColumn()};
  kind.rules.table_row = On<core::Secret>(&SecretRow);
  kind.rules.selectable_fields = On<core::Secret>(&SecretFields);
  return kind;
}

KindInfo ServiceAccountKind() {
  KindInfo kind;
  kind.version = "v1";
  kind.kind = "ServiceAccount";
  kind.plural = "serviceaccounts";
  kind.singular = "serviceaccount";
  kind.short_names = {"sa"};
  kind.prototype = &core::ServiceAccount::default_instance();
  kind.list_prototype = &core::ServiceAccountList::default_instance();
  kind.rules.columns = {NameColumn(), Column("Secrets", "The number of secrets"), AgeColumn()};
  kind.rules.table_row = On<core::ServiceAccount>(&ServiceAccountRow);
  return kind;
}

}  // namespace skiff::cp

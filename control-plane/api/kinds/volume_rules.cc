// Validation of a pod's volumes.
#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>

#include <set>

#include "control-plane/api/kinds/config_keys.h"
#include "control-plane/api/kinds/label_rules.h"
#include "control-plane/api/kinds/pod_rules.h"
#include "proto/codec/quantity.h"
#include "proto/k8s/core/v1/pod.pb.h"
#include "proto/k8s/resource/quantity.pb.h"

namespace skiff::cp {
namespace {

namespace core = k8s::core::v1;

bool HasDotDot(const std::string& path) {
  return ("/" + path + "/").find("/../") != std::string::npos;
}

void CheckLocalPath(const std::string& path, const FieldPath& at, FieldErrors& errors) {
  if (path.empty()) {
    errors.Required(at);
  } else if (path.starts_with('/')) {
    errors.Invalid(at, path, "must be a relative path");
  } else if (HasDotDot(path)) {
    errors.Invalid(at, path, "must not contain '..'");
  } else if (path.starts_with("..")) {
    errors.Invalid(at, path, "must not start with '..'");
  }
}

void CheckMode(bool has, int32_t mode, const FieldPath& at, FieldErrors& errors) {
  if (has && (mode < 0 || mode > 0777)) {
    errors.Invalid(at, mode, "must be a number between 0 and 0777 (octal), both inclusive");
  }
}

template <class Items>
void ValidateItems(const Items& items, const FieldPath& path, FieldErrors& errors) {
  for (int i = 0; i < items.size(); ++i) {
    FieldPath at = path.Child("items").Index(static_cast<size_t>(i));
    if (items[i].key().empty()) errors.Required(at.Child("key"));
    CheckLocalPath(items[i].path(), at.Child("path"), errors);
    CheckMode(items[i].has_mode(), items[i].mode(), at.Child("mode"), errors);
  }
}

void ValidateDownwardItems(
    const google::protobuf::RepeatedPtrField<core::DownwardAPIVolumeFile>& items,
    const FieldPath& path, FieldErrors& errors) {
  for (int i = 0; i < items.size(); ++i) {
    FieldPath at = path.Child("items").Index(static_cast<size_t>(i));
    CheckLocalPath(items[i].path(), at.Child("path"), errors);
    CheckMode(items[i].has_mode(), items[i].mode(), at.Child("mode"), errors);
    if (items[i].has_field_ref() == items[i].has_resource_field_ref()) {
      errors.Required(at, "one of fieldRef and resourceFieldRef is required");
    }
  }
}

void ValidateHostPath(const core::HostPathVolumeSource& source, const FieldPath& path,
                      FieldErrors& errors) {
  if (source.path().empty()) {
    errors.Required(path.Child("path"));
  } else if (HasDotDot(source.path())) {
    errors.Invalid(path.Child("path"), source.path(), "must not contain '..'");
  }
  if (!source.type().empty()) {
    CheckOneOf(source.type(),
               {"BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File",
                "FileOrCreate", "Socket"},
               path.Child("type"), errors);
  }
}

void ValidateProjected(const core::ProjectedVolumeSource& source, const FieldPath& path,
                       FieldErrors& errors) {
  CheckMode(source.has_default_mode(), source.default_mode(), path.Child("defaultMode"), errors);
  for (int i = 0; i < source.sources_size(); ++i) {
    const core::VolumeProjection& projection = source.sources(i);
    FieldPath at = path.Child("sources").Index(static_cast<size_t>(i));
    if (projection.has_secret()) {
      if (projection.secret().local_object_reference().name().empty()) {
        errors.Required(at.Child("secret").Child("name"));
      }
      ValidateItems(projection.secret().items(), at.Child("secret"), errors);
    }
    if (projection.has_config_map()) {
      if (projection.config_map().local_object_reference().name().empty()) {
        errors.Required(at.Child("configMap").Child("name"));
      }
      ValidateItems(projection.config_map().items(), at.Child("configMap"), errors);
    }
    if (projection.has_downward_api()) {
      ValidateDownwardItems(projection.downward_api().items(), at.Child("downwardAPI"), errors);
    }
    if (projection.has_service_account_token()) {
      const auto& token = projection.service_account_token();
      FieldPath token_at = at.Child("serviceAccountToken");
      if (token.expiration_seconds() < 600) {
        errors.Invalid(token_at.Child("expirationSeconds"), token.expiration_seconds(),
                       "may not specify a duration less than 10 minutes");
      }
      CheckLocalPath(token.path(), token_at.Child("path"), errors);
    }
  }
}

void ValidateSource(const core::VolumeSource& source, const FieldPath& path, FieldErrors& errors) {
  if (source.has_empty_dir()) {
    codec::Quantity limit = codec::Quantity::From(source.empty_dir().size_limit());
    if (limit.IsNegative()) {
      errors.Forbidden(path.Child("emptyDir").Child("sizeLimit"),
                       "SizeLimit field must be a valid resource quantity");
    }
  }
  if (source.has_host_path()) {
    ValidateHostPath(source.host_path(), path.Child("hostPath"), errors);
  }
  if (source.has_secret()) {
    FieldPath at = path.Child("secret");
    if (source.secret().secret_name().empty()) errors.Required(at.Child("secretName"));
    CheckMode(source.secret().has_default_mode(), source.secret().default_mode(),
              at.Child("defaultMode"), errors);
    ValidateItems(source.secret().items(), at, errors);
  }
  if (source.has_config_map()) {
    FieldPath at = path.Child("configMap");
    const auto& map = source.config_map();
    if (map.local_object_reference().name().empty()) errors.Required(at.Child("name"));
    CheckMode(map.has_default_mode(), map.default_mode(), at.Child("defaultMode"), errors);
    ValidateItems(map.items(), at, errors);
  }
  if (source.has_downward_api()) {
    ValidateDownwardItems(source.downward_api().items(), path.Child("downwardAPI"), errors);
  }
  if (source.has_projected()) {
    ValidateProjected(source.projected(), path.Child("projected"), errors);
  }
  if (source.has_persistent_volume_claim() &&
      source.persistent_volume_claim().claim_name().empty()) {
    errors.Required(path.Child("persistentVolumeClaim").Child("claimName"));
  }
  if (source.has_nfs()) {
    FieldPath at = path.Child("nfs");
    if (source.nfs().server().empty()) errors.Required(at.Child("server"));
    if (source.nfs().path().empty()) errors.Required(at.Child("path"));
    if (!source.nfs().path().empty() && source.nfs().path().front() != '/') {
      errors.Invalid(at.Child("path"), source.nfs().path(), "must be an absolute path");
    }
  }
}

}  // namespace

void ValidateVolumes(const core::PodSpec& spec, const FieldPath& path, FieldErrors& errors) {
  std::set<std::string> names;
  for (int i = 0; i < spec.volumes_size(); ++i) {
    const core::Volume& volume = spec.volumes(i);
    FieldPath at = path.Child("volumes").Index(static_cast<size_t>(i));
    if (volume.name().empty()) {
      errors.Required(at.Child("name"));
    } else {
      AddInvalid(codec::CheckDns1123Label(volume.name()), at.Child("name"), volume.name(), errors);
    }
    // Every field of the source is one type of volume.
    std::vector<const google::protobuf::FieldDescriptor*> types;
    volume.volume_source().GetReflection()->ListFields(volume.volume_source(), &types);
    for (size_t k = 1; k < types.size(); ++k) {
      errors.Forbidden(at.Child(types[k]->json_name()), "may not specify more than 1 volume type");
    }
    if (types.empty()) errors.Required(at, "must specify a volume type");
    if (types.size() == 1) ValidateSource(volume.volume_source(), at, errors);
    if (!volume.name().empty() && !names.insert(volume.name()).second) {
      errors.Duplicate(at.Child("name"), volume.name());
    }
  }
}

}  // namespace skiff::cp

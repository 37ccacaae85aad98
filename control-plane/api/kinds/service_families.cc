#include "control-plane/api/kinds/service_families.h"

#include <algorithm>
#include <set>
#include <string>

#include "control-plane/api/kinds/label_rules.h"
#include "proto/k8s/core/v1/service.pb.h"

namespace skiff::cp {
namespace {

namespace core = k8s::core::v1;
using TextList = google::protobuf::RepeatedPtrField<std::string>;

constexpr char kMayNotChange[] = "may not change once set";
constexpr char kSingleStack[] = "SingleStack";

bool HasNoAddress(const core::ServiceSpec& spec) {
  return spec.cluster_ips_size() == 1 && spec.cluster_ips(0) == "None";
}

ShownValue ShownList(const TextList& texts) {
  std::string list = "[";
  for (const std::string& text : texts) list += (list.size() > 1 ? ",\"" : "\"") + text + "\"";
  return ShownValue::Raw(list + "]");
}

// Services of older API versions and tests may have the singular alone, which stands for both.
TextList AddressesOf(const core::ServiceSpec& spec) {
  TextList addresses = spec.cluster_ips();
  if (addresses.empty() && !spec.cluster_ip().empty()) *addresses.Add() = spec.cluster_ip();
  return addresses;
}

void ValidateExternalName(const core::ServiceSpec& spec, FieldErrors& errors) {
  constexpr char kReason[] = "may not be set when `type` is 'ExternalName'";
  FieldPath path("spec");
  if (!AddressesOf(spec).empty()) errors.Forbidden(path.Child("clusterIPs"), kReason);
  if (!spec.ip_families().empty()) errors.Forbidden(path.Child("ipFamilies"), kReason);
  if (spec.has_ip_family_policy()) errors.Forbidden(path.Child("ipFamilyPolicy"), kReason);
}

void ValidateFamilyNames(const core::ServiceSpec& spec, FieldErrors& errors) {
  FieldPath path("spec");
  std::set<std::string> seen;
  for (int i = 0; i < spec.ip_families_size(); ++i) {
    FieldPath at = path.Child("ipFamilies").Index(static_cast<size_t>(i));
    CheckOneOf(spec.ip_families(i), {"IPv4", "IPv6"}, at, errors);
    if (!seen.insert(spec.ip_families(i)).second) errors.Duplicate(at, spec.ip_families(i));
  }
  if (spec.has_ip_family_policy()) {
    CheckOneOf(spec.ip_family_policy(), {"PreferDualStack", "RequireDualStack", kSingleStack},
               path.Child("ipFamilyPolicy"), errors);
  }
}

// False: the texts are no addresses, and further checks would only say so again.
bool ValidateAddressTexts(const TextList& ips, FieldErrors& errors) {
  FieldPath path = FieldPath("spec").Child("clusterIPs");
  bool good = true;
  for (int i = 0; i < ips.size(); ++i) {
    if (i == 0 && ips[i] == "None") {
      if (ips.size() > 1) {
        good = false;
        errors.Invalid(path, ShownList(ips), "'None' must be the first and only value");
      }
    } else if (!IsIpAddress(ips[i])) {
      good = false;
      errors.Invalid(path.Index(static_cast<size_t>(i)), ips[i],
                     "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)");
    }
  }
  if (ips.size() > 2) errors.Invalid(path, ShownList(ips), "may only hold up to 2 values");
  return good;
}

void ValidateAddressFamilies(const core::ServiceSpec& spec, const TextList& ips,
                             FieldErrors& errors) {
  FieldPath path = FieldPath("spec").Child("clusterIPs");
  auto v6 = std::count_if(ips.begin(), ips.end(), &IsIpv6Address);
  if (ips.size() > 1 && (v6 == 0 || v6 == ips.size())) {
    errors.Invalid(path, ShownList(ips), "may specify no more than one IP for each IP family");
  }
  if (HasNoAddress(spec)) return;
  for (int i = 0; i < std::min(ips.size(), spec.ip_families_size()); ++i) {
    const std::string& family = spec.ip_families(i);
    if ((family != "IPv4" && family != "IPv6") || IsIpv6Address(ips[i]) == (family == "IPv6")) {
      continue;
    }
    errors.Invalid(
        path.Index(static_cast<size_t>(i)), ips[i],
        "expected an " + family + " value as indicated by `ipFamilies[" + std::to_string(i) + "]`");
  }
}

void ValidateListUpdate(const TextList& now, const TextList& before, const char* field,
                        FieldErrors& errors) {
  FieldPath path = FieldPath("spec").Child(field);
  if (now.size() == before.size()) {
    for (int i = 0; i < now.size(); ++i) {
      if (now[i] != before[i]) {
        errors.Invalid(path.Index(static_cast<size_t>(i)), ShownList(now), kMayNotChange);
      }
    }
  } else if (!now.empty() && !before.empty() && now[0] != before[0]) {
    errors.Invalid(path.Index(0), ShownList(now), kMayNotChange);
  }
}

void ValidateRelease(const core::ServiceSpec& spec, const TextList& now, const TextList& before,
                     const char* what, FieldErrors& errors) {
  if (before.size() < 2 || now.size() != 1 || spec.ip_family_policy() == kSingleStack) return;
  errors.Invalid(FieldPath("spec").Child("ipFamilyPolicy"), spec.ip_family_policy(),
                 std::string("must be set to 'SingleStack' when releasing the secondary ") + what);
}

}  // namespace

void ValidateServiceFamilies(const core::ServiceSpec& spec, FieldErrors& errors) {
  if (spec.type() == "ExternalName") return ValidateExternalName(spec, errors);
  FieldPath path = FieldPath("spec").Child("clusterIPs");
  const TextList ips = AddressesOf(spec);
  if (spec.cluster_ip().empty() && !ips.empty()) {
    errors.Invalid(path, ShownList(ips), "must be empty when `clusterIP` is not specified");
  } else if (!ips.empty() && ips[0] != spec.cluster_ip()) {
    errors.Invalid(path, ShownList(ips), "first value must match `clusterIP`");
  }
  ValidateFamilyNames(spec, errors);
  if (ValidateAddressTexts(ips, errors)) ValidateAddressFamilies(spec, ips, errors);
}

void ValidateServiceFamiliesUpdate(const core::ServiceSpec& spec, const core::ServiceSpec& old,
                                   FieldErrors& errors) {
  if (spec.type() == "ExternalName" || old.type() == "ExternalName") return;
  const TextList now = AddressesOf(spec), before = AddressesOf(old);
  const bool both_headless = HasNoAddress(spec) && HasNoAddress(old);
  if (!both_headless) {
    ValidateListUpdate(now, before, "clusterIPs", errors);
    if (now.empty() && !before.empty()) {
      errors.Invalid(FieldPath("spec").Child("clusterIPs").Index(0), ShownList(now),
                     "primary clusterIP can not be unset");
    }
    ValidateRelease(spec, now, before, "clusterIP", errors);
  }
  // A Service without an address may have endpoints of any family at any time.
  if (HasNoAddress(spec) || HasNoAddress(old)) return;
  ValidateListUpdate(spec.ip_families(), old.ip_families(), "ipFamilies", errors);
  ValidateRelease(spec, spec.ip_families(), old.ip_families(), "ipFamily", errors);
}

}  // namespace skiff::cp

#include "control-plane/api/registry/service_families.h"

#include <algorithm>
#include <optional>
#include <string>

#include "base/net/families.h"
#include "proto/k8s/core/v1/service.pb.h"

namespace skiff::cp {
namespace {

using k8s::core::v1::Service;
using k8s::core::v1::ServiceSpec;
using Texts = google::protobuf::RepeatedPtrField<std::string>;

constexpr char kSingle[] = "SingleStack";
constexpr char kPrefer[] = "PreferDualStack";
constexpr char kRequire[] = "RequireDualStack";

bool IsHeadlessSpec(const ServiceSpec& spec) { return spec.cluster_ip() == "None"; }
bool IsExternalName(const ServiceSpec& spec) { return spec.type() == "ExternalName"; }

bool SameTexts(const Texts& a, const Texts& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end());
}
bool IsShorterSame(const Texts& a, const Texts& b) {
  return a.size() == 1 && b.size() == 2 && a[0] == b[0];
}

std::optional<net::IpFamily> ParseFamily(std::string_view text) {
  for (net::IpFamily family : net::kIpFamilies) {
    if (text == net::FamilyName(family)) return family;
  }
  return std::nullopt;
}

std::string ListText(const Texts& texts) {
  std::string list = "[";
  for (const std::string& text : texts) list += (list.size() > 1 ? ",\"" : "\"") + text + "\"";
  return list + "]";
}

// Of what follows, nothing has a meaning for a Service that is malformed.
bool AreAddressesWellFormed(const ServiceSpec& spec) {
  const Texts& ips = spec.cluster_ips();
  if (ips.empty() != spec.cluster_ip().empty() || ips.size() > 2) return false;
  if (!ips.empty() && ips[0] != spec.cluster_ip()) return false;
  if (IsHeadlessSpec(spec)) return ips.size() == 1;
  std::optional<net::IpFamily> before;
  for (int i = 0; i < ips.size(); ++i) {
    auto address = net::IpAddress::Parse(ips[i]);
    if (!address.ok() || before == address->family()) return false;
    if (i < spec.ip_families_size() && spec.ip_families(i) != net::FamilyName(address->family())) {
      return false;
    }
    before = address->family();
  }
  return true;
}

bool IsWellFormed(const ServiceSpec& spec) {
  if (spec.has_ip_family_policy()) {
    const std::string& policy = spec.ip_family_policy();
    if (policy != kSingle && policy != kPrefer && policy != kRequire) return false;
  }
  const Texts& families = spec.ip_families();
  if (families.size() > 2 || (families.size() == 2 && families[0] == families[1])) return false;
  if (!std::ranges::all_of(families,
                           [](const auto& text) { return ParseFamily(text).has_value(); })) {
    return false;
  }
  return AreAddressesWellFormed(spec);
}

// As it was, and with no wish for more than it has.
bool IsUnchangedPreference(const ServiceSpec& spec, const Service* old) {
  return old != nullptr && spec.type() == old->spec().type() &&
         spec.ip_family_policy() == kPrefer && old->spec().ip_family_policy() == kPrefer &&
         SameTexts(spec.cluster_ips(), old->spec().cluster_ips()) &&
         SameTexts(spec.ip_families(), old->spec().ip_families());
}

bool HasHandmadeEndpoints(const ServiceSpec& spec) {
  return IsHeadlessSpec(spec) && spec.selector().empty();
}

// An update that names no policy means the one from before: a change between one and two families
// is always asked for.
void FillPolicy(ServiceSpec* spec, const Service* old) {
  if (spec->has_ip_family_policy()) return;
  if (old != nullptr && old->spec().has_ip_family_policy()) {
    spec->set_ip_family_policy(old->spec().ip_family_policy());
  } else {
    spec->set_ip_family_policy(HasHandmadeEndpoints(*spec) ? kRequire : kSingle);
  }
}

// The policy alone asks for the way back to one family; without it, nothing is taken away.
void FollowPolicy(ServiceSpec* spec, const ServiceSpec& before, FieldErrors& errors) {
  if (spec->ip_family_policy() == kSingle) {
    if (SameTexts(spec->cluster_ips(), before.cluster_ips()) && spec->cluster_ips_size() > 1) {
      spec->mutable_cluster_ips()->RemoveLast();
    }
    if (SameTexts(spec->ip_families(), before.ip_families()) && spec->ip_families_size() > 1) {
      spec->mutable_ip_families()->RemoveLast();
    }
    return;
  }
  const FieldPath policy = FieldPath("spec").Child("ipFamilyPolicy");
  if (IsShorterSame(spec->cluster_ips(), before.cluster_ips())) {
    errors.Invalid(policy, spec->ip_family_policy(),
                   "must be 'SingleStack' to release the secondary cluster IP");
  }
  if (IsShorterSame(spec->ip_families(), before.ip_families())) {
    errors.Invalid(policy, spec->ip_family_policy(),
                   "must be 'SingleStack' to release the secondary IP family");
  }
}

void CheckPolicyFits(const ServiceSpec& spec, FieldErrors& errors) {
  if (spec.ip_family_policy() != kSingle) return;
  const FieldPath policy = FieldPath("spec").Child("ipFamilyPolicy");
  constexpr char kWanted[] = "must be 'RequireDualStack' or 'PreferDualStack' when multiple ";
  if (spec.cluster_ips_size() == 2) {
    errors.Invalid(policy, kSingle, std::string(kWanted) + "cluster IPs are specified");
  }
  if (spec.ip_families_size() == 2) {
    errors.Invalid(policy, kSingle, std::string(kWanted) + "IP families are specified");
  }
}

// What the addresses say of the families.
void InferFamilies(ServiceSpec* spec, const std::vector<net::IpFamily>& cluster,
                   FieldErrors& errors) {
  if (IsHeadlessSpec(*spec)) return;
  for (int i = spec->ip_families_size(); i < spec->cluster_ips_size(); ++i) {
    net::IpFamily family = net::IpAddress::Parse(spec->cluster_ips(i))->family();
    std::string name(net::FamilyName(family));
    if (std::ranges::find(cluster, family) == cluster.end()) {
      errors.Invalid(FieldPath("spec").Child("clusterIPs").Index(static_cast<size_t>(i)),
                     ShownValue::Raw(ListText(spec->cluster_ips())),
                     name + " is not configured on this cluster");
    } else {
      spec->add_ip_families(name);
    }
  }
}

void CheckClusterHas(const ServiceSpec& spec, const std::vector<net::IpFamily>& cluster,
                     FieldErrors& errors) {
  FieldPath path("spec");
  if (spec.ip_family_policy() == kRequire && cluster.size() < 2) {
    errors.Invalid(path.Child("ipFamilyPolicy"), kRequire,
                   "this cluster is not configured for dual-stack services");
  }
  for (int i = 0; i < spec.ip_families_size(); ++i) {
    if (std::ranges::find(cluster, *ParseFamily(spec.ip_families(i))) != cluster.end()) continue;
    errors.Invalid(path.Child("ipFamilies").Index(static_cast<size_t>(i)), spec.ip_families(i),
                   "not configured on this cluster");
  }
}

void FillFamilies(ServiceSpec* spec, net::IpFamily first, bool second) {
  if (spec->ip_families().empty()) spec->add_ip_families(std::string(net::FamilyName(first)));
  if (!second || spec->ip_families_size() > 1 || spec->ip_family_policy() == kSingle) return;
  net::IpFamily other = net::OtherFamily(*ParseFamily(spec->ip_families(0)));
  spec->add_ip_families(std::string(net::FamilyName(other)));
}

}  // namespace

bool ResolveFamilies(Service* service, const Service* old,
                     const std::vector<net::IpFamily>& cluster, FieldErrors& errors) {
  ServiceSpec* spec = service->mutable_spec();
  if (IsExternalName(*spec)) return true;
  if (spec->cluster_ips().empty() && !spec->cluster_ip().empty()) {
    spec->add_cluster_ips(spec->cluster_ip());
  }
  if (!IsWellFormed(*spec)) return false;
  if (IsUnchangedPreference(*spec, old)) return true;
  FillPolicy(spec, old);
  if (old != nullptr) FollowPolicy(spec, old->spec(), errors);
  CheckPolicyFits(*spec, errors);
  InferFamilies(spec, cluster, errors);
  if (!errors.empty()) return false;
  if (HasHandmadeEndpoints(*spec)) {
    // Its endpoints are nobody's but the user's: any family, also one the cluster does not have.
    FillFamilies(spec, cluster.front(), true);
    return true;
  }
  CheckClusterHas(*spec, cluster, errors);
  if (!errors.empty()) return false;
  FillFamilies(spec, cluster.front(), cluster.size() == 2);
  return true;
}

void CarryOverAddresses(Service* service, const Service& old) {
  ServiceSpec* spec = service->mutable_spec();
  const ServiceSpec& before = old.spec();
  if (IsExternalName(before)) return;
  const bool same = SameTexts(spec->cluster_ips(), before.cluster_ips());
  if (IsExternalName(*spec)) {
    // A change of type drops what the new type has not, unless it is asked for (and refused).
    if (spec->cluster_ip() != before.cluster_ip() || !same) return;
    spec->clear_cluster_ip();
    spec->clear_cluster_ips();
    if (SameTexts(spec->ip_families(), before.ip_families())) spec->clear_ip_families();
    if (spec->ip_family_policy() == before.ip_family_policy()) spec->clear_ip_family_policy();
    return;
  }
  const bool cleared = spec->cluster_ip().empty();
  if (cleared) spec->set_cluster_ip(before.cluster_ip());
  if (spec->cluster_ips().empty()) {
    *spec->mutable_cluster_ips() = before.cluster_ips();
  } else if (!cleared && same && spec->cluster_ip() != before.cluster_ip()) {
    // Older clients know the singular alone.
    spec->clear_cluster_ips();
    spec->add_cluster_ips(spec->cluster_ip());
  }
}

}  // namespace skiff::cp

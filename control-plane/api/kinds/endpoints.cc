// Endpoints and EndpointSlice.
#include <set>

#include "control-plane/api/kinds/cells.h"
#include "control-plane/api/kinds/kinds.h"
#include "control-plane/api/kinds/label_rules.h"
#include "proto/k8s/core/v1/service.pb.h"
#include "proto/k8s/discovery/v1/discovery.pb.h"
#include "proto/k8s/meta/v1/object.pb.h"

namespace skiff::cp {
namespace {

namespace core = k8s::core::v1;
namespace discovery = k8s::discovery::v1;

constexpr size_t kShown = 3;  // endpoints and ports of a row
constexpr int kMaxSliceEndpoints = 1000;
constexpr int kMaxSlicePorts = 20000;
constexpr int kMaxSliceAddresses = 100;
constexpr int kMaxHints = 8;

const std::vector<std::string>& Protocols() {
  static const auto& protocols = *new std::vector<std::string>{"SCTP", "TCP", "UDP"};
  return protocols;
}

// "a,b,c + 4 more..."
std::string ShowSome(const std::vector<std::string>& items, const std::string& if_empty) {
  if (items.empty()) return if_empty;
  if (items.size() <= kShown) return JoinText(items);
  std::vector<std::string> shown(items.begin(), items.begin() + kShown);
  return JoinText(shown) + " + " + std::to_string(items.size() - kShown) + " more...";
}

std::string WithPort(const std::string& address, int32_t port) {
  bool v6 = address.find(':') != std::string::npos;
  return (v6 ? "[" + address + "]" : address) + ":" + std::to_string(port);
}

void SetEndpointsDefaults(core::Endpoints& endpoints) {
  for (auto& subset : *endpoints.mutable_subsets()) {
    for (auto& port : *subset.mutable_ports()) {
      if (port.protocol().empty()) port.set_protocol("TCP");
    }
  }
}

void ValidateAddress(const core::EndpointAddress& address, const FieldPath& path,
                     FieldErrors& errors) {
  CheckRoutableAddress(address.ip(), path.Child("ip"), errors);
  if (!address.hostname().empty()) {
    AddInvalid(codec::CheckDns1123Label(address.hostname()), path.Child("hostname"),
               address.hostname(), errors);
  }
}

void ValidateEndpoints(const core::Endpoints& endpoints, FieldErrors& errors) {
  for (int i = 0; i < endpoints.subsets_size(); ++i) {
    const core::EndpointSubset& subset = endpoints.subsets(i);
    FieldPath path = FieldPath("subsets").Index(static_cast<size_t>(i));
    if (subset.addresses().empty() && subset.not_ready_addresses().empty()) {
      errors.Required(path, "must specify `addresses` or `notReadyAddresses`");
    }
    for (int k = 0; k < subset.addresses_size(); ++k) {
      ValidateAddress(subset.addresses(k), path.Child("addresses").Index(static_cast<size_t>(k)),
                      errors);
    }
    for (int k = 0; k < subset.not_ready_addresses_size(); ++k) {
      ValidateAddress(subset.not_ready_addresses(k),
                      path.Child("notReadyAddresses").Index(static_cast<size_t>(k)), errors);
    }
    for (int k = 0; k < subset.ports_size(); ++k) {
      const core::EndpointPort& port = subset.ports(k);
      FieldPath at = path.Child("ports").Index(static_cast<size_t>(k));
      if (port.name().empty()) {
        if (subset.ports_size() > 1) errors.Required(at.Child("name"));
      } else {
        AddInvalid(codec::CheckDns1123Label(port.name()), at.Child("name"), port.name(), errors);
      }
      CheckPortNumber(port.port(), at.Child("port"), errors);
      CheckOneOf(port.protocol(), Protocols(), at.Child("protocol"), errors);
    }
  }
}

void ValidateEndpointsUpdate(const core::Endpoints& endpoints, const core::Endpoints&,
                             FieldErrors& errors) {
  ValidateEndpoints(endpoints, errors);
}

std::vector<TableCell> EndpointsRow(const core::Endpoints& endpoints, WallTime now) {
  std::vector<std::string> shown;
  for (const auto& subset : endpoints.subsets()) {
    if (subset.ports().empty()) {
      for (const auto& address : subset.addresses()) shown.push_back(address.ip());
    }
    for (const auto& port : subset.ports()) {
      for (const auto& address : subset.addresses()) {
        shown.push_back(WithPort(address.ip(), port.port()));
      }
    }
  }
  return {endpoints.metadata().name(), ShowSome(shown, "<none>"),
          AgeCell(endpoints.metadata(), now)};
}

void SetSliceDefaults(discovery::EndpointSlice& slice) {
  for (auto& port : *slice.mutable_ports()) {
    if (!port.has_name()) port.set_name("");
    if (!port.has_protocol()) port.set_protocol("TCP");
  }
}

void PrepareSliceCreate(discovery::EndpointSlice& slice) {
  slice.mutable_metadata()->set_generation(1);
}

void ValidateSliceAddress(const std::string& address, const std::string& type,
                          const FieldPath& path, FieldErrors& errors) {
  if (type == "FQDN") {
    AddInvalid(codec::CheckDns1123Subdomain(address), path, address, errors);
    return;
  }
  bool v6 = IsIpv6Address(address);
  if (!v6 && !IsIpAddress(address)) {
    errors.Invalid(path, address, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)");
  } else if (v6 != (type == "IPv6")) {
    errors.Invalid(path, address,
                   v6 ? "must be a valid IPv4 address" : "must be a valid IPv6 address");
  } else {
    CheckRoutableAddress(address, path, errors);
  }
}

template <class Hints, class Check>
void ValidateHintNames(const Hints& hints, Check check, const FieldPath& path,
                       FieldErrors& errors) {
  if (hints.size() > kMaxHints) {
    errors.TooMany(path, static_cast<size_t>(hints.size()), kMaxHints);
    return;
  }
  std::set<std::string> names;
  for (int i = 0; i < hints.size(); ++i) {
    FieldPath at = path.Index(static_cast<size_t>(i)).Child("name");
    if (!names.insert(hints[i].name()).second) errors.Duplicate(at, hints[i].name());
    AddInvalid(check(hints[i].name()), at, hints[i].name(), errors);
  }
}

void ValidateSlice(const discovery::EndpointSlice& slice, FieldErrors& errors) {
  CheckOneOf(slice.address_type(), {"FQDN", "IPv4", "IPv6"}, FieldPath("addressType"), errors);
  if (slice.endpoints_size() > kMaxSliceEndpoints) {
    errors.TooMany(FieldPath("endpoints"), static_cast<size_t>(slice.endpoints_size()),
                   kMaxSliceEndpoints);
    return;
  }
  for (int i = 0; i < slice.endpoints_size(); ++i) {
    const discovery::Endpoint& endpoint = slice.endpoints(i);
    FieldPath path = FieldPath("endpoints").Index(static_cast<size_t>(i)).Child("addresses");
    if (endpoint.addresses().empty()) {
      errors.Required(path, "must contain at least 1 address");
    } else if (endpoint.addresses_size() > kMaxSliceAddresses) {
      errors.TooMany(path, static_cast<size_t>(endpoint.addresses_size()), kMaxSliceAddresses);
    }
    for (int k = 0; k < endpoint.addresses_size(); ++k) {
      ValidateSliceAddress(endpoint.addresses(k), slice.address_type(),
                           path.Index(static_cast<size_t>(k)), errors);
    }
    FieldPath hints = FieldPath("endpoints").Index(static_cast<size_t>(i)).Child("hints");
    ValidateHintNames(endpoint.hints().for_zones(), &codec::CheckLabelValue,
                      hints.Child("forZones"), errors);
    ValidateHintNames(endpoint.hints().for_nodes(), &codec::CheckDns1123Subdomain,
                      hints.Child("forNodes"), errors);
  }
  if (slice.ports_size() > kMaxSlicePorts) {
    errors.TooMany(FieldPath("ports"), static_cast<size_t>(slice.ports_size()), kMaxSlicePorts);
    return;
  }
  for (int i = 0; i < slice.ports_size(); ++i) {
    FieldPath path = FieldPath("ports").Index(static_cast<size_t>(i));
    const std::string& name = slice.ports(i).name();
    if (!name.empty()) AddInvalid(codec::CheckDns1123Label(name), path.Child("name"), name, errors);
    CheckOneOf(slice.ports(i).protocol(), Protocols(), path.Child("protocol"), errors);
  }
}

void ValidateSliceUpdate(const discovery::EndpointSlice& slice, const discovery::EndpointSlice& old,
                         FieldErrors& errors) {
  ValidateSlice(slice, errors);
  if (slice.address_type() != old.address_type()) {
    errors.Invalid(FieldPath("addressType"), slice.address_type(), "field is immutable");
  }
}

std::vector<TableCell> SliceRow(const discovery::EndpointSlice& slice, WallTime now) {
  std::vector<std::string> ports, addresses;
  for (const auto& port : slice.ports()) {
    ports.push_back(port.has_port()       ? std::to_string(port.port())
                    : port.name().empty() ? "*"
                                          : port.name());
  }
  for (const auto& endpoint : slice.endpoints()) {
    for (const auto& address : endpoint.addresses()) addresses.push_back(address);
  }
  return {slice.metadata().name(), slice.address_type(), ShowSome(ports, "<unset>"),
          ShowSome(addresses, "<unset>"), AgeCell(slice.metadata(), now)};
}

}  // namespace

KindInfo EndpointsKind() {
  KindInfo kind;
  kind.version = "v1";
  kind.kind = "Endpoints";
  kind.plural = "endpoints";
  kind.singular = "endpoints";
  kind.short_names = {"ep"};
  kind.prototype = &core::Endpoints::default_instance();
  kind.list_prototype = &core::EndpointsList::default_instance();
  kind.allow_create_on_update = true;
  kind.rules.set_defaults = On<core::Endpoints>(&SetEndpointsDefaults);
  kind.rules.validate = On<core::Endpoints>(&ValidateEndpoints);
  kind.rules.validate_update = On<core::Endpoints>(&ValidateEndpointsUpdate);
  kind.rules.columns = {NameColumn(), Column("Endpoints", "Addresses with their ports"),
                        AgeColumn()};
  kind.rules.table_row = On<core::Endpoints>(&EndpointsRow);
  return kind;
}

KindInfo EndpointSliceKind() {
  KindInfo kind;
  kind.group = "discovery.k8s.io";
  kind.version = "v1";
  kind.kind = "EndpointSlice";
  kind.plural = "endpointslices";
  kind.singular = "endpointslice";
  kind.prototype = &discovery::EndpointSlice::default_instance();
  kind.list_prototype = &discovery::EndpointSliceList::default_instance();
  kind.rules.set_defaults = On<discovery::EndpointSlice>(&SetSliceDefaults);
  kind.rules.prepare_create = On<discovery::EndpointSlice>(&PrepareSliceCreate);
  kind.rules.validate = On<discovery::EndpointSlice>(&ValidateSlice);
  kind.rules.validate_update = On<discovery::EndpointSlice>(&ValidateSliceUpdate);
  kind.rules.columns = {NameColumn(), Column("AddressType", "The form of the addresses"),
                        Column("Ports", "The ports of every endpoint"),
                        Column("Endpoints", "The addresses of the endpoints"), AgeColumn()};
  kind.rules.table_row = On<discovery::EndpointSlice>(&SliceRow);
  return kind;
}

}  // namespace skiff::cp

#include "agent/dns/cluster_names.h"

#include <algorithm>

#include "proto/k8s/core/v1/service.pb.h"
#include "proto/k8s/discovery/v1/discovery.pb.h"

namespace skiff::agent::dns {
namespace {

namespace core = k8s::core::v1;
namespace discovery = k8s::discovery::v1;

constexpr char kServiceNameLabel[] = "kubernetes.io/service-name";
constexpr char kSpecVersion[] = "1.1.0";
const Name kSvc = "\3svc", kPod = "\3pod", kDnsVersion = "\13dns-version";
const Name kNsDns = "\2ns\3dns";

std::string Lower(std::string text) {
  for (char& c : text) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + ('a' - 'A'));
  }
  return text;
}

Name Label(std::string_view text) { return static_cast<char>(text.size()) + std::string(text); }

// "\3svc\2ns"; empty for names that no Kubernetes object has.
Name ServiceKey(std::string_view name_space, std::string_view name) {
  if (name.empty() || name.size() > 63 || name_space.empty() || name_space.size() > 63) return {};
  return Label(Lower(std::string(name))) + Label(Lower(std::string(name_space)));
}

std::string Dashed(const net::IpAddress& address) {
  std::string text = address.ToString();
  std::replace(text.begin(), text.end(), '.', '-');
  std::replace(text.begin(), text.end(), ':', '-');
  // A label neither starts nor ends with a dash.
  if (text.starts_with('-')) text.insert(0, 1, '0');
  if (text.ends_with('-')) text += '0';
  return text;
}

// "10-0-0-1", "fd00--1".
std::optional<net::IpAddress> ParseDashed(std::string_view text) {
  std::string v4(text), v6(text);
  std::replace(v4.begin(), v4.end(), '-', '.');
  if (auto address = net::IpAddress::Parse(v4); address.ok()) return *address;
  std::replace(v6.begin(), v6.end(), '-', ':');
  if (auto address = net::IpAddress::Parse(v6); address.ok()) return *address;
  return std::nullopt;
}

ServiceNames Translate(const core::Service& service) {
  ServiceNames names;
  const core::ServiceSpec& spec = service.spec();
  if (spec.type() == "ExternalName") {
    names.external_name = ParseName(spec.external_name()).value_or(Name());
    return names;
  }
  names.headless = spec.cluster_ip() == "None";
  for (const core::ServicePort& port : spec.ports()) {
    names.ports.push_back(
        {Lower(port.name()), Lower(port.protocol()), static_cast<uint16_t>(port.port())});
  }
  std::vector<std::string> texts(spec.cluster_ips().begin(), spec.cluster_ips().end());
  if (texts.empty()) texts.push_back(spec.cluster_ip());
  for (const std::string& text : texts) {
    if (auto address = net::IpAddress::Parse(text); address.ok()) {
      names.cluster_ips.push_back(*address);
    }
  }
  return names;
}

SliceNames Translate(const discovery::EndpointSlice& slice, Name service) {
  SliceNames names;
  names.service = std::move(service);
  for (const discovery::EndpointPort& port : slice.ports()) {
    std::string protocol = port.protocol().empty() ? "TCP" : port.protocol();
    names.ports.push_back(
        {Lower(port.name()), Lower(protocol), static_cast<uint16_t>(port.port())});
  }
  for (const discovery::Endpoint& endpoint : slice.endpoints()) {
    // Unset means ready; publishNotReadyAddresses shows in it.
    if (endpoint.conditions().has_ready() && !endpoint.conditions().ready()) continue;
    for (const std::string& text : endpoint.addresses()) {
      auto address = net::IpAddress::Parse(text);
      if (!address.ok()) continue;
      std::string label = Lower(endpoint.hostname());
      if (label.empty() || label.size() > 63) label = Dashed(*address);
      names.hosts.push_back({std::move(label), *address});
    }
  }
  return names;
}

bool Wants(uint16_t type, const net::IpAddress& address) {
  return type == kAny || type == (address.is_v4() ? kA : kAaaa);
}

bool IsLabelUnderscored(std::string_view label) { return label.size() > 1 && label[0] == '_'; }

}  // namespace

ClusterNames::ClusterNames(Name zone, std::vector<net::IpAddress> addresses,
                           std::vector<net::IpPrefix> ranges)
    : zone_(std::move(zone)),
      svc_zone_(kSvc + zone_),
      pod_zone_(kPod + zone_),
      addresses_(std::move(addresses)),
      ranges_(std::move(ranges)) {}

Name ClusterNames::FullName(NameView service) const { return Name(service) + svc_zone_; }

// Enters or takes away what else than its own name a service is found by.
void ClusterNames::Index(NameView service, const Entry& entry, bool add) {
  auto note = [&](const net::IpAddress& address, Name name) {
    auto& names = reverse_[address];
    if (add) {
      names.insert(std::move(name));
      return;
    }
    if (auto at = names.find(name); at != names.end()) names.erase(at);
    if (names.empty()) reverse_.erase(address);
  };
  if (!entry.service) return;
  Name name_space(service.substr(1 + static_cast<uint8_t>(service[0])));
  size_t& count = namespaces_[name_space];
  count += add ? 1 : -1;
  if (count == 0) namespaces_.erase(name_space);
  Name full = FullName(service);
  for (const net::IpAddress& address : entry.service->cluster_ips) note(address, full);
  if (!entry.service->headless) return;
  for (const auto& [id, slice] : entry.slices) {
    for (const auto& host : slice->hosts) note(host.address, Label(host.label) + full);
  }
}

template <class Change>
void ClusterNames::Update(const Name& service, const Change& change) {
  Entry& entry = services_[service];
  Index(service, entry, false);
  change(&entry);
  Index(service, entry, true);
  if (!entry.service && entry.slices.empty()) services_.erase(service);
}

void ClusterNames::SetService(const core::Service& service) {
  Name key = ServiceKey(service.metadata().namespace_(), service.metadata().name());
  if (key.empty()) return;
  Update(key, [&](Entry* entry) { entry->service = Translate(service); });
}

void ClusterNames::DeleteService(const std::string& name_space, const std::string& name) {
  Name key = ServiceKey(name_space, name);
  if (!services_.contains(key)) return;
  Update(key, [](Entry* entry) { entry->service.reset(); });
}

void ClusterNames::SetSlice(const discovery::EndpointSlice& slice) {
  const auto& metadata = slice.metadata();
  SliceId id = metadata.namespace_() + "/" + metadata.name();
  Name key;
  if (auto label = metadata.labels().find(kServiceNameLabel);
      label != metadata.labels().end() && slice.address_type() != "FQDN") {
    key = ServiceKey(metadata.namespace_(), label->second);
  }
  // A slice may be given to another service.
  if (auto at = slice_services_.find(id); at != slice_services_.end() && at->second != key) {
    DeleteSlice(metadata.namespace_(), metadata.name());
  }
  if (key.empty()) return;
  slice_services_[id] = key;
  auto names = std::make_shared<const SliceNames>(Translate(slice, key));
  Update(key, [&](Entry* entry) { entry->slices[id] = std::move(names); });
}

void ClusterNames::DeleteSlice(const std::string& name_space, const std::string& name) {
  SliceId id = name_space + "/" + name;
  auto at = slice_services_.find(id);
  if (at == slice_services_.end()) return;
  Name service = at->second;
  slice_services_.erase(at);
  Update(service, [&](Entry* entry) { entry->slices.erase(id); });
}

void ClusterNames::Clear() {
  services_.clear();
  namespaces_.clear();
  slice_services_.clear();
  reverse_.clear();
}

bool ClusterNames::IsAuthoritativeFor(NameView name) const { return IsWithin(name, zone_); }

Answer ClusterNames::Missing(Rcode rcode) const {
  Answer answer;
  answer.rcode = rcode;
  // The serial is of no use where nobody transfers the zone.
  answer.authority.push_back(SoaRecord(zone_, 1, kClusterTtlSeconds));
  return answer;
}

std::optional<Answer> ClusterNames::Lookup(NameView name, uint16_t type) {
  if (!IsWithin(name, zone_)) return LookupReverse(name, type);
  Answer answer = LookupInZone(name, name.substr(0, name.size() - zone_.size()), type);
  if (answer.answers.empty() && answer.authority.empty()) return Missing(answer.rcode);
  return answer;
}

// front: what stands before the zone.
Answer ClusterNames::LookupInZone(NameView name, NameView front, uint16_t type) {
  Answer answer;
  if (front.empty()) {
    if (type == kSoa || type == kAny) {
      answer.answers.push_back(SoaRecord(zone_, 1, kClusterTtlSeconds));
    }
    if (type == kNs || type == kAny) {
      answer.answers.push_back(NameRecord(zone_, kNs, kNsDns + zone_, kClusterTtlSeconds));
    }
    return answer;
  }
  if (front == kSvc || front == kPod || front == NameView(kNsDns).substr(3)) return answer;
  if (front == kDnsVersion) {
    if (type == kTxt || type == kAny) {
      answer.answers.push_back(TextRecord(name, kSpecVersion, kClusterTtlSeconds));
    }
    return answer;
  }
  if (front == kNsDns) {
    for (const net::IpAddress& address : addresses_) {
      if (Wants(type, address)) {
        answer.answers.push_back(AddressRecord(name, address, kClusterTtlSeconds));
      }
    }
    return answer;
  }
  bool found = false;
  if (IsWithin(front, kSvc)) {
    found = AnswerBelowService(name, front.substr(0, front.size() - kSvc.size()), type, &answer);
  } else if (IsWithin(front, kPod)) {
    std::vector<std::string_view> labels = Labels(front);
    if (labels.size() == 2) found = namespaces_.contains(front.substr(0, 1 + labels[0].size()));
    if (labels.size() == 3) found = AnswerPod(name, labels[0], type, &answer);
  }
  if (!found) answer.rcode = Rcode::kNxDomain;
  return answer;
}

// front: what stands before "svc".
bool ClusterNames::AnswerBelowService(NameView name, NameView front, uint16_t type,
                                      Answer* answer) {
  std::vector<std::string_view> labels = Labels(front);
  if (labels.size() == 1) return namespaces_.contains(front);
  if (labels.size() < 2 || labels.size() > 4) return false;
  size_t tail = labels[labels.size() - 2].size() + labels.back().size() + 2;
  NameView service = front.substr(front.size() - tail);
  auto at = services_.find(service);
  if (at == services_.end() || !at->second.service) return false;
  const Entry& entry = at->second;
  // The specification, 2.4.1: without an endpoint that is ready there is no such name, and so
  // nothing below it (RFC 8020).
  if (entry.service->headless && !HasEndpoint(entry)) return false;
  switch (labels.size()) {
    case 2: AnswerService(name, service, entry, type, answer); return true;
    case 3:
      // "_tcp" alone has no records of its own, only names below it.
      if (IsLabelUnderscored(labels[0])) {
        return std::any_of(entry.service->ports.begin(), entry.service->ports.end(),
                           [&](const auto& port) { return port.protocol == labels[0].substr(1); });
      }
      return AnswerHost(name, labels[0], entry, type, answer);
    default:
      return IsLabelUnderscored(labels[0]) && IsLabelUnderscored(labels[1]) &&
             AnswerPort(name, service, labels[0].substr(1), labels[1].substr(1), entry, type,
                        answer);
  }
}

void ClusterNames::AnswerService(NameView name, NameView service, const Entry& entry, uint16_t type,
                                 Answer* answer) {
  const ServiceNames& names = *entry.service;
  if (!names.external_name.empty()) {
    answer->answers.push_back(NameRecord(name, kCname, names.external_name, kClusterTtlSeconds));
    return;
  }
  if (type == kSrv || type == kAny) {
    for (const auto& port : names.ports) {
      if (!port.name.empty()) {
        AnswerPort(name, service, port.name, port.protocol, entry, kSrv, answer);
      }
    }
  }
  std::set<net::IpAddress> addresses(names.cluster_ips.begin(), names.cluster_ips.end());
  if (names.headless) {
    for (const auto& [id, slice] : entry.slices) {
      for (const auto& host : slice->hosts) addresses.insert(host.address);
    }
  }
  size_t first = answer->answers.size();
  for (const net::IpAddress& address : addresses) {
    if (Wants(type, address)) {
      answer->answers.push_back(AddressRecord(name, address, kClusterTtlSeconds));
    }
  }
  // Clients take the first: each gets another one.
  size_t count = answer->answers.size() - first;
  if (count > 1) {
    auto begin = answer->answers.begin() + static_cast<ptrdiff_t>(first);
    std::rotate(begin, begin + static_cast<ptrdiff_t>(turn_++ % count), answer->answers.end());
    if (first == 0) answer->in_turn = count;
  }
}

bool ClusterNames::HasEndpoint(const Entry& entry) {
  return std::any_of(entry.slices.begin(), entry.slices.end(),
                     [](const auto& slice) { return !slice.second->hosts.empty(); });
}

bool ClusterNames::AnswerHost(NameView name, std::string_view host, const Entry& entry,
                              uint16_t type, Answer* answer) {
  if (!entry.service->headless) return false;
  bool found = false;
  for (const auto& [id, slice] : entry.slices) {
    for (const auto& candidate : slice->hosts) {
      if (candidate.label != host) continue;
      found = true;
      if (Wants(type, candidate.address)) {
        answer->answers.push_back(AddressRecord(name, candidate.address, kClusterTtlSeconds));
      }
    }
  }
  return found;
}

bool ClusterNames::AnswerPort(NameView name, NameView service, std::string_view port,
                              std::string_view protocol, const Entry& entry, uint16_t type,
                              Answer* answer) {
  auto matches = [&](const ServiceNames::Port& candidate) {
    return candidate.name == port && candidate.protocol == protocol;
  };
  const ServiceNames& names = *entry.service;
  bool wanted = type == kSrv || type == kAny;
  bool found = false;
  Name full = FullName(service);
  auto add = [&](uint16_t number, const Name& target, const net::IpAddress& address) {
    Record record = SrvRecord(name, number, 100, target, kClusterTtlSeconds);
    auto same = [&](const Record& other) { return other.data == record.data; };
    if (std::none_of(answer->answers.begin(), answer->answers.end(), same)) {
      answer->answers.push_back(std::move(record));
    }
    answer->additional.push_back(AddressRecord(target, address, kClusterTtlSeconds));
  };
  for (const auto& candidate : names.ports) {
    if (!matches(candidate)) continue;
    found = true;
    if (!wanted) continue;
    for (const net::IpAddress& address : names.cluster_ips) add(candidate.port, full, address);
  }
  if (!names.headless) return found;
  for (const auto& [id, slice] : entry.slices) {
    for (const auto& candidate : slice->ports) {
      if (!matches(candidate)) continue;
      found = true;
      if (!wanted) continue;
      for (const auto& host : slice->hosts) {
        add(candidate.port, Label(host.label) + full, host.address);
      }
    }
  }
  return found;
}

bool ClusterNames::AnswerPod(NameView name, std::string_view dashed, uint16_t type,
                             Answer* answer) {
  auto address = ParseDashed(dashed);
  if (!address) return false;
  if (Wants(type, *address)) {
    answer->answers.push_back(AddressRecord(name, *address, kClusterTtlSeconds));
  }
  return true;
}

std::optional<Answer> ClusterNames::LookupReverse(NameView name, uint16_t type) {
  auto address = ParseReverse(name);
  if (!address) return std::nullopt;
  auto at = reverse_.find(*address);
  if (at == reverse_.end()) {
    bool ours = std::any_of(ranges_.begin(), ranges_.end(),
                            [&](const net::IpPrefix& range) { return range.Contains(*address); });
    if (!ours) return std::nullopt;
    return Missing(Rcode::kNxDomain);
  }
  if (type != kPtr && type != kAny) return Missing(Rcode::kNoError);
  Answer answer;
  const Name* last = nullptr;
  for (const Name& target : at->second) {
    if (last != nullptr && *last == target) continue;
    answer.answers.push_back(NameRecord(name, kPtr, target, kClusterTtlSeconds));
    last = &target;
  }
  return answer;
}

}  // namespace skiff::agent::dns

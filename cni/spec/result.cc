#include "cni/spec/result.h"

#include <algorithm>
#include <charconv>

namespace skiff::cni {
namespace {

constexpr size_t kMaxInterfaces = 256;
constexpr size_t kMaxRoutes = 4096;

struct AddressWithLength {
  net::IpAddress address;
  int length = 0;
};

// "10.1.0.5/16": an address and the length of the network it is in.
Result<AddressWithLength> ParseAddressWithLength(const std::string& text) {
  size_t slash = text.find('/');
  auto address = net::IpAddress::Parse(std::string_view(text).substr(0, slash));
  int length = -1;
  if (address.ok() && slash != std::string::npos) {
    const char* end = text.data() + text.size();
    auto [stop, trouble] = std::from_chars(text.data() + slash + 1, end, length);
    if (trouble != std::errc() || stop != end) length = -1;
  }
  if (!address.ok() || length < 0 || length > address->bits()) {
    return Error(Code::kInvalidArgument,
                 "\"" + text.substr(0, 80) + "\" is no address with a prefix length");
  }
  return AddressWithLength{*address, length};
}

Result<std::optional<net::IpAddress>> OptionalAddress(const Json& object, const char* name) {
  std::string text = TRY(TextField(object, name));
  if (text.empty()) return std::optional<net::IpAddress>();
  return std::optional(TRY(net::IpAddress::Parse(text).With(name)));
}

Result<ResultInterface> ParseInterface(const Json& object) {
  ResultInterface interface;
  interface.name = TRY(TextField(object, "name"));
  interface.mac = TRY(TextField(object, "mac"));
  interface.mtu = TRY(NumberField(object, "mtu"));
  interface.sandbox = TRY(TextField(object, "sandbox"));
  interface.socket_path = TRY(TextField(object, "socketPath"));
  interface.pci_id = TRY(TextField(object, "pciID"));
  return interface;
}

Result<ResultIp> ParseIp(const Json& object, const char* address_name) {
  const std::string text = TRY(TextField(object, address_name));
  AddressWithLength address = TRY(ParseAddressWithLength(text).With(address_name));
  ResultIp ip{.address = address.address, .prefix_length = address.length};
  ip.gateway = TRY(OptionalAddress(object, "gateway"));
  // Plugins write -1 for "none".
  auto found = object.find("interface");
  if (found != object.end() && found->is_number_integer() && found->get<int64_t>() < 0) return ip;
  ip.interface = TRY(NumberField(object, "interface"));
  return ip;
}

Result<ResultRoute> ParseRoute(const Json& object) {
  const std::string text = TRY(TextField(object, "dst"));
  AddressWithLength destination = TRY(ParseAddressWithLength(text).With("dst"));
  ResultRoute route{.destination = net::IpPrefix::Of(destination.address, destination.length)};
  route.gateway = TRY(OptionalAddress(object, "gw"));
  route.mtu = TRY(NumberField(object, "mtu"));
  route.advmss = TRY(NumberField(object, "advmss"));
  route.priority = TRY(NumberField(object, "priority"));
  route.table = TRY(NumberField(object, "table"));
  route.scope = TRY(NumberField(object, "scope"));
  return route;
}

// Reads each entry of a list of objects.
template <class T, class Read>
Result<> ReadList(const Json& document, const char* name, size_t limit, std::vector<T>& into,
                  Read read) {
  const Json* list = TRY(ArrayField(document, name, limit));
  if (list == nullptr) return {};
  for (const Json& entry : *list) {
    if (!entry.is_object()) {
      return Error(Code::kInvalidArgument, std::string("\"") + name + "\" is no list of objects");
    }
    into.push_back(TRY(read(entry).With(name)));
  }
  return {};
}

// {"ip4": {"ip": "10.1.0.5/16", "gateway": ..., "routes": [...]}, "ip6": ...}
Result<AddResult> ParseOldResult(const Json& document) {
  AddResult result;
  for (const char* family : {"ip4", "ip6"}) {
    const Json* part = TRY(ObjectField(document, family));
    if (part == nullptr) continue;
    result.ips.push_back(TRY(ParseIp(*part, "ip").With(family)));
    TRY(ReadList(*part, "routes", kMaxRoutes / 2, result.routes, ParseRoute).With(family));
  }
  const Json* dns = TRY(ObjectField(document, "dns"));
  if (dns != nullptr) result.dns = TRY(ParseDns(*dns));
  return result;
}

void PutNumber(Json& object, const char* name, const std::optional<uint32_t>& number) {
  if (number) object[name] = *number;
}

void PutText(Json& object, const char* name, const std::string& text) {
  if (!text.empty()) object[name] = text;
}

Json RenderInterface(const ResultInterface& interface, const CniVersion& version) {
  Json object{{"name", interface.name}};
  PutText(object, "mac", interface.mac);
  PutText(object, "sandbox", interface.sandbox);
  if (version < kCni110) return object;
  PutNumber(object, "mtu", interface.mtu);
  PutText(object, "socketPath", interface.socket_path);
  PutText(object, "pciID", interface.pci_id);
  return object;
}

Json RenderRoute(const ResultRoute& route, const CniVersion& version) {
  Json object{{"dst", route.destination.ToString()}};
  if (route.gateway) object["gw"] = route.gateway->ToString();
  if (version < kCni110) return object;
  PutNumber(object, "mtu", route.mtu);
  PutNumber(object, "advmss", route.advmss);
  PutNumber(object, "priority", route.priority);
  PutNumber(object, "table", route.table);
  PutNumber(object, "scope", route.scope);
  return object;
}

Json RenderDns(const ResultDns& dns) {
  Json object = Json::object();
  if (!dns.nameservers.empty()) object["nameservers"] = dns.nameservers;
  PutText(object, "domain", dns.domain);
  if (!dns.search.empty()) object["search"] = dns.search;
  if (!dns.options.empty()) object["options"] = dns.options;
  return object;
}

Json RenderOldResult(const AddResult& result) {
  Json document = Json::object();
  for (const ResultIp& ip : result.ips) {
    const char* family = ip.address.is_v4() ? "ip4" : "ip6";
    if (document.contains(family)) continue;  // there is room for one
    Json part{{"ip", ip.address.ToString() + "/" + std::to_string(ip.prefix_length)}};
    if (ip.gateway) part["gateway"] = ip.gateway->ToString();
    Json routes = Json::array();
    for (const ResultRoute& route : result.routes) {
      if (route.destination.family() == ip.address.family()) {
        routes.push_back(RenderRoute(route, kCni020));
      }
    }
    if (!routes.empty()) part["routes"] = std::move(routes);
    document[family] = std::move(part);
  }
  return document;
}

}  // namespace

Result<ResultDns> ParseDns(const Json& object) {
  ResultDns dns;
  dns.nameservers = TRY(TextsField(object, "nameservers"));
  dns.domain = TRY(TextField(object, "domain"));
  dns.search = TRY(TextsField(object, "search"));
  dns.options = TRY(TextsField(object, "options"));
  return dns;
}

Result<AddResult> ParseAddResult(const Json& document, const CniVersion& asked) {
  CniVersion version = asked;
  if (std::string text = TRY(TextField(document, "cniVersion")); !text.empty()) {
    version = TRY(ParseCniVersion(text));
    const auto& all = AllCniVersions();
    if (std::find(all.begin(), all.end(), version) == all.end()) {
      return Error(Code::kInvalidArgument, "cniVersion " + text + " is not known");
    }
  }
  if (version < kCni030) return ParseOldResult(document);
  AddResult result;
  TRY(ReadList(document, "interfaces", kMaxInterfaces, result.interfaces, ParseInterface));
  TRY(ReadList(document, "ips", kMaxInterfaces, result.ips,
               [](const Json& object) { return ParseIp(object, "address"); }));
  TRY(ReadList(document, "routes", kMaxRoutes, result.routes, ParseRoute));
  const Json* dns = TRY(ObjectField(document, "dns"));
  if (dns != nullptr) result.dns = TRY(ParseDns(*dns).With("dns"));
  for (const ResultIp& ip : result.ips) {
    if (ip.interface && *ip.interface >= result.interfaces.size()) {
      return Error(Code::kInvalidArgument,
                   "ips: " + ip.address.ToString() + " is of an interface that is not in the list");
    }
  }
  return result;
}

Json RenderAddResult(const AddResult& result, const CniVersion& version) {
  Json document = Json::object();
  if (version < kCni030) {
    document = RenderOldResult(result);
  } else {
    Json interfaces = Json::array(), ips = Json::array(), routes = Json::array();
    for (const ResultInterface& interface : result.interfaces) {
      interfaces.push_back(RenderInterface(interface, version));
    }
    for (const ResultIp& ip : result.ips) {
      Json object{{"address", ip.address.ToString() + "/" + std::to_string(ip.prefix_length)}};
      if (version < kCni100) object["version"] = ip.address.is_v4() ? "4" : "6";
      if (ip.gateway) object["gateway"] = ip.gateway->ToString();
      PutNumber(object, "interface", ip.interface);
      ips.push_back(std::move(object));
    }
    for (const ResultRoute& route : result.routes) routes.push_back(RenderRoute(route, version));
    if (!interfaces.empty()) document["interfaces"] = std::move(interfaces);
    if (!ips.empty()) document["ips"] = std::move(ips);
    if (!routes.empty()) document["routes"] = std::move(routes);
  }
  document["cniVersion"] = ToString(version);
  document["dns"] = RenderDns(result.dns);
  return document;
}

}  // namespace skiff::cni

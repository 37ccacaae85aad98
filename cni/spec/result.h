// What a plugin answers to ADD, in every version's form (SPEC.md, "ADD Success"). Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/net/ip.h"
#include "base/result.h"
#include "cni/spec/document.h"
#include "cni/spec/version.h"

namespace skiff::cni {

struct ResultInterface {
  std::string name;
  std::string mac;
  std::optional<uint32_t> mtu;
  std::string sandbox;  // empty: an interface of the node
  std::string socket_path;
  std::string pci_id;
  bool operator==(const ResultInterface&) const = default;
};

struct ResultIp {
  net::IpAddress address;
  int prefix_length = 0;
  std::optional<net::IpAddress> gateway;
  std::optional<uint32_t> interface;  // index into the interfaces
  bool operator==(const ResultIp&) const = default;
};

struct ResultRoute {
  net::IpPrefix destination;
  std::optional<net::IpAddress> gateway;
  std::optional<uint32_t> mtu, advmss, priority, table, scope;
  bool operator==(const ResultRoute&) const = default;
};

struct ResultDns {
  std::vector<std::string> nameservers;
  std::string domain;
  std::vector<std::string> search;
  std::vector<std::string> options;
  bool operator==(const ResultDns&) const = default;
};

struct AddResult {
  std::vector<ResultInterface> interfaces;
  std::vector<ResultIp> ips;
  std::vector<ResultRoute> routes;
  ResultDns dns;
  bool operator==(const AddResult&) const = default;
};

// The version is the document's own, or `asked`, the one the plugin was asked in, where it names
// none. InvalidArgument names the field that is wrong.
Result<AddResult> ParseAddResult(const Json& document, const CniVersion& asked);
// With "cniVersion". What a version has no words for is left out.
Json RenderAddResult(const AddResult& result, const CniVersion& version);

Result<ResultDns> ParseDns(const Json& object);

}  // namespace skiff::cni

#include "cni/leases.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "base/net/short_hash.h"
#include "base/os/files.h"

namespace skiff::cni {
namespace {

using nlohmann::json;

constexpr int kVersion = 1;
constexpr std::string_view kSuffix = ".json";
constexpr std::string_view kRetiredSuffix = ".retired";

Result<net::IpAddress> AddressField(const json& object, const char* key) {
  return net::IpAddress::Parse(object.at(key).get<std::string>());
}

Result<Protocol> ParseProtocol(std::string_view name) {
  for (Protocol protocol : {Protocol::kTcp, Protocol::kUdp, Protocol::kSctp}) {
    if (ProtocolName(protocol) == name) return protocol;
  }
  return Error(Code::kInvalidArgument, "unknown protocol " + std::string(name));
}

// Throws json::exception where a field is missing or of another type.
Result<Lease> FromJson(const json& object) {
  if (object.at("version").get<int>() != kVersion) {
    return Error(Code::kDataLoss, "written by another version of skiff");
  }
  Lease lease;
  lease.sandbox_id = object.at("sandbox").get<std::string>();
  lease.netns_path = object.at("netns").get<std::string>();
  lease.pod_namespace = object.at("podNamespace").get<std::string>();
  lease.pod_name = object.at("podName").get<std::string>();
  lease.pod_uid = object.at("podUid").get<std::string>();
  Attachment& attachment = lease.attachment;
  attachment.interface = object.at("interface").get<std::string>();
  attachment.host_interface = object.at("hostInterface").get<std::string>();
  attachment.mac = object.at("mac").get<std::string>();
  attachment.mtu = object.at("mtu").get<uint32_t>();
  for (const json& address : object.at("addresses")) {
    const auto own = TRY(AddressField(address, "address"));
    const auto gateway = TRY(AddressField(address, "gateway"));
    attachment.addresses.push_back({own, gateway});
  }
  for (const json& port : object.at("ports")) {
    PortMapping mapping{.protocol = TRY(ParseProtocol(port.at("protocol").get<std::string>())),
                        .host_port = port.at("hostPort").get<uint16_t>(),
                        .container_port = port.at("containerPort").get<uint16_t>()};
    if (port.contains("hostIp")) mapping.host_ip = TRY(AddressField(port, "hostIp"));
    lease.ports.push_back(mapping);
  }
  if (object.contains("bandwidth")) {
    const json& bandwidth = object.at("bandwidth");
    lease.bandwidth.ingress_bits = bandwidth.at("ingress").get<uint64_t>();
    lease.bandwidth.egress_bits = bandwidth.at("egress").get<uint64_t>();
  }
  return lease;
}

bool Overlaps(const PortMapping& a, const PortMapping& b) {
  return a.protocol == b.protocol && a.host_port == b.host_port &&
         (!a.host_ip || !b.host_ip || *a.host_ip == *b.host_ip);
}

// Network, gateway and, in IPv4, broadcast address.
bool IsReserved(const net::IpPrefix& cidr, const net::IpAddress& address) {
  return address == cidr.first() || address == GatewayOf(cidr) ||
         (address.is_v4() && address == cidr.last());
}

}  // namespace

std::string_view ProtocolName(Protocol protocol) {
  switch (protocol) {
    case Protocol::kTcp: return "tcp";
    case Protocol::kUdp: return "udp";
    case Protocol::kSctp: return "sctp";
  }
  return "tcp";
}

std::string RenderLease(const Lease& lease) {
  json addresses = json::array(), ports = json::array();
  for (const PodAddress& address : lease.attachment.addresses) {
    addresses.push_back(
        {{"address", address.address.ToString()}, {"gateway", address.gateway.ToString()}});
  }
  for (const PortMapping& port : lease.ports) {
    json object{{"protocol", std::string(ProtocolName(port.protocol))},
                {"hostPort", port.host_port},
                {"containerPort", port.container_port}};
    if (port.host_ip) object["hostIp"] = port.host_ip->ToString();
    ports.push_back(std::move(object));
  }
  json object{{"version", kVersion},
              {"sandbox", lease.sandbox_id},
              {"netns", lease.netns_path},
              {"podNamespace", lease.pod_namespace},
              {"podName", lease.pod_name},
              {"podUid", lease.pod_uid},
              {"interface", lease.attachment.interface},
              {"hostInterface", lease.attachment.host_interface},
              {"mac", lease.attachment.mac},
              {"mtu", lease.attachment.mtu},
              {"addresses", std::move(addresses)},
              {"ports", std::move(ports)}};
  if (!lease.bandwidth.empty()) {
    object["bandwidth"] = {{"ingress", lease.bandwidth.ingress_bits},
                           {"egress", lease.bandwidth.egress_bits}};
  }
  // Names come from requests and may hold anything; what is not UTF-8 is replaced.
  return object.dump(1, ' ', false, json::error_handler_t::replace) + "\n";
}

Result<Lease> ParseLease(std::string_view text) {
  try {
    auto lease = FromJson(json::parse(text));
    if (lease.ok()) return lease;
    return Error(Code::kDataLoss, lease.error().message());
  } catch (const json::exception& error) {
    return Error(Code::kDataLoss, error.what());
  }
}

bool IsValidSandboxId(std::string_view id) {
  if (id.empty() || id.size() > 128 || id[0] == '.') return false;
  return std::all_of(id.begin(), id.end(), [](unsigned char c) {
    return isalnum(c) || c == '_' || c == '-' || c == '.' || c == '@';
  });
}

Result<std::string> RunningBootId() {
  std::string id = TRY(ReadFile("/proc/sys/kernel/random/boot_id"));
  while (!id.empty() && id.back() == '\n') id.pop_back();
  return id;
}

net::IpAddress GatewayOf(const net::IpPrefix& cidr) { return cidr.At(1); }

std::string MacOf(const net::IpAddress& address) {
  // 0a:58 marks a locally administered unicast address; the rest is the IPv4 address, or the end of
  // the IPv6 address mixed with its beginning.
  uint8_t tail[4];
  const uint8_t* bytes = address.bytes();
  for (size_t i = 0; i < 4; ++i) {
    tail[i] =
        address.is_v4() ? bytes[i] : static_cast<uint8_t>(bytes[12 + i] ^ bytes[i] ^ bytes[4 + i]);
  }
  char text[18];
  snprintf(text, sizeof text, "0a:58:%02x:%02x:%02x:%02x", tail[0], tail[1], tail[2], tail[3]);
  return text;
}

std::string HostInterfaceOf(const std::string& sandbox_id) {
  return "veth" + net::ShortHashHex(sandbox_id, 10);
}

Result<std::unique_ptr<LeaseTable>> LeaseTable::Open(const std::string& state_dir,
                                                     const std::string& boot_id) {
  if (!IsValidSandboxId(boot_id)) {
    return Error(Code::kInvalidArgument, "\"" + boot_id + "\" is not a boot id");
  }
  std::string base = state_dir + "/leases";
  std::unique_ptr<LeaseTable> table(new LeaseTable(base + "/" + boot_id));
  TRY(MakeDirectories(table->directory_, 0700));
  for (const std::string& boot : TRY(ListDirectory(base))) {
    if (boot != boot_id) TRY(RemoveTree(base + "/" + boot));
  }
  for (const std::string& name : TRY(ListDirectory(table->directory_))) {
    // Others are temporary files of a write that did not finish: their lease was never used.
    std::string path = table->directory_ + "/" + name;
    if (name.ends_with(kRetiredSuffix)) {
      table->retired_before_.push_back(name.substr(0, name.size() - kRetiredSuffix.size()));
      continue;
    }
    if (!name.ends_with(kSuffix)) {
      TRY(RemoveFile(path));
      continue;
    }
    auto lease = ParseLease(TRY(ReadFile(path)));
    if (lease.ok() && lease->sandbox_id + std::string(kSuffix) != name) {
      lease = Error(Code::kDataLoss, "is of sandbox " + lease->sandbox_id);
    }
    if (!lease.ok()) return std::move(lease).error().With("lease " + path);
    for (const PodAddress& address : lease->attachment.addresses) {
      table->holders_[address.address] = lease->sandbox_id;
    }
    table->leases_[lease->sandbox_id] = *std::move(lease);
  }
  return table;
}

std::string LeaseTable::FileOf(const std::string& sandbox_id) const {
  return directory_ + "/" + sandbox_id + std::string(kSuffix);
}

std::string LeaseTable::RetiredFileOf(const std::string& sandbox_id) const {
  return directory_ + "/" + sandbox_id + std::string(kRetiredSuffix);
}

const Lease* LeaseTable::Holder(const net::IpAddress& address) const {
  auto holder = holders_.find(address);
  return holder == holders_.end() ? nullptr : &leases_.at(holder->second);
}

Result<> LeaseTable::CheckPorts(const Lease& draft) const {
  for (const auto& [id, lease] : leases_) {
    for (const PortMapping& taken : lease.ports) {
      for (const PortMapping& wanted : draft.ports) {
        if (!Overlaps(taken, wanted)) continue;
        return Error(Code::kAlreadyExists, "host port " + std::to_string(wanted.host_port) + "/" +
                                               std::string(ProtocolName(wanted.protocol)) +
                                               " belongs to pod " + lease.pod_namespace + "/" +
                                               lease.pod_name + " (sandbox " + id + ")");
      }
    }
  }
  return {};
}

Result<net::IpAddress> LeaseTable::Pick(const net::IpPrefix& cidr,
                                        const std::vector<net::IpAddress>& requested) {
  for (const net::IpAddress& address : requested) {
    if (address.family() != cidr.family()) continue;
    if (!cidr.Contains(address) || IsReserved(cidr, address)) {
      return Error(Code::kInvalidArgument,
                   address.ToString() + " is no pod address of " + cidr.ToString());
    }
    if (const Lease* holder = Holder(address)) {
      return Error(Code::kAlreadyExists,
                   address.ToString() + " belongs to sandbox " + holder->sandbox_id);
    }
    return address;
  }
  auto [cursor, first_use] = cursors_.try_emplace(cidr, 2);
  if (first_use) {
    // After a restart: go on behind the highest address in use.
    for (const auto& [address, holder] : holders_) {
      if (cidr.Contains(address)) cursor->second = address.OffsetFrom(cidr.first()) + 1;
    }
  }
  // At most one more than there are leases need to be passed over, besides the three reserved ones.
  uint64_t tries = std::min<uint64_t>(cidr.size(), holders_.size() + 4);
  for (uint64_t i = 0; i < tries; ++i) {
    uint64_t index = cursor->second % cidr.size();
    cursor->second = index + 1;
    net::IpAddress address = cidr.At(index);
    if (!IsReserved(cidr, address) && Holder(address) == nullptr) return address;
  }
  return Error(Code::kResourceExhausted, "every address of " + cidr.ToString() + " is taken (" +
                                             std::to_string(leases_.size()) + " sandboxes)");
}

Result<Lease> LeaseTable::Acquire(Lease draft, const std::vector<net::IpAddress>& requested,
                                  const std::vector<net::IpPrefix>& cidrs) {
  std::lock_guard lock(mutex_);
  if (leases_.contains(draft.sandbox_id)) {
    return Error(Code::kAlreadyExists, "sandbox " + draft.sandbox_id + " has a lease");
  }
  for (const net::IpAddress& address : requested) {
    if (std::none_of(cidrs.begin(), cidrs.end(),
                     [&](const net::IpPrefix& cidr) { return cidr.Contains(address); })) {
      return Error(Code::kInvalidArgument, address.ToString() + " is outside the pod CIDRs");
    }
  }
  TRY(CheckPorts(draft));
  Attachment& attachment = draft.attachment;
  attachment.addresses.clear();
  for (const net::IpPrefix& cidr : cidrs) {
    attachment.addresses.push_back({TRY(Pick(cidr, requested)), GatewayOf(cidr)});
  }
  if (attachment.mac.empty()) attachment.mac = MacOf(attachment.addresses.front().address);
  attachment.host_interface = HostInterfaceOf(draft.sandbox_id);
  TRY(WriteFileAtomic(FileOf(draft.sandbox_id), RenderLease(draft), Durability::kNone));
  for (const PodAddress& address : attachment.addresses) {
    holders_[address.address] = draft.sandbox_id;
  }
  leases_[draft.sandbox_id] = draft;
  return draft;
}

Result<> LeaseTable::Retire(const std::string& sandbox_id) {
  std::lock_guard lock(mutex_);
  auto found = leases_.find(sandbox_id);
  if (found == leases_.end()) return {};
  const std::string file = FileOf(sandbox_id);
  if (::rename(file.c_str(), RetiredFileOf(sandbox_id).c_str()) != 0) {
    return Error::Sys(errno, "rename", file);
  }
  for (const PodAddress& address : found->second.attachment.addresses) {
    holders_.erase(address.address);
  }
  leases_.erase(found);
  return {};
}

Result<> LeaseTable::Forget(const std::string& sandbox_id) {
  return RemoveFile(RetiredFileOf(sandbox_id));
}

std::optional<Lease> LeaseTable::Find(const std::string& sandbox_id) const {
  std::lock_guard lock(mutex_);
  auto found = leases_.find(sandbox_id);
  if (found == leases_.end()) return std::nullopt;
  return found->second;
}

std::vector<Lease> LeaseTable::All() const {
  std::lock_guard lock(mutex_);
  std::vector<Lease> all;
  for (const auto& [id, lease] : leases_) all.push_back(lease);
  return all;
}

}  // namespace skiff::cni

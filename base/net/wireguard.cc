#include "base/net/wireguard.h"

#include <linux/genetlink.h>
#include <linux/wireguard.h>
#include <netinet/in.h>
#include <netlink/attr.h>
#include <openssl/evp.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <map>
#include <memory>
#include <utility>

#include "base/base64.h"
#include "base/net/socket_address.h"
#include "base/random.h"

namespace skiff::net {
namespace {

constexpr size_t kKeyBytes = WG_KEY_LEN;
// A peer takes some 200 bytes of a message, which holds 4096.
constexpr size_t kPeersPerMessage = 12;

struct KeyDeleter {
  void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
};

Result<std::string> KeyBytes(std::string_view text) {
  std::string bytes = TRY(Base64Decode(text).With("WireGuard key"));
  if (bytes.size() == kKeyBytes) return bytes;
  return Error(Code::kInvalidArgument, "WireGuard key: " + std::to_string(bytes.size()) +
                                           " bytes instead of " + std::to_string(kKeyBytes));
}

std::string KeyText(nlattr* attribute) {
  const void* data = AttributeData(attribute, kKeyBytes);
  if (data == nullptr) return {};
  return Base64Encode({static_cast<const char*>(data), kKeyBytes});
}

NetlinkMessage SetMessage(int family, const std::string& name) {
  const genlmsghdr header{.cmd = WG_CMD_SET_DEVICE, .version = WG_GENL_VERSION, .reserved = 0};
  NetlinkMessage message(family, 0, header, "configure WireGuard link " + name);
  message.PutString(WGDEVICE_A_IFNAME, name);
  return message;
}

void PutKey(NetlinkMessage& message, int attribute, std::string_view key) {
  const std::string bytes = KeyBytes(key).value();
  message.Put(attribute, bytes.data(), bytes.size());
}

void PutAllowed(NetlinkMessage& peer, const std::vector<IpPrefix>& allowed) {
  peer.Nest(WGPEER_A_ALLOWEDIPS, [&](NetlinkMessage& list) {
    for (const IpPrefix& prefix : allowed) {
      list.Nest(0, [&](NetlinkMessage& one) {
        const auto family = static_cast<uint16_t>(SocketFamily(prefix.family()));
        one.Put(WGALLOWEDIP_A_FAMILY, &family, sizeof family);
        one.PutAddress(WGALLOWEDIP_A_IPADDR, prefix.first());
        one.PutU8(WGALLOWEDIP_A_CIDR_MASK, static_cast<uint8_t>(prefix.length()));
      });
    }
  });
}

void PutPeer(NetlinkMessage& list, const WireguardPeer& wanted, bool remove) {
  list.Nest(0, [&](NetlinkMessage& peer) {
    PutKey(peer, WGPEER_A_PUBLIC_KEY, wanted.public_key);
    peer.PutU32(WGPEER_A_FLAGS, remove ? WGPEER_F_REMOVE_ME : WGPEER_F_REPLACE_ALLOWEDIPS);
    if (remove) return;
    if (wanted.endpoint) {
      SocketAddress address(*wanted.endpoint);
      peer.Put(WGPEER_A_ENDPOINT, address.get(), address.size());
    }
    PutAllowed(peer, wanted.allowed_ips);
  });
}

std::optional<Endpoint> EndpointOf(nlattr* attribute) {
  if (attribute == nullptr) return std::nullopt;
  const auto size = static_cast<size_t>(nla_len(attribute));
  SocketAddress address;
  if (size < sizeof(sockaddr_in) || size > *address.mutable_size()) return std::nullopt;
  std::memcpy(address.get(), nla_data(attribute), size);
  const int family = address.get()->sa_family;
  if (family != AF_INET && (family != AF_INET6 || size < sizeof(sockaddr_in6))) return std::nullopt;
  *address.mutable_size() = static_cast<socklen_t>(size);
  return address.endpoint();
}

std::optional<IpPrefix> AllowedOf(nlattr* attribute) {
  std::array<nlattr*, WGALLOWEDIP_A_MAX + 1> fields{};
  if (nla_parse_nested(fields.data(), WGALLOWEDIP_A_MAX, attribute, nullptr) != 0) return {};
  uint16_t number = 0;
  const void* family = AttributeData(fields[WGALLOWEDIP_A_FAMILY], sizeof number);
  const void* length = AttributeData(fields[WGALLOWEDIP_A_CIDR_MASK], 1);
  if (family == nullptr || length == nullptr) return {};
  std::memcpy(&number, family, sizeof number);
  const IpFamily which = number == AF_INET6 ? IpFamily::kV6 : IpFamily::kV4;
  const IpAddress any = which == IpFamily::kV6 ? IpAddress::Parse("::").value() : IpAddress();
  const void* bytes = AttributeData(fields[WGALLOWEDIP_A_IPADDR], any.size());
  const int bits = *static_cast<const uint8_t*>(length);
  if (bytes == nullptr || bits > any.bits()) return {};
  return IpPrefix::Of(IpAddress::FromBytes(which, bytes), bits);
}

// Runs over the attributes that are nested in one.
template <class Each>
void ForEachNested(nlattr* list, Each each) {
  if (list == nullptr) return;
  auto* attribute = static_cast<nlattr*>(nla_data(list));
  int left = nla_len(list);
  for (; nla_ok(attribute, left); attribute = nla_next(attribute, &left)) each(attribute);
}

// What one of the messages of a listing says; a peer may go on in the next one.
void TakeDevice(nlmsghdr* header, WireguardDevice* device,
                std::map<std::string, WireguardPeer>* peers) {
  std::array<nlattr*, WGDEVICE_A_MAX + 1> fields{};
  if (nlmsg_parse(header, GENL_HDRLEN, fields.data(), WGDEVICE_A_MAX, nullptr) != 0) return;
  if (std::string key = KeyText(fields[WGDEVICE_A_PRIVATE_KEY]); !key.empty()) {
    device->private_key = std::move(key);
  }
  if (const void* port = AttributeData(fields[WGDEVICE_A_LISTEN_PORT], 2)) {
    std::memcpy(&device->listen_port, port, 2);
  }
  ForEachNested(fields[WGDEVICE_A_PEERS], [&](nlattr* attribute) {
    std::array<nlattr*, WGPEER_A_MAX + 1> peer{};
    if (nla_parse_nested(peer.data(), WGPEER_A_MAX, attribute, nullptr) != 0) return;
    std::string key = KeyText(peer[WGPEER_A_PUBLIC_KEY]);
    if (key.empty()) return;
    WireguardPeer& found = (*peers)[key];
    found.public_key = key;
    if (auto endpoint = EndpointOf(peer[WGPEER_A_ENDPOINT])) found.endpoint = endpoint;
    ForEachNested(peer[WGPEER_A_ALLOWEDIPS], [&](nlattr* one) {
      if (auto prefix = AllowedOf(one)) found.allowed_ips.push_back(*prefix);
    });
  });
}

}  // namespace

std::string MakeWireguardKey() {
  std::string bytes = RandomBytes(kKeyBytes);
  bytes.front() = static_cast<char>(bytes.front() & 0xf8);
  bytes.back() = static_cast<char>((bytes.back() & 0x7f) | 0x40);
  return Base64Encode(bytes);
}

Result<> CheckWireguardKey(std::string_view key) {
  TRY(KeyBytes(key));
  return {};
}

Result<std::string> WireguardPublicKey(std::string_view private_key) {
  const std::string bytes = TRY(KeyBytes(private_key));
  std::unique_ptr<EVP_PKEY, KeyDeleter> key(EVP_PKEY_new_raw_private_key(
      EVP_PKEY_X25519, nullptr, reinterpret_cast<const unsigned char*>(bytes.data()),
      bytes.size()));
  std::array<unsigned char, kKeyBytes> public_bytes{};
  size_t size = public_bytes.size();
  if (key == nullptr || EVP_PKEY_get_raw_public_key(key.get(), public_bytes.data(), &size) != 1) {
    return Error(Code::kInternal, "WireGuard key: no public key can be computed");
  }
  return Base64Encode({reinterpret_cast<const char*>(public_bytes.data()), size});
}

std::vector<NetlinkMessage> PlanWireguard(int family, const std::string& name,
                                          const WireguardDevice& present,
                                          const WireguardDevice& wanted) {
  std::vector<NetlinkMessage> messages;
  if (present.private_key != wanted.private_key || present.listen_port != wanted.listen_port) {
    NetlinkMessage& message = messages.emplace_back(SetMessage(family, name));
    PutKey(message, WGDEVICE_A_PRIVATE_KEY, wanted.private_key);
    message.Put(WGDEVICE_A_LISTEN_PORT, &wanted.listen_port, sizeof wanted.listen_port);
  }
  auto has_key = [](const std::vector<WireguardPeer>& peers, const std::string& key) {
    return std::ranges::any_of(peers, [&](const auto& peer) { return peer.public_key == key; });
  };
  // First what goes: an allowed address belongs to one peer at a time.
  std::vector<std::pair<const WireguardPeer*, bool>> changes;
  for (const WireguardPeer& peer : present.peers) {
    if (!has_key(wanted.peers, peer.public_key)) changes.emplace_back(&peer, true);
  }
  for (const WireguardPeer& peer : wanted.peers) {
    if (std::ranges::find(present.peers, peer) == present.peers.end()) {
      changes.emplace_back(&peer, false);
    }
  }
  for (size_t first = 0; first < changes.size(); first += kPeersPerMessage) {
    NetlinkMessage& message = messages.emplace_back(SetMessage(family, name));
    message.Nest(WGDEVICE_A_PEERS, [&](NetlinkMessage& list) {
      const size_t last = std::min(changes.size(), first + kPeersPerMessage);
      for (size_t i = first; i < last; ++i) PutPeer(list, *changes[i].first, changes[i].second);
    });
  }
  return messages;
}

Result<Wireguard> Wireguard::Open() {
  NetlinkSocket socket = TRY(NetlinkSocket::Open(NETLINK_GENERIC));
  const genlmsghdr header{.cmd = CTRL_CMD_GETFAMILY, .version = 1, .reserved = 0};
  NetlinkMessage message(GENL_ID_CTRL, 0, header, "look for the kernel's WireGuard");
  message.PutString(CTRL_ATTR_FAMILY_NAME, WG_GENL_NAME);
  int family = 0;
  Result<> asked = socket.Query(message, [&family](nlmsghdr* answer) {
    nlattr* number = nlmsg_find_attr(answer, GENL_HDRLEN, CTRL_ATTR_FAMILY_ID);
    if (AttributeData(number, 2) != nullptr) family = nla_get_u16(number);
  });
  if (!asked.ok() && asked.error().code() != Code::kNotFound) return std::move(asked).error();
  if (family == 0) return Error(Code::kUnimplemented, "the kernel has no WireGuard");
  return Wireguard(std::move(socket), family);
}

Result<WireguardDevice> Wireguard::Get(const std::string& name) {
  const genlmsghdr header{.cmd = WG_CMD_GET_DEVICE, .version = WG_GENL_VERSION, .reserved = 0};
  NetlinkMessage message(family_, NLM_F_DUMP, header, "read WireGuard link " + name);
  message.PutString(WGDEVICE_A_IFNAME, name);
  WireguardDevice device;
  std::map<std::string, WireguardPeer> peers;
  TRY(socket_.Query(message, [&](nlmsghdr* answer) { TakeDevice(answer, &device, &peers); }));
  for (auto& [key, peer] : peers) {
    // A listing that was read again says some twice.
    std::ranges::sort(peer.allowed_ips);
    const auto doubled = std::ranges::unique(peer.allowed_ips);
    peer.allowed_ips.erase(doubled.begin(), doubled.end());
    device.peers.push_back(std::move(peer));
  }
  return device;
}

Result<> Wireguard::Set(const std::string& name, const WireguardDevice& wanted) {
  std::vector<NetlinkMessage> messages = PlanWireguard(family_, name, TRY(Get(name)), wanted);
  for (NetlinkMessage& message : messages) TRY(socket_.Request(message));
  return {};
}

}  // namespace skiff::net

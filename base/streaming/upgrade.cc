#include "base/streaming/upgrade.h"

#include <algorithm>
#include <cctype>

#include "base/streaming/websocket_frames.h"

namespace skiff::streaming {

namespace {

constexpr std::string_view kSpdyProtocol = "SPDY/3.1";
constexpr std::string_view kSpdyProtocolHeader = "X-Stream-Protocol-Version";
constexpr std::string_view kTunneledPrefix = "SPDY/3.1+";

bool SameText(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](unsigned char x, unsigned char y) {
    return std::tolower(x) == std::tolower(y);
  });
}

std::string_view Trim(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

// The elements of all the comma-separated lists under a name, in order.
std::vector<std::string_view> Elements(const HeaderList& headers, std::string_view name) {
  std::vector<std::string_view> elements;
  for (const auto& [key, value] : headers) {
    if (!SameText(key, name)) continue;
    std::string_view rest = value;
    while (!rest.empty()) {
      std::string_view element = Trim(rest.substr(0, rest.find(',')));
      if (!element.empty()) elements.push_back(element);
      size_t comma = rest.find(',');
      rest.remove_prefix(comma == std::string_view::npos ? rest.size() : comma + 1);
    }
  }
  return elements;
}

bool HasElement(const HeaderList& headers, std::string_view name, std::string_view element) {
  auto elements = Elements(headers, name);
  return std::any_of(elements.begin(), elements.end(),
                     [&](std::string_view e) { return SameText(e, element); });
}

std::string Join(const std::vector<std::string_view>& parts) {
  std::string text;
  for (std::string_view part : parts) text.append(text.empty() ? "" : ", ").append(part);
  return text;
}

bool Contains(const std::vector<std::string_view>& list, std::string_view item) {
  return std::find(list.begin(), list.end(), item) != list.end();
}

// The first of the client's protocols that we know.
Result<std::string> Choose(const std::vector<std::string_view>& offered,
                           const std::vector<std::string_view>& known) {
  for (std::string_view protocol : offered) {
    if (Contains(known, protocol)) return std::string(protocol);
  }
  return Error(Code::kPermissionDenied,
               "unable to upgrade: unable to negotiate protocol: client supports [" +
                   Join(offered) + "], server accepts [" + Join(known) + "]");
}

Result<Upgrade> NegotiateSpdy(const HeaderList& headers,
                              const std::vector<std::string_view>& known) {
  Upgrade upgrade{.transport = Transport::kSpdy};
  auto offered = Elements(headers, kSpdyProtocolHeader);
  // Clients older than the negotiation name nothing and mean the first version.
  upgrade.response_headers = {{"Connection", "Upgrade"}, {"Upgrade", std::string(kSpdyProtocol)}};
  if (offered.empty()) return upgrade;
  upgrade.protocol = TRY(Choose(offered, known));
  upgrade.response_headers.emplace_back(kSpdyProtocolHeader, upgrade.protocol);
  return upgrade;
}

Result<Upgrade> NegotiateWebSocket(const HeaderList& headers,
                                   const std::vector<std::string_view>& known) {
  Upgrade upgrade{.transport = Transport::kWebSocket};
  auto versions = Elements(headers, "Sec-WebSocket-Version");
  auto keys = Elements(headers, "Sec-WebSocket-Key");
  if (!Contains(versions, "13") || keys.size() != 1 || !IsWebSocketKey(keys[0])) {
    return Error(Code::kInvalidArgument,
                 "unable to upgrade: not a WebSocket handshake of version 13 (RFC 6455)");
  }
  upgrade.response_headers = {{"Connection", "Upgrade"},
                              {"Upgrade", "websocket"},
                              {"Sec-WebSocket-Accept", WebSocketAccept(keys[0])}};
  auto offered = Elements(headers, "Sec-WebSocket-Protocol");
  if (offered.empty()) return upgrade;
  upgrade.protocol = TRY(Choose(offered, known));
  upgrade.response_headers.emplace_back("Sec-WebSocket-Protocol", upgrade.protocol);
  return upgrade;
}

bool IsSpdy(const HeaderList& headers) { return HasElement(headers, "Upgrade", kSpdyProtocol); }

Error NotAnUpgrade() {
  return Error(Code::kInvalidArgument,
               "unable to upgrade: missing upgrade headers in request (SPDY/3.1 or websocket)");
}

// 1 for "", "channel.k8s.io" and "base64.channel.k8s.io"; N for those with a "vN." in front.
int VersionOf(std::string_view protocol) {
  if (protocol.size() > 2 && protocol[0] == 'v' && protocol[2] == '.') return protocol[1] - '0';
  return 1;
}

}  // namespace

bool IsUpgrade(const HeaderList& headers) {
  return HasElement(headers, "Connection", "upgrade") &&
         (IsSpdy(headers) || HasElement(headers, "Upgrade", "websocket"));
}

Result<Upgrade> NegotiateExec(const HeaderList& headers) {
  if (!IsUpgrade(headers)) return NotAnUpgrade();
  Upgrade upgrade =
      IsSpdy(headers)
          ? TRY(NegotiateSpdy(headers,
                              {"v5.channel.k8s.io", "v4.channel.k8s.io", "v3.channel.k8s.io",
                               "v2.channel.k8s.io", "channel.k8s.io"}))
          : TRY(NegotiateWebSocket(
                headers, {"v5.channel.k8s.io", "v4.channel.k8s.io", "v4.base64.channel.k8s.io",
                          "channel.k8s.io", "base64.channel.k8s.io"}));
  upgrade.version = VersionOf(upgrade.protocol);
  upgrade.base64 = upgrade.protocol.find("base64") != std::string::npos;
  return upgrade;
}

Result<Upgrade> NegotiatePortForward(const HeaderList& headers) {
  if (!IsUpgrade(headers)) return NotAnUpgrade();
  if (IsSpdy(headers)) return NegotiateSpdy(headers, {"portforward.k8s.io"});
  Upgrade upgrade = TRY(NegotiateWebSocket(
      headers, {"SPDY/3.1+portforward.k8s.io", kHalfClosePortForward, "v4.channel.k8s.io",
                "v4.base64.channel.k8s.io", "portforward.k8s.io"}));
  if (upgrade.protocol == kHalfClosePortForward) upgrade.version = 5;
  if (upgrade.protocol.starts_with(kTunneledPrefix)) {
    upgrade.transport = Transport::kSpdyOverWebSocket;
  }
  upgrade.base64 = upgrade.protocol.find("base64") != std::string::npos;
  return upgrade;
}

std::string ResponseHead(const Upgrade& upgrade) {
  std::string head = "HTTP/1.1 101 Switching Protocols\r\n";
  for (const auto& [name, value] : upgrade.response_headers) {
    head.append(name).append(": ").append(value).append("\r\n");
  }
  return head.append("\r\n");
}

}  // namespace skiff::streaming

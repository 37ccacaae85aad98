// Which streaming protocol a client and we agree on: the HTTP upgrade of exec, attach and
// port-forward requests, over SPDY/3.1 or WebSocket (RFC 6455).
//
// Pure: headers in, response headers out.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"

namespace skiff::streaming {

using HeaderList = std::vector<std::pair<std::string, std::string>>;  // names in any case

enum class Transport {
  kSpdy,               // streams are SPDY streams
  kWebSocket,          // streams are channels: the first byte of each message
  kSpdyOverWebSocket,  // SPDY frames in binary messages (kubectl port-forward since 1.31)
};

struct Upgrade {
  Transport transport = Transport::kSpdy;
  // The negotiated protocol: "v4.channel.k8s.io", "portforward.k8s.io"; empty when a WebSocket
  // client named none.
  std::string protocol;
  bool base64 = false;  // channels carry base64 text
  // 1 to 5 for exec and attach: which error-channel format and half-close rules hold. For
  // port-forward 5 where channels can be half-closed.
  int version = 0;
  // For the 101 response.
  HeaderList response_headers;
};

// Our own WebSocket protocol between agent and runtime: v4.channel.k8s.io with the half-close of v5
// in both directions, which a forwarded TCP connection needs. Others do not know it and are offered
// v4 besides.
inline constexpr std::string_view kHalfClosePortForward = "v5.portforward.skiff.dev";

// Whether the headers ask for an upgrade to SPDY/3.1 or WebSocket at all; if not, a plain 400
// ("you must specify at least 1 of stdin, stdout, stderr" comes first) is the answer.
bool IsUpgrade(const HeaderList& headers);

// The best protocol both sides know. InvalidArgument: not an upgrade we understand (HTTP 400).
// PermissionDenied: none of the client's protocols is known (HTTP 403, as Kubernetes answers for
// SPDY).
Result<Upgrade> NegotiateExec(const HeaderList& headers);
Result<Upgrade> NegotiatePortForward(const HeaderList& headers);

// "HTTP/1.1 101 Switching Protocols\r\n...\r\n\r\n".
std::string ResponseHead(const Upgrade& upgrade);

}  // namespace skiff::streaming

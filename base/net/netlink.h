// Netlink: requests to the kernel's network configuration, over libnl-3 sockets and messages.
//
// A NetlinkSocket belongs to the network namespace in which it was opened, for ever, whichever
// thread uses it later: open one in the target namespace (NetnsScope) rather than move threads
// about.
#pragma once

#include <netlink/msg.h>
#include <netlink/netlink.h>
#include <netlink/socket.h>

#include <chrono>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/net/ip.h"
#include "base/result.h"

namespace skiff::net {

// unique_ptr for libnl's objects.
struct NlDeleter {
  void operator()(nl_sock* socket) const { nl_socket_free(socket); }
  void operator()(nl_msg* message) const { nlmsg_free(message); }
};
template <class T>
using NlPtr = std::unique_ptr<T, NlDeleter>;

// One request: header, family header, attributes. Running out of memory ends the process.
class NetlinkMessage {
 public:
  // what: for errors, "add address 10.0.0.2/32".
  NetlinkMessage(int type, int flags, const void* family_header, size_t header_size,
                 std::string what);
  template <class Header>
  NetlinkMessage(int type, int flags, const Header& header, std::string what)
      : NetlinkMessage(type, flags, &header, sizeof header, std::move(what)) {}

  NetlinkMessage& Put(int attribute, const void* data, size_t size);
  NetlinkMessage& PutU8(int attribute, uint8_t value) { return Put(attribute, &value, 1); }
  NetlinkMessage& PutU32(int attribute, uint32_t value) { return Put(attribute, &value, 4); }
  NetlinkMessage& PutString(int attribute, std::string_view value);  // with its 0 byte
  NetlinkMessage& PutAddress(int attribute, const IpAddress& address);
  // "0a:58:..."; CHECKs the form.
  NetlinkMessage& PutMac(int attribute, std::string_view mac);
  // Attributes put inside fill are nested in the attribute.
  NetlinkMessage& Nest(int attribute, const std::function<void(NetlinkMessage&)>& fill);
  // Bytes without an attribute header (a family header inside a nest).
  NetlinkMessage& PutRaw(const void* data, size_t size);

  nlmsghdr* header() const { return nlmsg_hdr(message_.get()); }
  const std::string& what() const { return what_; }

 private:
  NlPtr<nl_msg> message_;
  std::string what_;
};

// The failpoint (base/failpoint.h) in front of all that is sent to the kernel by netlink.
Result<> ReachNetlink(std::string_view what);

// Not thread-safe: one user at a time.
class NetlinkSocket {
 public:
  // protocol: NETLINK_ROUTE, NETLINK_NETFILTER. deadline: the longest wait for an answer.
  static Result<NetlinkSocket> Open(int protocol,
                                    std::chrono::milliseconds deadline = std::chrono::seconds(10));

  // Sends the request and waits for its acknowledgement.
  Result<> Request(NetlinkMessage& message);
  // Sends all in few system calls; all that come after a refused one are still tried, as the kernel
  // does. The error is the first.
  Result<> RequestAll(std::span<NetlinkMessage> messages);
  // Calls each for every answer of a listing (or of a single get). A listing that changed under
  // way is read again: each must tolerate seeing an object twice.
  Result<> Query(NetlinkMessage& message, const std::function<void(nlmsghdr*)>& each);

  int fd() const { return nl_socket_get_fd(socket_.get()); }

 private:
  explicit NetlinkSocket(NlPtr<nl_sock> socket) : socket_(std::move(socket)) {}
  Result<> RequestLot(std::span<NetlinkMessage> messages);
  Result<> Send(std::string_view bytes, const std::string& what);
  uint32_t Prepare(NetlinkMessage& message, int flags);
  // Reads one datagram into buffer_.
  Result<std::span<char>> Receive(const std::string& what);
  Result<bool> QueryOnce(NetlinkMessage& message, const std::function<void(nlmsghdr*)>& each);

  NlPtr<nl_sock> socket_;
  std::vector<char> buffer_;
};

// The attribute's payload, or nothing when it is absent or shorter than wanted.
const void* AttributeData(nlattr* attribute, size_t size);

}  // namespace skiff::net

#include "base/net/netlink.h"

#include <linux/netlink.h>
#include <netlink/attr.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>

#include "base/failpoint.h"

namespace skiff::net {
namespace {

constexpr size_t kMessageSize = 4096;
constexpr size_t kBufferSize = 64 * 1024;  // the kernel fills up to 32 KiB a datagram
constexpr int kListingTries = 5;
// Their acknowledgements wait in the socket's buffer until the last request is done: of a few
// hundred, some are dropped (ENOBUFS).
constexpr size_t kMessagesAtOnce = 64;

// What the kernel says beyond the errno (NETLINK_EXT_ACK), or "".
std::string ExtendedAck(nlmsghdr* header) {
  if ((header->nlmsg_flags & NLM_F_ACK_TLVS) == 0) return "";
  auto* error = static_cast<nlmsgerr*>(nlmsg_data(header));
  // With NETLINK_CAP_ACK unset the request follows the error whole, then the attributes.
  size_t offset = sizeof(nlmsgerr);
  if ((header->nlmsg_flags & NLM_F_CAPPED) == 0 && error->error != 0) {
    offset += NLMSG_ALIGN(error->msg.nlmsg_len) - sizeof(nlmsghdr);
  }
  size_t length = static_cast<size_t>(nlmsg_datalen(header));
  if (offset >= length) return "";
  auto* first = reinterpret_cast<nlattr*>(static_cast<char*>(nlmsg_data(header)) + offset);
  nlattr* text = nla_find(first, static_cast<int>(length - offset), NLMSGERR_ATTR_MSG);
  return text == nullptr ? "" : std::string(nla_get_string(text));
}

Result<> AckResult(nlmsghdr* header, const std::string& what) {
  if (nlmsg_datalen(header) < static_cast<int>(sizeof(nlmsgerr))) {
    return Error(Code::kInternal, what + ": the kernel's answer is too short");
  }
  int error = -static_cast<nlmsgerr*>(nlmsg_data(header))->error;
  if (error == 0) return {};
  return Error::Sys(error, what, ExtendedAck(header));
}

}  // namespace

NetlinkMessage::NetlinkMessage(int type, int flags, const void* family_header, size_t header_size,
                               std::string what)
    : message_(nlmsg_alloc_size(kMessageSize)), what_(std::move(what)) {
  CHECK(message_ != nullptr);
  CHECK(nlmsg_put(message_.get(), NL_AUTO_PORT, NL_AUTO_SEQ, type, 0, NLM_F_REQUEST | flags) !=
        nullptr);
  CHECK(nlmsg_append(message_.get(), const_cast<void*>(family_header), header_size,
                     NLMSG_ALIGNTO) == 0);
}

NetlinkMessage& NetlinkMessage::Put(int attribute, const void* data, size_t size) {
  CHECK(nla_put(message_.get(), attribute, static_cast<int>(size), data) == 0);
  return *this;
}

NetlinkMessage& NetlinkMessage::PutString(int attribute, std::string_view value) {
  return Put(attribute, std::string(value).c_str(), value.size() + 1);
}

NetlinkMessage& NetlinkMessage::PutAddress(int attribute, const IpAddress& address) {
  return Put(attribute, address.bytes(), address.size());
}

NetlinkMessage& NetlinkMessage::PutMac(int attribute, std::string_view mac) {
  uint8_t bytes[6];
  CHECK(mac.size() == 17);
  for (int i = 0; i < 6; ++i) {
    const char* digits = mac.data() + i * 3;
    CHECK(std::from_chars(digits, digits + 2, bytes[i], 16).ptr == digits + 2);
  }
  return Put(attribute, bytes, sizeof bytes);
}

NetlinkMessage& NetlinkMessage::Nest(int attribute,
                                     const std::function<void(NetlinkMessage&)>& fill) {
  nlattr* start = nla_nest_start(message_.get(), attribute | NLA_F_NESTED);
  CHECK(start != nullptr);
  fill(*this);
  nla_nest_end(message_.get(), start);
  return *this;
}

NetlinkMessage& NetlinkMessage::PutRaw(const void* data, size_t size) {
  CHECK(nlmsg_append(message_.get(), const_cast<void*>(data), size, NLMSG_ALIGNTO) == 0);
  return *this;
}

Result<> ReachNetlink(std::string_view what) { return failpoint::Reach("netlink", what); }

Result<NetlinkSocket> NetlinkSocket::Open(int protocol, std::chrono::milliseconds deadline) {
  NlPtr<nl_sock> socket(nl_socket_alloc());
  CHECK(socket != nullptr);
  if (int error = nl_connect(socket.get(), protocol); error < 0) {
    return Error(Code::kInternal, std::string("open netlink socket: ") + nl_geterror(error));
  }
  int fd = nl_socket_get_fd(socket.get());
  int on = 1;
  // Both only improve error texts and filtering; kernels before 4.12 and 4.20 lack them.
  (void)setsockopt(fd, SOL_NETLINK, NETLINK_EXT_ACK, &on, sizeof on);
  if (protocol == NETLINK_ROUTE) {
    (void)setsockopt(fd, SOL_NETLINK, NETLINK_GET_STRICT_CHK, &on, sizeof on);
  }
  timeval timeout{.tv_sec = deadline.count() / 1000,
                  .tv_usec = static_cast<suseconds_t>(deadline.count() % 1000 * 1000)};
  if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout) != 0) {
    return Error::Sys(errno, "setsockopt(SO_RCVTIMEO)", "netlink");
  }
  NetlinkSocket opened(std::move(socket));
  opened.buffer_.resize(kBufferSize);
  return opened;
}

uint32_t NetlinkSocket::Prepare(NetlinkMessage& message, int flags) {
  nlmsghdr* header = message.header();
  header->nlmsg_seq = nl_socket_use_seq(socket_.get());
  header->nlmsg_pid = nl_socket_get_local_port(socket_.get());
  header->nlmsg_flags = static_cast<uint16_t>(header->nlmsg_flags | flags);
  return header->nlmsg_seq;
}

Result<> NetlinkSocket::Send(std::string_view bytes, const std::string& what) {
  TRY(ReachNetlink(what));
  sockaddr_nl kernel{};
  kernel.nl_family = AF_NETLINK;
  while (sendto(fd(), bytes.data(), bytes.size(), 0, reinterpret_cast<sockaddr*>(&kernel),
                sizeof kernel) < 0) {
    if (errno != EINTR) return Error::Sys(errno, what, "send");
  }
  return {};
}

Result<std::span<char>> NetlinkSocket::Receive(const std::string& what) {
  for (;;) {
    sockaddr_nl sender{};
    iovec vector{buffer_.data(), buffer_.size()};
    msghdr message{
        .msg_name = &sender, .msg_namelen = sizeof sender, .msg_iov = &vector, .msg_iovlen = 1};
    ssize_t size = recvmsg(fd(), &message, 0);
    if (size < 0 && errno == EINTR) continue;
    if (size < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
      return Error(Code::kUnknownOutcome, what + ": no answer from the kernel in time");
    }
    if (size < 0) return Error::Sys(errno, what, "receive");
    if (sender.nl_pid != 0) continue;  // only the kernel is believed
    if ((message.msg_flags & MSG_TRUNC) != 0) {
      return Error(Code::kInternal, what + ": the kernel's answer does not fit");
    }
    return std::span<char>(buffer_.data(), static_cast<size_t>(size));
  }
}

Result<> NetlinkSocket::Request(NetlinkMessage& message) {
  return RequestAll(std::span<NetlinkMessage>(&message, 1));
}

Result<> NetlinkSocket::RequestAll(std::span<NetlinkMessage> messages) {
  Result<> first;
  for (size_t start = 0; start < messages.size(); start += kMessagesAtOnce) {
    const size_t count = std::min(kMessagesAtOnce, messages.size() - start);
    Result<> result = RequestLot(messages.subspan(start, count));
    if (first.ok() && !result.ok()) first = std::move(result);
  }
  return first;
}

Result<> NetlinkSocket::RequestLot(std::span<NetlinkMessage> messages) {
  std::string bytes;
  std::vector<uint32_t> sequences;
  for (NetlinkMessage& message : messages) {
    sequences.push_back(Prepare(message, NLM_F_ACK));
    nlmsghdr* header = message.header();
    bytes.append(reinterpret_cast<char*>(header), header->nlmsg_len);
    bytes.resize(NLMSG_ALIGN(bytes.size()));
  }
  TRY(Send(bytes, messages.front().what()));
  size_t answered = 0;
  Result<> first;
  while (answered < messages.size()) {
    std::span<char> datagram = TRY(Receive(messages[answered].what()));
    int left = static_cast<int>(datagram.size());
    for (auto* header = reinterpret_cast<nlmsghdr*>(datagram.data()); nlmsg_ok(header, left);
         header = nlmsg_next(header, &left)) {
      // Late answers to an earlier request that timed out have other sequence numbers.
      if (header->nlmsg_type != NLMSG_ERROR || answered == messages.size() ||
          header->nlmsg_seq != sequences[answered]) {
        continue;
      }
      Result<> result = AckResult(header, messages[answered].what());
      if (first.ok() && !result.ok()) first = std::move(result);
      ++answered;
    }
  }
  return first;
}

Result<> NetlinkSocket::Query(NetlinkMessage& message, const std::function<void(nlmsghdr*)>& each) {
  for (int attempt = 0; attempt < kListingTries; ++attempt) {
    if (TRY(QueryOnce(message, each))) return {};
  }
  return Error(Code::kUnavailable, message.what() + ": the listing keeps changing");
}

// False: the listing was interrupted by a change and has to be read again.
Result<bool> NetlinkSocket::QueryOnce(NetlinkMessage& message,
                                      const std::function<void(nlmsghdr*)>& each) {
  bool listing = (message.header()->nlmsg_flags & NLM_F_DUMP) == NLM_F_DUMP;
  uint32_t sequence = Prepare(message, listing ? 0 : NLM_F_ACK);
  nlmsghdr* request = message.header();
  TRY(Send({reinterpret_cast<char*>(request), request->nlmsg_len}, message.what()));
  bool consistent = true;
  for (;;) {
    std::span<char> datagram = TRY(Receive(message.what()));
    int left = static_cast<int>(datagram.size());
    for (auto* header = reinterpret_cast<nlmsghdr*>(datagram.data()); nlmsg_ok(header, left);
         header = nlmsg_next(header, &left)) {
      if (header->nlmsg_seq != sequence) continue;
      if ((header->nlmsg_flags & NLM_F_DUMP_INTR) != 0) consistent = false;
      if (header->nlmsg_type == NLMSG_DONE) {
        // A listing may end with an error in the place of its data.
        int error = nlmsg_datalen(header) >= 4 ? -*static_cast<int*>(nlmsg_data(header)) : 0;
        if (error > 0) return Error::Sys(error, message.what());
        return consistent;
      }
      if (header->nlmsg_type == NLMSG_ERROR) {
        TRY(AckResult(header, message.what()));
        return consistent;
      }
      each(header);
    }
  }
}

const void* AttributeData(nlattr* attribute, size_t size) {
  if (attribute == nullptr || static_cast<size_t>(nla_len(attribute)) < size) return nullptr;
  return nla_data(attribute);
}

}  // namespace skiff::net

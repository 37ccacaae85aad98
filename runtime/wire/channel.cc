#include "runtime/wire/channel.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/failpoint.h"
#include "base/os/files.h"

namespace skiff::runtime {
namespace {

constexpr uint16_t kMagic = 0x4b53;  // "SK"
constexpr int kSealAttempts = 20;

struct Header {
  uint16_t magic;
  uint16_t type;
  uint32_t request;
};

// Room for the descriptors of one message, aligned as cmsg(3) asks.
union ControlBuffer {
  cmsghdr align;
  char bytes[CMSG_SPACE(kMessageFdLimit * sizeof(int))];
};

void TakeDescriptors(msghdr& message, std::vector<UniqueFd>& fds) {
  for (cmsghdr* part = CMSG_FIRSTHDR(&message); part; part = CMSG_NXTHDR(&message, part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) continue;
    size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int fd;
      std::memcpy(&fd, CMSG_DATA(part) + i * sizeof fd, sizeof fd);
      fds.emplace_back(fd);
    }
  }
}

}  // namespace

Result<> SendMessage(int socket, uint16_t type, uint32_t request, std::string_view body,
                     const std::vector<int>& fds) {
  TRY(failpoint::Reach("send message"));
  if (body.size() > kMessageLimitBytes - sizeof(Header) || fds.size() > kMessageFdLimit) {
    return Error(Code::kResourceExhausted, "message too long");
  }
  Header header{kMagic, type, request};
  iovec parts[2] = {{&header, sizeof header}, {const_cast<char*>(body.data()), body.size()}};
  msghdr message{};
  message.msg_iov = parts;
  message.msg_iovlen = 2;
  ControlBuffer control{};
  if (!fds.empty()) {
    message.msg_control = control.bytes;
    message.msg_controllen = CMSG_SPACE(fds.size() * sizeof(int));
    cmsghdr* part = CMSG_FIRSTHDR(&message);
    part->cmsg_level = SOL_SOCKET;
    part->cmsg_type = SCM_RIGHTS;
    part->cmsg_len = CMSG_LEN(fds.size() * sizeof(int));
    std::memcpy(CMSG_DATA(part), fds.data(), fds.size() * sizeof(int));
  }
  ssize_t sent;
  do {
    sent = ::sendmsg(socket, &message, MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  if (sent < 0) return Error::Sys(errno, "sendmsg");
  return {};
}

Result<std::optional<Message>> ReceiveMessage(int socket) {
  static thread_local char buffer[kMessageLimitBytes];
  iovec part{buffer, sizeof buffer};
  msghdr received{};
  ControlBuffer control{};
  received.msg_iov = &part;
  received.msg_iovlen = 1;
  received.msg_control = control.bytes;
  received.msg_controllen = sizeof control.bytes;
  ssize_t got;
  do {
    got = ::recvmsg(socket, &received, MSG_CMSG_CLOEXEC);
  } while (got < 0 && errno == EINTR);
  if (got < 0) {
    // A peer that died with unread data in its queue: as good as the end of the stream.
    if (errno == ECONNRESET) return std::optional<Message>();
    return Error::Sys(errno, "recvmsg");
  }
  Message message;
  TakeDescriptors(received, message.fds);
  if (got == 0) return std::optional<Message>();
  Header header;
  if (static_cast<size_t>(got) < sizeof header || (received.msg_flags & (MSG_TRUNC | MSG_CTRUNC))) {
    return Error(Code::kDataLoss, "truncated message");
  }
  std::memcpy(&header, buffer, sizeof header);
  if (header.magic != kMagic) return Error(Code::kDataLoss, "not a message of ours");
  message.type = header.type;
  message.request = header.request;
  message.body.assign(buffer + sizeof header, static_cast<size_t>(got) - sizeof header);
  return std::optional<Message>(std::move(message));
}

Result<SocketPair> MakeSocketPair() {
  TRY(failpoint::Reach("make socket pair"));
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) {
    return Error::Sys(errno, "socketpair");
  }
  return SocketPair{UniqueFd(ends[0]), UniqueFd(ends[1])};
}

Result<UniqueFd> SealBytes(const char* name, std::string_view bytes) {
  TRY(failpoint::Reach("make memfd", name));
  UniqueFd fd(::memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd) return Error::Sys(errno, "memfd_create", name);
  TRY(WriteAll(fd.get(), bytes).With(name));
  int seals = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;
  // EBUSY: some part of the kernel looks at a page of it, as reclaim does. Each attempt waits for
  // that to end, for a tenth of a second at most.
  for (int attempt = 0; ::fcntl(fd.get(), F_ADD_SEALS, seals) != 0; ++attempt) {
    if (errno != EBUSY || attempt == kSealAttempts) {
      return Error::Sys(errno, "fcntl F_ADD_SEALS", name);
    }
  }
  return fd;
}

Result<std::string> ReadSealed(int fd, size_t limit_bytes) {
  struct stat info;
  if (::fstat(fd, &info) != 0) return Error::Sys(errno, "fstat", "memfd");
  if (static_cast<size_t>(info.st_size) > limit_bytes) {
    return Error(Code::kResourceExhausted, "memfd too long");
  }
  std::string bytes(static_cast<size_t>(info.st_size), '\0');
  size_t at = 0;
  while (at < bytes.size()) {
    ssize_t got = ::pread(fd, bytes.data() + at, bytes.size() - at, static_cast<off_t>(at));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return Error::Sys(errno, "pread", "memfd");
    if (got == 0) return Error(Code::kDataLoss, "memfd shorter than it says");
    at += static_cast<size_t>(got);
  }
  return bytes;
}

}  // namespace skiff::runtime

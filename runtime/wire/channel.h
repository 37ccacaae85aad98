// Channel: typed messages with descriptors over a unix socket of type SOCK_SEQPACKET, between
// daemon and shim and between shim and init.
//
// Functions over a raw descriptor; the socket's owner decides on blocking. What does not fit into
// a message (a container's spec) travels as a sealed memfd beside it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/os/unique_fd.h"
#include "base/result.h"

namespace skiff::runtime {

constexpr size_t kMessageLimitBytes = 64 << 10;
constexpr size_t kMessageFdLimit = 8;

struct Message {
  uint16_t type = 0;
  uint32_t request = 0;  // a reply carries the number of its request; 0: an event
  std::string body;
  std::vector<UniqueFd> fds;
};

// Sends one message; descriptors are duplicated into it. Unavailable (EPIPE) when the peer is gone.
Result<> SendMessage(int socket, uint16_t type, uint32_t request, std::string_view body,
                     const std::vector<int>& fds = {});
// The next message; nothing at the end of the stream. On a non-blocking socket without a message:
// an error with sys_errno() EAGAIN. DataLoss for what is no message.
Result<std::optional<Message>> ReceiveMessage(int socket);

struct SocketPair {
  UniqueFd ours;
  UniqueFd theirs;
};
Result<SocketPair> MakeSocketPair();

// A memfd that holds the bytes and can be changed by nobody (fcntl(2), file sealing).
Result<UniqueFd> SealBytes(const char* name, std::string_view bytes);
// All of such a memfd, from its start; at most limit_bytes.
Result<std::string> ReadSealed(int fd, size_t limit_bytes = 16 << 20);

}  // namespace skiff::runtime

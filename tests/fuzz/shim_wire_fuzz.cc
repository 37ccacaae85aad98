// What comes over a shim's socket: a datagram of any bytes is a message or an error, and its body
// is one of its type's or is refused.
#include <sys/socket.h>

#include <cstdint>

#include "runtime/launch/launch_spec.h"
#include "runtime/wire/archive.h"
#include "runtime/wire/channel.h"
#include "runtime/wire/messages.h"

namespace {

using namespace skiff::runtime;

template <class T>
void Try(std::string_view body) {
  auto value = Decode<T>(body);
  if (!value.ok()) return;
  // What was understood is written so that it is understood as the same.
  std::string written = Encode(*value);
  auto again = Decode<T>(written);
  CHECK(again.ok());
  CHECK(Encode(*again) == written);
}

void TryBody(uint16_t type, std::string_view body) {
  switch (type) {
    case kHello: return Try<ShimHello>(body);
    case kStartPause: return Try<StartPause>(body);
    case kCreateContainer: return Try<CreateContainerRequest>(body);
    case kStartContainer:
    case kReopenLog:
    case kForgetContainer:
    case kShutdown: return Try<ContainerRef>(body);
    case kSignalContainer: return Try<SignalContainerRequest>(body);
    case kStartExec: return Try<StartExec>(body);
    case kAttach: return Try<AttachRequest>(body);
    case kResizeTerminal: return Try<ResizeTerminalRequest>(body);
    case kShimError: return Try<ShimFailure>(body);
    case kStarted: return Try<Started>(body);
    case kHelloReply: return Try<HelloReply>(body);
    case kContainerState:
    case kContainerExited: return Try<ContainerReport>(body);
    case kExecExited: return Try<ExecExited>(body);
    case kPauseExited: return Try<PauseExited>(body);
    default: return;
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const SocketPair pair = MakeSocketPair().value();
  if (size == 0 || size > kMessageLimitBytes + 1) return 0;  // an empty datagram is the end
  if (::send(pair.theirs.get(), data, size, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) return 0;
  const auto message = ReceiveMessage(pair.ours.get());
  if (message.ok()) TryBody((*message)->type, (*message)->body);
  return 0;
}

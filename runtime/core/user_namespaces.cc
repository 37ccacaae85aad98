// User namespaces, by way of skiff-init: a threaded process cannot make them.

#include <signal.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <cerrno>

#include "base/os/files.h"
#include "base/os/spawn.h"
#include "base/random.h"
#include "runtime/core/runtime_impl.h"
#include "runtime/launch/launch_spec.h"

namespace skiff::runtime {
namespace {

constexpr std::chrono::seconds kPatience{20};

// Runs skiff-init for a LaunchKind that becomes no program.
Result<> RunInit(const ShimPrograms& programs, LaunchSpec launch) {
  UniqueFd sealed = TRY(SealBytes("skiff-launch", Encode(launch)));
  SocketPair pair = TRY(MakeSocketPair());
  timeval patience{.tv_sec = kPatience.count(), .tv_usec = 0};
  if (::setsockopt(pair.ours.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) != 0) {
    return Error::Sys(errno, "setsockopt");
  }
  SpawnRequest request;
  request.path =
      "/proc/" + std::to_string(::getpid()) + "/fd/" + std::to_string(programs.init.get());
  request.argv = {"skiff-init"};
  request.fds = {{sealed.get(), kLaunchSpecFd}, {pair.theirs.get(), kLaunchSocketFd}};
  request.working_directory = "/";
  PidRef process = TRY(Spawn(request).With("skiff-init"));
  pair.theirs.Reset();
  Result<std::optional<Message>> answer = ReceiveMessage(pair.ours.get());
  if (!answer.ok()) (void)process.Signal(SIGKILL);  // it does not answer
  (void)process.Reap();                             // the answer is what counts
  const std::optional<Message> said = TRY(std::move(answer));
  if (!said) return Error(Code::kInternal, "skiff-init ended without an answer");
  const Message& message = *said;
  if (message.type == kLaunchReady) return {};
  if (message.type != kLaunchFailed) return Error(Code::kInternal, "skiff-init: damaged answer");
  return LaunchError(TRY(Decode<LaunchFailure>(message.body)));
}

}  // namespace

Result<> RuntimeImpl::PinUserNamespace(const SandboxRecord& record) {
  LaunchSpec launch;
  launch.kind = LaunchKind::kNamespaces;
  launch.user_namespace = record.spec.user_namespace;
  launch.userns_path = record.userns_path;
  launch.netns_path = record.netns_path;
  return RunInit(programs_, std::move(launch));
}

Result<> RuntimeImpl::CheckUserNamespaces(const std::string& directory) const {
  const std::string work = directory + "/userns-probe-" + RandomHex(8);
  Result<> probed = ProbeUserNamespaces(work);
  (void)RemoveTree(work);  // empty directories, no harm where they stay
  return std::move(probed).With("user namespaces");
}

Result<> RuntimeImpl::ProbeUserNamespaces(const std::string& work) const {
  for (const char* name : {"/lower", "/layer/upper", "/layer/work", "/scratch"}) {
    TRY(MakeDirectories(work + name));
  }
  constexpr uint32_t kFirst = 1 << 16, kLength = 1 << 16;  // any will do
  LaunchSpec launch;
  launch.kind = LaunchKind::kProbe;
  launch.user_namespace = {.uids = {{0, kFirst, kLength}}, .gids = {{0, kFirst, kLength}}};
  launch.new_pid_namespace = true;
  launch.scratch_dir = work + "/scratch";
  launch.overlay_single_layers = overlay_single_layers_;
  launch.container.rootfs = {.lower_dirs = {work + "/lower"}, .writable_dir = work + "/layer"};
  return RunInit(programs_, std::move(launch));
}

}  // namespace skiff::runtime

// The agent's side of CRI: the runtime's generated stubs behind blocking calls that return Results.
//
// The only place of the agent that knows gRPC status codes and how runtimes spell their answers.
// The stubs are in-process objects or channels to another runtime's socket.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "agent/pods/observed.h"
#include "base/result.h"

namespace runtime::v1 {
class ContainerConfig;
class PodSandboxConfig;
}  // namespace runtime::v1

namespace skiff::agent {

// The pair of stubs; made by the adapters below, opaque elsewhere.
struct CriStubs;
// Dials a runtime's socket, e.g. "unix:///run/containerd/containerd.sock". Does not wait.
std::shared_ptr<CriStubs> DialCri(const std::string& endpoint);

// Labels and annotations that kubelets write and every tool reads.
namespace labels {
inline constexpr char kPodName[] = "io.kubernetes.pod.name";
inline constexpr char kPodNamespace[] = "io.kubernetes.pod.namespace";
inline constexpr char kPodUid[] = "io.kubernetes.pod.uid";
inline constexpr char kContainerName[] = "io.kubernetes.container.name";
inline constexpr char kContainerHash[] = "io.kubernetes.container.hash";
inline constexpr char kRestartCount[] = "io.kubernetes.container.restartCount";
inline constexpr char kMessagePath[] = "io.kubernetes.container.terminationMessagePath";
inline constexpr char kMessagePolicy[] = "io.kubernetes.container.terminationMessagePolicy";
inline constexpr char kGracePeriod[] = "io.kubernetes.pod.terminationGracePeriod";
}  // namespace labels

struct PodIdentity {
  std::string uid;
  std::string name_space;
  std::string name;
  bool operator==(const PodIdentity&) const = default;
  auto operator<=>(const PodIdentity&) const = default;
};

struct RuntimeVersion {
  std::string name;
  std::string version;
};

struct RuntimeCondition {
  std::string type;  // "RuntimeReady", "NetworkReady"
  bool status = false;
  std::string reason;
  std::string message;
};

// What pods of a runtime handler may ask for; "" is the default handler.
struct RuntimeHandlerFeatures {
  std::string name;
  bool user_namespaces = false;
  bool recursive_read_only_mounts = false;
};

struct RuntimeStatus {
  std::vector<RuntimeCondition> conditions;
  std::vector<RuntimeHandlerFeatures> handlers;  // none: the runtime does not tell
  bool supplemental_groups_policy = false;
};

struct ImageInfo {
  std::string id;
  uint64_t size_bytes = 0;
  std::optional<int64_t> uid;  // of the image's user, when numeric
  std::string username;
  std::vector<std::string> names;  // digests, then tags
};

struct RegistryAuth {
  std::string username;
  std::string password;
  std::string auth;  // base64 of "user:password", instead of the two
  std::string server_address;
  std::string identity_token;
  std::string registry_token;
};

struct ExecOutput {
  std::string out;
  std::string err;
  int exit_code = 0;
};

struct ExecWish {
  std::string container_id;
  std::vector<std::string> command;  // empty: attach
  bool in = false;
  bool out = false;
  bool err = false;
  bool tty = false;
};

// Thread-safe; every call blocks for at most its deadline. Stop and Remove calls succeed for what
// is gone. Errors: the runtime's code and words; UnknownOutcome never: all calls are idempotent or
// followed by an observation.
class CriClient {
 public:
  explicit CriClient(std::shared_ptr<CriStubs> stubs);
  ~CriClient();

  Result<RuntimeVersion> Version();
  Result<RuntimeStatus> Status();

  // Every pod that has a sandbox or a container.
  Result<std::vector<PodIdentity>> ListPods();
  Result<ObservedPod> Observe(const std::string& pod_uid);
  // A text for each pod that changes whenever a sandbox or container of it does.
  Result<std::map<std::string, std::string>> Fingerprints();

  Result<std::string> RunSandbox(const ::runtime::v1::PodSandboxConfig& config,
                                 const std::string& handler);
  Result<> StopSandbox(const std::string& id);
  Result<> RemoveSandbox(const std::string& id);

  Result<std::string> CreateContainer(const std::string& sandbox_id,
                                      const ::runtime::v1::ContainerConfig& config,
                                      const ::runtime::v1::PodSandboxConfig& sandbox_config);
  Result<> StartContainer(const std::string& id);
  // SIGTERM (or the image's stop signal), and SIGKILL after the grace.
  Result<> StopContainer(const std::string& id, std::chrono::seconds grace);
  Result<> RemoveContainer(const std::string& id);

  // Nothing when the image is not on the node.
  Result<std::optional<ImageInfo>> FindImage(const std::string& image);
  // Tries the credentials in turn (none: anonymously). The image's reference.
  Result<std::string> PullImage(const std::string& image, const std::vector<RegistryAuth>& auths,
                                const ::runtime::v1::PodSandboxConfig& sandbox_config);
  Result<std::vector<ImageInfo>> ListImages();
  // Bytes that images use on disk.
  Result<uint64_t> ImageBytes();

  Result<ExecOutput> ExecSync(const std::string& container_id,
                              const std::vector<std::string>& command,
                              std::chrono::seconds timeout);
  // Streaming URLs for base/streaming's client.
  Result<std::string> StreamingUrl(const ExecWish& wish);
  Result<std::string> PortForwardUrl(const std::string& sandbox_id, const std::vector<int>& ports);
  Result<> ReopenLog(const std::string& container_id);

  // Calls on_event with a pod's uid whenever something of it changed, until Cancel or the stream
  // ends. on_open: once the stream is up, i.e. from here on nothing is missed. Unimplemented: the
  // runtime has no events. For a thread of its own.
  Result<> WatchEvents(const std::function<void()>& on_open,
                       const std::function<void(const std::string& pod_uid)>& on_event);
  // Ends WatchEvents, now and for ever. Idempotent.
  void CancelWatch();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace skiff::agent

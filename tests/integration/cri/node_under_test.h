// NodeUnderTest: the CRI server as a process of its own (skiff-cri-under-test) below one directory,
// to be killed and started again; and a registry with one image. An agent.yaml in the directory is
// its configuration.
#pragma once

// clang-format off: first, since <signal.h> has macros named as CRI's signals.
#include "proto/cri/runtime/v1/api.grpc.pb.h"
// clang-format on

#include <grpcpp/grpcpp.h>

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <source_location>
#include <string>
#include <vector>

#include "base/os/files.h"
#include "base/os/pidref.h"
#include "runtime/image/testing/fake_registry.h"
#include "tests/support/failpoints.h"
#include "tests/support/leak_check.h"

namespace skiff::test {

namespace api = ::runtime::v1;

class NodeUnderTest {
 public:
  explicit NodeUnderTest(std::string root);
  ~NodeUnderTest();

  // Starts the server and waits until it serves; fails the test where it does not.
  void Start();
  void Kill();  // -9
  void Stop();  // SIGTERM
  // Whether the server runs; one that has died is reaped.
  bool alive();
  // Starts the server again where it has died.
  void Revive();
  pid_t pid() const { return server_ ? server_->pid() : 0; }

  api::RuntimeService::Stub& runtime() { return *runtime_; }
  api::ImageService::Stub& images() { return *images_; }
  FailpointPlan& failpoints() { return *failpoints_; }
  const std::string& root() const { return root_; }
  std::string image() const { return registry_.host() + "/test/app:1"; }
  // What the server has said on its standard error so far.
  std::string Log() const;

  // This process's: a server removes what it has no record of below its own.
  const std::string& cgroup() const { return cgroup_; }
  static constexpr const char* kProgram = "skiff-cri-under-test";

 private:
  void Connect();

  const std::string root_;
  const std::string cgroup_;
  runtime::testing::FakeRegistry registry_;
  FailpointPlan* const failpoints_;
  std::optional<PidRef> server_;
  int starts_ = 0;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<api::RuntimeService::Stub> runtime_;
  std::unique_ptr<api::ImageService::Stub> images_;
};

// Empty: it succeeded.
std::string Text(const grpc::Status& status);
// A failed test with the line of the caller where the call failed.
void ExpectOk(const grpc::Status& status,
              std::source_location where = std::source_location::current());
// Until the condition holds; false where it does not in time.
bool Eventually(const std::function<bool()>& condition,
                std::chrono::milliseconds patience = std::chrono::seconds(10));
// iptables-save, without what differs from call to call.
std::string Rules();
// What a node must not leave behind: all but connections and the server itself.
LeakScope NodeScope(const NodeUnderTest& node);
// Until the interfaces of removed pods, which go a moment after their pods, are gone: what is there
// then is what a later leak check may compare with. False where they stay.
bool InterfacesSettled(const NodeUnderTest& node);

// A unary call with a deadline, the answer thrown away or kept.
template <class Stub, class Request, class Response>
grpc::Status Call(Stub& stub,
                  grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&, Response*),
                  const Request& request, Response* response,
                  std::chrono::milliseconds deadline = std::chrono::seconds(60)) {
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + deadline);
  return (stub.*method)(&context, request, response);
}

// One pod with one container, and the calls that take it through its life. Ids are kept from the
// answers; a request is the same however often it is sent.
class PodClient {
 public:
  explicit PodClient(NodeUnderTest& node, std::string name = "pod")
      : node_(&node), name_(std::move(name)) {}

  grpc::Status Pull();
  grpc::Status RemoveImage();
  grpc::Status RunSandbox(std::chrono::milliseconds deadline = std::chrono::seconds(60));
  grpc::Status CreateContainer();
  grpc::Status StartContainer();
  grpc::Status Exec();
  grpc::Status StopContainer(int64_t timeout_seconds = 5);
  grpc::Status RemoveContainer();
  grpc::Status StopSandbox();
  grpc::Status RemoveSandbox();

  api::RunPodSandboxRequest SandboxRequest() const;
  api::CreateContainerRequest ContainerRequest() const;
  // What the server lists; empty ones where it fails.
  std::vector<api::PodSandbox> Sandboxes();
  std::vector<api::Container> Containers();
  bool HasImage();
  std::string Address();
  bool SandboxIsReady();
  api::ContainerState ContainerState();

  // Of pause, and of the container's first process; 0: none.
  pid_t PausePid();
  pid_t ContainerPid();
  grpc::Status Stats();  // of all containers

  // The next requests are of another attempt, as kubelet's are after the loss of a pod.
  void NextSandboxAttempt() { ++sandbox_attempt_; }
  void NextContainerAttempt() { ++container_attempt_; }
  void Forget() { Adopt("", ""); }
  void Adopt(std::string sandbox, std::string container) {
    sandbox_ = std::move(sandbox);
    container_ = std::move(container);
  }
  void set_command(std::vector<std::string> command) { command_ = std::move(command); }
  void set_host_port(int port) { host_port_ = port; }
  void set_stdin(bool open) { stdin_ = open; }  // the container's own
  void set_user_namespace(bool own) { user_namespace_ = own; }
  void set_handler(std::string name) { handler_ = std::move(name); }
  const std::string& sandbox() const { return sandbox_; }
  const std::string& container() const { return container_; }
  const std::string& name() const { return name_; }

 private:
  NodeUnderTest* node_;
  std::string name_;
  std::string sandbox_, container_;
  uint32_t sandbox_attempt_ = 0, container_attempt_ = 0;
  int host_port_ = 0;
  bool stdin_ = false;
  bool user_namespace_ = false;
  std::string handler_;
  // Ends at once when it is told to.
  std::vector<std::string> command_ = {"/bin/busybox", "sh", "-c",
                                       "trap 'exit 0' TERM; sleep 1000 & wait"};
};

}  // namespace skiff::test

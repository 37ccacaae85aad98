#include "tests/integration/cri/node_under_test.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <thread>

#include "base/net/rtnl.h"
#include "base/os/spawn.h"

namespace skiff::test {
namespace {

// Before the first thread: this program's mounts and network are its own.
class OwnNamespaces : public ::testing::Environment {
 public:
  void SetUp() override {
    CHECK(::geteuid() == 0);
    CHECK(::unshare(CLONE_NEWNS | CLONE_NEWNET) == 0);
    CHECK(::mount(nullptr, "/", nullptr, MS_PRIVATE | MS_REC, nullptr) == 0);
    // The lock file of legacy iptables is machine-wide otherwise.
    CHECK(::mount("tmpfs", "/run", "tmpfs", MS_NOSUID | MS_NODEV, "size=16m") == 0);
    net::Rtnl node = net::Rtnl::Open().value();
    CHECK(node.Apply(net::rtnl::SetUp(node.LinkIndex("lo").value(), true)).ok());
    ::signal(SIGPIPE, SIG_IGN);
  }
};
const auto* const kOwnNamespaces = ::testing::AddGlobalTestEnvironment(new OwnNamespaces);

runtime::testing::BuiltImage AppImage() {
  runtime::testing::TarBuilder base, top;
  base.Directory("bin").File("bin/busybox", ReadFile("/bin/busybox").value(), 0755);
  top.Directory("srv").File("srv/data", "of the image\n");
  return runtime::testing::BuildImage({base.Finish(), top.Finish()},
                                      runtime::testing::Packing::kGzip);
}

void SetUserNamespace(api::NamespaceOption* options) {
  api::UserNamespace& own = *options->mutable_userns_options();
  own.set_mode(api::POD);
  for (api::IDMapping* mapping : {own.add_uids(), own.add_gids()}) {
    mapping->set_host_id(1 << 17);
    mapping->set_length(1 << 16);
  }
}

// Of the status's verbose part, which is JSON.
pid_t PidIn(const std::string& info) {
  constexpr std::string_view kKey = "\"pid\":";
  size_t at = info.find(kKey);
  return at == std::string::npos ? 0 : std::atoi(info.c_str() + at + kKey.size());
}

}  // namespace

NodeUnderTest::NodeUnderTest(std::string root)
    : root_(std::move(root)),
      cgroup_("/skiff-cri-loops-" + std::to_string(::getpid())),
      failpoints_(MapFailpointPlan(root_ + "/failpoints")) {
  static const runtime::testing::BuiltImage image = AppImage();
  registry_.Add("test/app", "1", image);
}

NodeUnderTest::~NodeUnderTest() {
  failpoints_->Off();
  if (alive()) Stop();
  for (const std::string& hierarchy : ListSubdirectories("/sys/fs/cgroup").value_or({})) {
    (void)::rmdir(("/sys/fs/cgroup/" + hierarchy + cgroup_).c_str());  // what is in use stays
  }
  (void)::rmdir(("/sys/fs/cgroup" + cgroup_).c_str());
}

void NodeUnderTest::Connect() {
  grpc::ChannelArguments arguments;
  // A channel of its own for each server: no back-off is inherited from the last one.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  channel_ = grpc::CreateCustomChannel("unix://" + root_ + "/skiff.sock",
                                       grpc::InsecureChannelCredentials(), arguments);
  runtime_ = api::RuntimeService::NewStub(channel_);
  images_ = api::ImageService::NewStub(channel_);
}

void NodeUnderTest::Start() {
  Pipe out = MakePipe().value();
  UniqueFd log = OpenFile(root_ + "/server.log", O_WRONLY | O_CREAT | O_APPEND).value();
  SpawnRequest request;
  request.path = std::string(SKIFF_TEST_BINARY_DIR "/") + kProgram;
  request.argv = {kProgram,
                  "--root",
                  root_,
                  "--binaries",
                  SKIFF_TEST_BINARY_DIR "/failing",
                  "--cgroup-parent",
                  cgroup_,
                  "--config",
                  root_ + "/agent.yaml"};
  request.env = {FailpointVariable(root_ + "/failpoints"), "PATH=/usr/sbin:/usr/bin:/sbin:/bin"};
  request.fds = {{out.write_end.get(), 1}, {log.get(), 2}};
  server_.emplace(Spawn(request).value());
  out.write_end.Reset();
  char word[16] = {};
  ssize_t got = ::read(out.read_end.get(), word, sizeof word - 1);
  ASSERT_GT(got, 0) << "the server does not start: " << Log();
  ASSERT_EQ(std::string(word), "ready\n");
  Connect();
}

bool NodeUnderTest::alive() {
  if (!server_) return false;
  if (!server_->WaitEnd(std::chrono::milliseconds(0)).value_or(false)) return true;
  (void)server_->Reap();  // how it ended is known
  server_.reset();
  return false;
}

void NodeUnderTest::Revive() {
  if (!alive()) Start();
}

void NodeUnderTest::Kill() {
  (void)server_->Signal(SIGKILL);  // it may have ended meanwhile
  EXPECT_TRUE(server_->WaitEnd(std::chrono::seconds(10)).value_or(false));
  EXPECT_FALSE(alive());
}

void NodeUnderTest::Stop() {
  (void)server_->Signal(SIGTERM);  // it may have ended meanwhile
  EXPECT_TRUE(server_->WaitEnd(std::chrono::seconds(40)).value_or(false)) << "the server hangs";
  if (alive()) Kill();
}

std::string NodeUnderTest::Log() const { return ReadFile(root_ + "/server.log").value_or(""); }

std::string Text(const grpc::Status& status) {
  if (status.ok()) return "";
  return std::to_string(status.error_code()) + " " + status.error_message();
}

void ExpectOk(const grpc::Status& status, std::source_location where) {
  if (!status.ok()) ADD_FAILURE_AT(where.file_name(), where.line()) << Text(status);
}

bool Eventually(const std::function<bool()>& condition, std::chrono::milliseconds patience) {
  auto deadline = std::chrono::steady_clock::now() + patience;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::sleep_for(
        std::chrono::milliseconds(2));  // tidy: another process has no event here
  }
  return true;
}

std::string Rules() {
  SpawnRequest request{.path = "/usr/sbin/iptables-save", .argv = {"iptables-save"}};
  std::string text = RunProgram(request).value().out;
  std::string rules;
  // Comments hold the time, chain heads the counters.
  for (size_t at = 0; at < text.size();) {
    size_t end = std::min(text.find('\n', at), text.size());
    std::string line = text.substr(at, end - at);
    at = end + 1;
    if (!line.starts_with('#')) rules += line.substr(0, line.find(" [")) + "\n";
  }
  return rules;
}

LeakScope NodeScope(const NodeUnderTest& node) {
  LeakScope scope;
  scope.cgroups = {node.cgroup()};
  for (const char* part : {"/cri", "/runtime", "/netns", "/network", "/images", "/cni"}) {
    scope.directories.push_back(node.root() + part);
  }
  scope.ignored_processes = {std::string(NodeUnderTest::kProgram).substr(0, 15),  // proc(5): comm
                             "skiff-seed"};
  scope.descriptors = false;
  return scope;
}

bool InterfacesSettled(const NodeUnderTest& node) {
  return Eventually([&node] {
    std::error_code ignored;  // files go while they are listed
    for (std::filesystem::recursive_directory_iterator at(node.root() + "/network", ignored), end;
         at != end; at.increment(ignored)) {
      if (at->path().extension() == ".retired") return false;
    }
    return true;
  });
}

api::RunPodSandboxRequest PodClient::SandboxRequest() const {
  api::RunPodSandboxRequest request;
  api::PodSandboxConfig& config = *request.mutable_config();
  config.mutable_metadata()->set_name(name_);
  config.mutable_metadata()->set_namespace_("loops");
  config.mutable_metadata()->set_uid("uid-of-" + name_);
  config.mutable_metadata()->set_attempt(sandbox_attempt_);
  config.set_hostname(name_);
  config.set_log_directory(node_->root() + "/logs/" + name_);
  request.set_runtime_handler(handler_);
  if (user_namespace_) {
    SetUserNamespace(
        config.mutable_linux()->mutable_security_context()->mutable_namespace_options());
  }
  if (host_port_ == 0) return request;
  for (api::Protocol protocol : {api::TCP, api::UDP}) {
    api::PortMapping& port = *config.add_port_mappings();
    port.set_protocol(protocol);
    port.set_host_port(host_port_);
    port.set_container_port(80);
  }
  return request;
}

api::CreateContainerRequest PodClient::ContainerRequest() const {
  api::CreateContainerRequest request;
  request.set_pod_sandbox_id(sandbox_);
  *request.mutable_sandbox_config() = SandboxRequest().config();
  api::ContainerConfig& config = *request.mutable_config();
  config.mutable_metadata()->set_name("app");
  config.mutable_metadata()->set_attempt(container_attempt_);
  config.mutable_image()->set_image(node_->image());
  for (const std::string& word : command_) config.add_command(word);
  config.set_log_path("app.log");
  config.set_stdin(stdin_);
  if (user_namespace_) {
    SetUserNamespace(
        config.mutable_linux()->mutable_security_context()->mutable_namespace_options());
  }
  config.mutable_linux()->mutable_resources()->set_cpu_shares(512);
  config.mutable_linux()->mutable_resources()->set_memory_limit_in_bytes(64 << 20);
  return request;
}

grpc::Status PodClient::Pull() {
  api::PullImageRequest request;
  request.mutable_image()->set_image(node_->image());
  api::PullImageResponse response;
  return Call(node_->images(), &api::ImageService::Stub::PullImage, request, &response);
}

grpc::Status PodClient::RemoveImage() {
  api::RemoveImageRequest request;
  request.mutable_image()->set_image(node_->image());
  api::RemoveImageResponse response;
  return Call(node_->images(), &api::ImageService::Stub::RemoveImage, request, &response);
}

grpc::Status PodClient::RunSandbox(std::chrono::milliseconds deadline) {
  api::RunPodSandboxResponse response;
  grpc::Status status = Call(node_->runtime(), &api::RuntimeService::Stub::RunPodSandbox,
                             SandboxRequest(), &response, deadline);
  if (status.ok()) sandbox_ = response.pod_sandbox_id();
  return status;
}

grpc::Status PodClient::CreateContainer() {
  api::CreateContainerResponse response;
  grpc::Status status = Call(node_->runtime(), &api::RuntimeService::Stub::CreateContainer,
                             ContainerRequest(), &response);
  if (status.ok()) container_ = response.container_id();
  return status;
}

grpc::Status PodClient::StartContainer() {
  api::StartContainerRequest request;
  request.set_container_id(container_);
  api::StartContainerResponse response;
  return Call(node_->runtime(), &api::RuntimeService::Stub::StartContainer, request, &response);
}

grpc::Status PodClient::Exec() {
  api::ExecSyncRequest request;
  request.set_container_id(container_);
  for (const char* word : {"/bin/busybox", "cat", "/srv/data"}) request.add_cmd(word);
  request.set_timeout(20);
  api::ExecSyncResponse response;
  grpc::Status status =
      Call(node_->runtime(), &api::RuntimeService::Stub::ExecSync, request, &response);
  if (status.ok() && (response.exit_code() != 0 || response.stdout() != "of the image\n")) {
    return {grpc::StatusCode::DATA_LOSS, "exit code " + std::to_string(response.exit_code()) +
                                             ": " + response.stdout() + response.stderr()};
  }
  return status;
}

grpc::Status PodClient::StopContainer(int64_t timeout_seconds) {
  api::StopContainerRequest request;
  request.set_container_id(container_);
  request.set_timeout(timeout_seconds);
  api::StopContainerResponse response;
  return Call(node_->runtime(), &api::RuntimeService::Stub::StopContainer, request, &response);
}

grpc::Status PodClient::RemoveContainer() {
  api::RemoveContainerRequest request;
  request.set_container_id(container_);
  api::RemoveContainerResponse response;
  return Call(node_->runtime(), &api::RuntimeService::Stub::RemoveContainer, request, &response);
}

grpc::Status PodClient::StopSandbox() {
  api::StopPodSandboxRequest request;
  request.set_pod_sandbox_id(sandbox_);
  api::StopPodSandboxResponse response;
  return Call(node_->runtime(), &api::RuntimeService::Stub::StopPodSandbox, request, &response);
}

grpc::Status PodClient::RemoveSandbox() {
  api::RemovePodSandboxRequest request;
  request.set_pod_sandbox_id(sandbox_);
  api::RemovePodSandboxResponse response;
  return Call(node_->runtime(), &api::RuntimeService::Stub::RemovePodSandbox, request, &response);
}

std::vector<api::PodSandbox> PodClient::Sandboxes() {
  api::ListPodSandboxResponse response;
  (void)Call(node_->runtime(), &api::RuntimeService::Stub::ListPodSandbox,
             api::ListPodSandboxRequest(), &response);
  return {response.items().begin(), response.items().end()};
}

std::vector<api::Container> PodClient::Containers() {
  api::ListContainersResponse response;
  (void)Call(node_->runtime(), &api::RuntimeService::Stub::ListContainers,
             api::ListContainersRequest(), &response);
  return {response.containers().begin(), response.containers().end()};
}

bool PodClient::HasImage() {
  api::ImageStatusRequest request;
  request.mutable_image()->set_image(node_->image());
  api::ImageStatusResponse response;
  (void)Call(node_->images(), &api::ImageService::Stub::ImageStatus, request, &response);
  return response.has_image();
}

std::string PodClient::Address() {
  api::PodSandboxStatusRequest request;
  request.set_pod_sandbox_id(sandbox_);
  api::PodSandboxStatusResponse response;
  (void)Call(node_->runtime(), &api::RuntimeService::Stub::PodSandboxStatus, request, &response);
  return response.status().network().ip();
}

pid_t PodClient::PausePid() {
  api::PodSandboxStatusRequest request;
  request.set_pod_sandbox_id(sandbox_);
  request.set_verbose(true);
  api::PodSandboxStatusResponse response;
  (void)Call(node_->runtime(), &api::RuntimeService::Stub::PodSandboxStatus, request, &response);
  return PidIn(response.info().count("info") > 0 ? response.info().at("info") : "");
}

pid_t PodClient::ContainerPid() {
  api::ContainerStatusRequest request;
  request.set_container_id(container_);
  request.set_verbose(true);
  api::ContainerStatusResponse response;
  (void)Call(node_->runtime(), &api::RuntimeService::Stub::ContainerStatus, request, &response);
  return PidIn(response.info().count("info") > 0 ? response.info().at("info") : "");
}

grpc::Status PodClient::Stats() {
  api::ListContainerStatsResponse response;
  return Call(node_->runtime(), &api::RuntimeService::Stub::ListContainerStats,
              api::ListContainerStatsRequest(), &response);
}

bool PodClient::SandboxIsReady() {
  for (const api::PodSandbox& item : Sandboxes()) {
    if (item.id() == sandbox_) return item.state() == api::SANDBOX_READY;
  }
  return false;
}

api::ContainerState PodClient::ContainerState() {
  for (const api::Container& item : Containers()) {
    if (item.id() == container_) return item.state();
  }
  return api::CONTAINER_UNKNOWN;
}

}  // namespace skiff::test

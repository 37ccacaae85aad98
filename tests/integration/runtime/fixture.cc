#include "tests/integration/runtime/fixture.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <thread>

#include "tests/support/needs.h"

namespace skiff::runtime {
namespace {

// The OCI runtime that is to make the containers; empty: the built-in way.
std::string TestHandler() {
  const char* handler = ::getenv("SKIFF_TEST_HANDLER");
  return handler == nullptr ? "" : handler;
}

// Of this run: others may go on beside it.
std::string CgroupOfRun() { return "/skiff-runtime-test-" + std::to_string(::getpid()); }

// Before the first thread: this program's mounts and network are its own.
class OwnNamespaces : public ::testing::Environment {
 public:
  void SetUp() override {
    ASSERT_EQ(::geteuid(), 0U) << "needs root";
    ASSERT_EQ(::unshare(CLONE_NEWNS | CLONE_NEWNET), 0);
    ASSERT_EQ(::mount(nullptr, "/", nullptr, MS_PRIVATE | MS_REC, nullptr), 0);
    ::signal(SIGPIPE, SIG_IGN);
    if (TestHandler() == "crun") HideMixedCgroups();
  }
  void TearDown() override {
    (void)::rmdir(("/sys/fs/cgroup" + CgroupOfRun()).c_str());
    const std::vector<std::string> hierarchies = ListDirectory("/sys/fs/cgroup").value_or({});
    for (const std::string& name : hierarchies) {
      (void)::rmdir(("/sys/fs/cgroup/" + name + CgroupOfRun()).c_str());
    }
  }

 private:
  // crun refuses to work where a v2 tree beside v1 carries a controller: it gets to see v1 alone.
  static void HideMixedCgroups() {
    const std::string top = "/sys/fs/cgroup/";
    std::string controllers = ReadFile(top + "unified/cgroup.controllers").value_or("");
    if (controllers.find_first_not_of('\n') == std::string::npos) return;
    std::map<std::string, UniqueFd> hierarchies;
    const std::vector<std::string> names = ListDirectory(top).value();
    for (const std::string& name : names) {
      if (name == "unified") continue;
      UniqueFd tree(::open_tree(AT_FDCWD, (top + name).c_str(), OPEN_TREE_CLONE));
      ASSERT_TRUE(tree.valid()) << name;
      hierarchies[name] = std::move(tree);
    }
    ASSERT_EQ(::umount2(top.c_str(), MNT_DETACH), 0);
    ASSERT_EQ(::mount("tmpfs", top.c_str(), "tmpfs", 0, "mode=755"), 0);
    for (const auto& [name, tree] : hierarchies) {
      ASSERT_OK(MakeDirectories(top + name));
      ASSERT_EQ(
          ::move_mount(tree.get(), "", AT_FDCWD, (top + name).c_str(), MOVE_MOUNT_F_EMPTY_PATH), 0);
    }
  }
};
const auto* const kOwnNamespaces = ::testing::AddGlobalTestEnvironment(new OwnNamespaces);

void WriteText(const std::string& path, const std::string& text) {
  ASSERT_OK(WriteFileAtomic(path, text, Durability::kNone, 0644));
}

// A rootfs as an image layer would be: Debian's static busybox with its applets as links.
void MakeRootfs(const std::string& root) {
  for (const char* directory : {"/bin", "/etc", "/tmp", "/home/worker"}) {
    ASSERT_OK(MakeDirectories(root + directory));
  }
  ASSERT_EQ(::chmod((root + "/tmp").c_str(), 01777), 0);
  Result<std::string> busybox = ReadFile("/bin/busybox");
  ASSERT_OK(busybox) << "needs the package busybox-static";
  ASSERT_OK(WriteFileAtomic(root + "/bin/busybox", *busybox, Durability::kNone, 0755));
  for (const char* applet :
       {"sh",       "cat",    "ls",   "echo", "sleep",  "id",      "true",     "false", "kill",
        "ps",       "head",   "tail", "dd",   "mkdir",  "rm",      "touch",    "mount", "umount",
        "hostname", "grep",   "stat", "stty", "tty",    "test",    "wc",       "env",   "pwd",
        "chmod",    "ulimit", "seq",  "awk",  "mknod",  "unshare", "readlink", "nc",    "yes",
        "setsid",   "df",     "ip",   "ipcs", "printf", "find",    "sed",      "tr"}) {
    ASSERT_EQ(::link((root + "/bin/busybox").c_str(), (root + "/bin/" + applet).c_str()), 0);
  }
  WriteText(root + "/etc/passwd",
            "root:x:0:0:root:/root:/bin/sh\nworker:x:1000:1001:worker:/home/worker:/bin/sh\n");
  WriteText(root + "/etc/group", "root:x:0:\nworkers:x:1001:\nextra:x:1500:worker\n");
}

}  // namespace

void RuntimeTest::SetUp() {
  ASSERT_EQ(::geteuid(), 0U) << "needs root";
  work_ = std::make_unique<TempDir>(TempDir::Make("skiff-runtime").value());
  rootfs_ = work_->path() + "/rootfs";
  ASSERT_NO_FATAL_FAILURE(MakeRootfs(rootfs_));
  ASSERT_OK(MakeDirectories(work_->path() + "/logs"));
  config_.state_dir = work_->path() + "/state";
  config_.netns_dir = work_->path() + "/netns";
  config_.binary_dir = SKIFF_TEST_BINARY_DIR;
  config_.default_cgroup_parent = CgroupOfRun();
  handler_ = TestHandler();
  if (!handler_.empty()) {
    config_.oci_handlers = {{.name = handler_, .path = "/usr/bin/" + handler_}};
    if (handler_ == "runc") config_.oci_handlers[0].path = "/usr/sbin/runc";
    if (const std::string& path = config_.oci_handlers[0].path; !PathExists(path)) {
      ASSERT_FALSE(test::NeedsAreStrict()) << "needs " << path;
      GTEST_SKIP() << "needs " << path;
    }
  }
  Open();
  if (HasFatalFailure()) return;
  leaks_ = std::make_unique<test::LeakCheck>(test::LeakScope{
      .cgroups = {CgroupOfRun()},
      .directories = {config_.state_dir, config_.netns_dir, work_->path() + "/layers"},
      .ignored_processes = {"skiff-seed"}});
}

void RuntimeTest::TearDown() {
  if (IsSkipped() && !leaks_) return;  // nothing was set up
  if (!runtime_) Open();
  if (!runtime_) return;
  for (const std::string& id : pods_) {
    Result<> removed = runtime_->RemoveSandbox(id);
    EXPECT_TRUE(removed.ok()) << removed.error().ToString();
    EXPECT_TRUE(runtime_->RemoveSandbox(id).ok()) << "removing twice";
  }
  EXPECT_TRUE(runtime_->Sandboxes().empty());
  EXPECT_TRUE(runtime_->Containers().empty());
  if (leaks_) {
    EXPECT_THAT(leaks_->Differences(), IsEmpty());
  }
}

void RuntimeTest::Open() {
  Result<std::unique_ptr<Runtime>> opened = Runtime::Open(config_, [this](const ExitEvent& event) {
    std::lock_guard lock(mutex_);
    events_.push_back(event);
    changed_.notify_all();
  });
  ASSERT_OK(opened);
  runtime_ = std::move(opened).value();
}

SandboxSpec RuntimeTest::Pod(const std::string& id) const {
  return {.id = id, .hostname = "host-of-" + id, .handler = handler_};
}

ContainerSpec RuntimeTest::Shell(const std::string& id, const std::string& script) const {
  ContainerSpec spec;
  spec.id = id;
  spec.sandbox_id = "pod";
  spec.rootfs = {.lower_dirs = {rootfs_}, .writable_dir = work_->path() + "/layers/" + id};
  spec.argv = {"sh", "-c", script};
  spec.env = {"PATH=/bin"};
  spec.log.path = LogPath(id);
  uint64_t capabilities = DefaultCapabilities();
  spec.capabilities = {
      .bounding = capabilities, .effective = capabilities, .permitted = capabilities};
  return spec;
}

void RuntimeTest::StartPod(const SandboxSpec& spec) {
  pods_.push_back(spec.id);
  ASSERT_OK(runtime_->CreateSandbox(spec));
  ASSERT_OK(runtime_->StartSandbox(spec.id));
}

void RuntimeTest::Start(const ContainerSpec& spec) {
  ASSERT_OK(runtime_->CreateContainer(spec));
  ASSERT_OK(runtime_->StartContainer(spec.id));
}

ContainerExit RuntimeTest::WaitExit(const std::string& id) {
  std::unique_lock lock(mutex_);
  auto find = [&] {
    return std::find_if(events_.begin(), events_.end(),
                        [&](const ExitEvent& event) { return event.container_id == id; });
  };
  bool came = changed_.wait_for(lock, seconds(20), [&] { return find() != events_.end(); });
  EXPECT_TRUE(came) << "no exit of " << id;
  return came ? find()->exit : ContainerExit{};
}

ContainerExit RuntimeTest::RunToEnd(const ContainerSpec& spec) {
  Result<ContainerStatus> created = runtime_->CreateContainer(spec);
  EXPECT_TRUE(created.ok()) << created.error().ToString();
  if (!created.ok()) return {};
  Result<> started = runtime_->StartContainer(spec.id);
  EXPECT_TRUE(started.ok()) << started.error().ToString();
  return WaitExit(spec.id);
}

void RuntimeTest::WaitForLog(const std::string& id, const std::string& text) {
  auto deadline = std::chrono::steady_clock::now() + seconds(20);
  while (LogText(id).find(text) == std::string::npos) {
    ASSERT_LT(std::chrono::steady_clock::now(), deadline)
        << "no \"" << text << "\" in the log of " << id << ": " << LogText(id);
    std::this_thread::sleep_for(milliseconds(5));  // tidy: a file has no event here
  }
}

std::string RuntimeTest::LogText(const std::string& id) const {
  return ReadFile(LogPath(id)).value_or("");
}

std::string RuntimeTest::Output(const std::string& id, const std::string& stream) const {
  std::string output;
  std::string text = LogText(id);
  std::string_view rest = text;
  while (!rest.empty()) {
    std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(rest.size(), line.size() + 1));
    line.remove_prefix(line.find(' ') + 1);
    std::string_view label = line.substr(0, line.find(' '));
    line.remove_prefix(label.size() + 1);
    if (!stream.empty() && label != stream) continue;
    output.append(line.substr(2));
    if (line[0] == 'F') output += '\n';
  }
  return output;
}

Result<ExecOutput> RuntimeTest::ExecShell(const std::string& id, const std::string& script,
                                          milliseconds timeout) {
  return runtime_->ExecSync({.container_id = id, .argv = {"sh", "-c", script}},
                            {.timeout = timeout});
}

std::string RuntimeTest::CgroupFile(const std::string& id, const std::string& controller,
                                    const std::string& v1_file, const std::string& v2_file) const {
  std::string path = runtime_->Container(id)->cgroup_path;
  std::string file = runtime_->cgroup_v2() ? "/sys/fs/cgroup" + path + "/" + v2_file
                                           : "/sys/fs/cgroup/" + controller + path + "/" + v1_file;
  std::string text = ReadFile(file).value_or("(no file " + file + ")");
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return text;
}

int RuntimeTest::CountEvents(const std::string& container_id) {
  std::lock_guard lock(mutex_);
  return static_cast<int>(std::count_if(events_.begin(), events_.end(), [&](const auto& event) {
    return event.container_id == container_id;
  }));
}

}  // namespace skiff::runtime

#include "cni/runner/config_directory.h"

#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstring>
#include <memory>
#include <utility>

#include "base/log.h"
#include "base/os/files.h"

namespace skiff::cni {
namespace {

constexpr uint32_t kInteresting = IN_CLOSE_WRITE | IN_CREATE | IN_DELETE | IN_MOVED_FROM |
                                  IN_MOVED_TO | IN_DELETE_SELF | IN_MOVE_SELF;
// A folder that is made, and one made in it before we look, and so on.
constexpr int kArmTries = 10;
// The default network of podman (its man page podman-network(1)), which Debian's package configures
// in this folder.
constexpr const char* kPodmansOwn = "podman";

std::string ParentOf(const std::string& path) {
  size_t slash = path.rfind('/');
  return slash == 0 || slash == std::string::npos ? "/" : path.substr(0, slash);
}

bool IsConfigurationName(const std::string& name) {
  return name.ends_with(".conflist") || name.ends_with(".conf") || name.ends_with(".json");
}

// What a folder lists; nothing where there is none.
Result<std::vector<std::string>> ListIfThere(const std::string& directory) {
  auto names = ListDirectory(directory);
  if (!names.ok() && names.error().code() == Code::kNotFound) return std::vector<std::string>();
  return names;
}

// Plugins that were added beside the network's own file, in a folder of its name.
Result<> AppendPlugins(const std::string& directory, NetworkConfig& network) {
  if (network.only_inlined_plugins) return {};
  const std::string folder = directory + "/" + network.name;
  for (const std::string& name : TRY(ListIfThere(folder))) {
    if (!name.ends_with(".conf")) continue;
    const std::string path = folder + "/" + name;
    const std::string text = TRY(ReadFile(path, kDocumentLimitBytes));
    network.plugins.push_back(TRY(ParsePluginConfig(text).With(path)));
  }
  return {};
}

}  // namespace

Result<std::optional<FoundNetwork>> LoadNetwork(const std::string& directory) {
  for (const std::string& name : TRY(ListIfThere(directory))) {
    if (!IsConfigurationName(name)) continue;
    FoundNetwork found{.file = directory + "/" + name};
    auto text = ReadFile(found.file, kDocumentLimitBytes);
    // Removed since it was listed, or a symbolic link to nothing.
    if (!text.ok() && text.error().code() == Code::kNotFound) continue;
    if (!text.ok()) return std::move(text).error();
    found.network = TRY(ParseNetworkConfig(*text).With(found.file));
    if (found.network.name == kPodmansOwn) continue;
    TRY(AppendPlugins(directory, found.network).With(found.file));
    if (!found.network.plugins.empty()) return std::optional(std::move(found));
  }
  return std::optional<FoundNetwork>();
}

DirectoryWatch::DirectoryWatch(std::string directory, std::function<void()> changed,
                               UniqueFd inotify, UniqueFd stop)
    : directory_(std::move(directory)),
      changed_(std::move(changed)),
      inotify_(std::move(inotify)),
      stop_(std::move(stop)) {
  Arm();
  thread_ = std::thread([this] {
    ::pthread_setname_np(::pthread_self(), "skiff-cni-conf");
    Run();
  });
}

Result<std::unique_ptr<DirectoryWatch>> DirectoryWatch::Start(std::string directory,
                                                              std::function<void()> changed) {
  UniqueFd inotify(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  if (!inotify) return Error::Sys(errno, "inotify_init1");
  UniqueFd stop(::eventfd(0, EFD_CLOEXEC));
  if (!stop) return Error::Sys(errno, "eventfd");
  return std::unique_ptr<DirectoryWatch>(new DirectoryWatch(
      std::move(directory), std::move(changed), std::move(inotify), std::move(stop)));
}

DirectoryWatch::~DirectoryWatch() {
  ::eventfd_write(stop_.get(), 1);
  thread_.join();
}

// Watches the folder, or the nearest one above it that exists: what is missing is made there.
void DirectoryWatch::Arm() {
  for (int tries = 0; tries < kArmTries; ++tries) {
    std::string path = directory_, below;
    int watch = -1;
    for (;;) {
      watch = ::inotify_add_watch(inotify_.get(), path.c_str(), kInteresting | IN_ONLYDIR);
      if (watch >= 0 || path == "/") break;
      below = std::exchange(path, ParentOf(path));
    }
    if (watch_ >= 0 && watch != watch_) {
      (void)::inotify_rm_watch(inotify_.get(), watch_);  // often gone with its folder
    }
    watch_ = watch;
    watched_ = std::move(path);
    // Made while we went up.
    if (below.empty() || !PathExists(below)) return;
  }
}

// Whether one of them is news.
bool DirectoryWatch::ReadEvents() {
  alignas(inotify_event) char buffer[16 << 10];
  bool news = false;
  for (;;) {
    ssize_t got = ::read(inotify_.get(), buffer, sizeof buffer);
    if (got <= 0) return news;
    for (ssize_t at = 0; at < got;) {
      inotify_event event;
      std::memcpy(&event, buffer + at, sizeof event);
      const std::string name = event.len > 0 ? std::string(buffer + at + sizeof event) : "";
      at += static_cast<ssize_t>(sizeof event + event.len);
      if ((event.mask & IN_IGNORED) != 0) continue;
      // Whoever makes a file writes it, and we hear of the end of that.
      struct stat about = {};
      bool unwritten = (event.mask & IN_CREATE) != 0 &&
                       ::lstat((watched_ + "/" + name).c_str(), &about) == 0 &&
                       S_ISREG(about.st_mode);
      news = news || (watched_ == directory_ && !unwritten);
    }
  }
}

void DirectoryWatch::Run() {
  for (;;) {
    pollfd fds[2] = {{stop_.get(), POLLIN, 0}, {inotify_.get(), POLLIN, 0}};
    if (::poll(fds, 2, -1) < 0) continue;  // EINTR
    if (fds[0].revents != 0) return;
    const bool news = ReadEvents();
    const std::string before = watched_;
    Arm();
    if (news || watched_ != before) changed_();
  }
}

}  // namespace skiff::cni

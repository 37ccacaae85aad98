#include "cri/disk_usage.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <set>
#include <string_view>
#include <vector>

#include "base/os/unique_fd.h"

namespace skiff::cri {
namespace {

// So many entries are looked at in the call itself: a millisecond or two.
constexpr size_t kEntriesInCall = 1000;
// What one walk remembers at most: directories to be visited, files of several names.
constexpr size_t kMaxPending = 65536;
constexpr size_t kMaxSeen = 65536;
constexpr std::chrono::seconds kShortestLife{5};
constexpr int kLifePerWalk = 20;

struct DirectoryCloser {
  void operator()(DIR* directory) const { closedir(directory); }
};

// One walk. What the tree's owner moves about meanwhile is counted or not, but never leads out of
// the tree: no symlink, no ".." and no mount is followed.
class Walk {
 public:
  explicit Walk(const std::string& root)
      : root_(open(root.c_str(), O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)) {
    if (root_.valid()) pending_.emplace_back(".");
  }

  // Goes on until the end (true), or the limit of entries, or until it is to stop.
  bool Run(size_t limit, const std::atomic<bool>& stop) {
    while (!pending_.empty()) {
      const std::string directory = std::move(pending_.back());
      pending_.pop_back();
      if (!Visit(directory, limit, stop)) return false;
    }
    return true;
  }
  const DiskUsage::Figures& figures() const { return figures_; }

 private:
  bool Visit(const std::string& path, size_t limit, const std::atomic<bool>& stop) {
    open_how how{};
    how.flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
    how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV;
    UniqueFd fd(
        static_cast<int>(syscall(SYS_openat2, root_.get(), path.c_str(), &how, sizeof how)));
    if (!fd.valid()) return true;  // gone, or deeper than a path is long
    const std::unique_ptr<DIR, DirectoryCloser> directory(fdopendir(fd.get()));
    if (directory == nullptr) return true;
    const int here = fd.Release();  // the DIR owns it
    while (const dirent* entry = readdir(directory.get())) {
      const std::string_view name = entry->d_name;
      if (name == "." || name == "..") continue;
      if (entries_ >= limit || stop) return false;
      Count(here, path, entry->d_name);
    }
    return true;
  }

  void Count(int directory, const std::string& path, const char* name) {
    ++entries_;
    struct stat info {};
    if (fstatat(directory, name, &info, AT_SYMLINK_NOFOLLOW) != 0) return;
    if (S_ISDIR(info.st_mode)) {
      if (pending_.size() < kMaxPending) pending_.push_back(path + "/" + name);
    } else if (info.st_nlink > 1) {
      if (seen_.size() < kMaxSeen && !seen_.insert(info.st_ino).second) return;
    }
    figures_.bytes += static_cast<uint64_t>(info.st_blocks) * 512;
    ++figures_.inodes;
  }

  const UniqueFd root_;
  std::vector<std::string> pending_;  // below the root
  std::set<ino_t> seen_;
  size_t entries_ = 0;
  DiskUsage::Figures figures_;
};

}  // namespace

DiskUsage::DiskUsage(Executor& background)
    : state_(std::make_shared<State>()), walker_(background) {}

DiskUsage::~DiskUsage() { state_->stopping = true; }

void DiskUsage::Store(State& state, const std::string& id, const Figures& figures,
                      SteadyTime began) {
  const SteadyTime now = Clock::Real().Now();
  const std::lock_guard lock(state.mutex);
  const auto found = state.entries.find(id);
  if (found == state.entries.end()) return;  // forgotten meanwhile
  found->second.figures = figures;
  found->second.figures.measured = Clock::Real().WallNow();
  found->second.stale =
      now + std::max<SteadyTime::duration>(kShortestLife, (now - began) * kLifePerWalk);
  found->second.walking = false;
}

DiskUsage::Figures DiskUsage::Read(const std::string& id, const std::string& directory) {
  const SteadyTime now = Clock::Real().Now();
  Figures before;
  {
    const std::lock_guard lock(state_->mutex);
    Entry& entry = state_->entries[id];
    if (entry.walking || now < entry.stale) return entry.figures;
    entry.walking = true;
    before = entry.figures;
  }
  if (before.inodes <= kEntriesInCall) {
    Walk walk(directory);
    if (walk.Run(kEntriesInCall, state_->stopping)) {
      Store(*state_, id, walk.figures(), now);
      return walk.figures();
    }
    before = walk.figures();  // so much at least
    const std::lock_guard lock(state_->mutex);
    state_->entries[id].figures = before;
  }
  walker_.Post([state = state_, id, directory] {
    const SteadyTime began = Clock::Real().Now();
    Walk walk(directory);
    if (walk.Run(SIZE_MAX, state->stopping)) Store(*state, id, walk.figures(), began);
  });
  return before;
}

void DiskUsage::Forget(const std::string& id) {
  const std::lock_guard lock(state_->mutex);
  state_->entries.erase(id);
}

}  // namespace skiff::cri

#include "agent/volumes/payload.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <set>

#include "base/os/files.h"
#include "base/random.h"

namespace skiff::agent {
namespace {

constexpr char kDataLink[] = "..data";

Result<> CheckPath(const std::string& path) {
  bool bad = path.empty() || path.size() > 4096 || path.front() == '/' || path.starts_with("..");
  for (size_t start = 0; !bad && start <= path.size();) {
    size_t end = std::min(path.find('/', start), path.size());
    std::string_view part = std::string_view(path).substr(start, end - start);
    bad = part.empty() || part == "." || part == "..";
    start = end + 1;
  }
  if (bad) return Error(Code::kInvalidArgument, "invalid path: \"" + path + "\"");
  return {};
}

std::string TopName(const std::string& path) { return path.substr(0, path.find('/')); }

bool SameFile(const std::string& path, const PayloadFile& file, std::optional<gid_t> group) {
  struct stat status;
  if (::lstat(path.c_str(), &status) != 0 || !S_ISREG(status.st_mode)) return false;
  if ((status.st_mode & 07777) != file.mode) return false;
  if (group && status.st_gid != *group) return false;
  auto content = ReadFile(path, file.content.size());
  return content.ok() && *content == file.content;
}

size_t CountFiles(const std::string& directory) {
  auto names = ListDirectory(directory);
  if (!names.ok()) return 0;
  size_t count = 0;
  for (const std::string& name : *names) {
    struct stat status;
    std::string path = directory + "/" + name;
    if (::lstat(path.c_str(), &status) != 0) continue;
    count += S_ISDIR(status.st_mode) ? CountFiles(path) : 1;
  }
  return count;
}

bool UpToDate(const std::string& directory, const Payload& payload, std::optional<gid_t> group) {
  std::string data = directory + "/" + kDataLink;
  if (CountFiles(data + "/.") != payload.size() || !PathExists(data)) return false;
  for (const auto& [path, file] : payload) {
    if (!SameFile(data + "/" + path, file, group)) return false;
    if (!PathExists(directory + "/" + TopName(path))) return false;
  }
  return true;
}

Result<> WriteOne(const std::string& path, const PayloadFile& file, std::optional<gid_t> group) {
  TRY(MakeDirectories(path.substr(0, path.rfind('/')), 0755));
  UniqueFd fd = TRY(OpenFile(path, O_WRONLY | O_CREAT | O_EXCL, 0600));
  TRY(WriteAll(fd.get(), file.content).With(path));
  if (group && ::fchown(fd.get(), static_cast<uid_t>(-1), *group) != 0) {
    return Error::Sys(errno, "chown", path);
  }
  // After chown, which takes the set-id bits away; the umask does not count here.
  if (::fchmod(fd.get(), file.mode) != 0) return Error::Sys(errno, "chmod", path);
  return fd.Close();
}

// No file of a payload begins with "..", so the temporary name is nobody's.
Result<> SwapLink(const std::string& target, const std::string& link) {
  std::string temporary = link.substr(0, link.rfind('/')) + "/..link";
  TRY(RemoveFile(temporary));
  if (::symlink(target.c_str(), temporary.c_str()) != 0) {
    return Error::Sys(errno, "symlink", temporary);
  }
  if (::rename(temporary.c_str(), link.c_str()) != 0) return Error::Sys(errno, "rename", link);
  return {};
}

// "..2026_01_02_03_04_05.<random>": the name says when, as kubelet's does.
std::string VersionName(WallTime now) {
  std::string name = FormatTime(now);
  std::string stamp = "..";
  for (char c : name) {
    if (c == '-' || c == 'T' || c == ':') {
      stamp += '_';
    } else if (c != 'Z') {
      stamp += c;
    }
  }
  return stamp + "." + RandomString(10, "0123456789");
}

}  // namespace

Result<bool> WritePayload(const std::string& directory, const Payload& payload,
                          std::optional<gid_t> group, WallTime now) {
  for (const auto& [path, file] : payload) TRY(CheckPath(path));
  TRY(MakeDirectories(directory));
  if (UpToDate(directory, payload, group)) return false;
  std::string version = VersionName(now);
  std::string version_path = directory + "/" + version;
  TRY(MakeDirectories(version_path, 0755));
  for (const auto& [path, file] : payload) TRY(WriteOne(version_path + "/" + path, file, group));
  if (group) {
    if (::chown(version_path.c_str(), static_cast<uid_t>(-1), *group) != 0) {
      return Error::Sys(errno, "chown", version_path);
    }
  }
  TRY(SwapLink(version, directory + "/" + kDataLink));
  // The visible names: new ones appear after the data they point to, old ones go with it.
  std::set<std::string> names;
  for (const auto& [path, file] : payload) names.insert(TopName(path));
  for (const std::string& name : names) {
    std::string link = directory + "/" + name;
    if (!PathExists(link)) TRY(SwapLink(std::string(kDataLink) + "/" + name, link));
  }
  for (const std::string& name : TRY(ListDirectory(directory))) {
    if (name.starts_with("..") || names.contains(name)) continue;
    TRY(RemoveFile(directory + "/" + name));
  }
  for (const std::string& name : TRY(ListDirectory(directory))) {
    // What a crash between the steps left goes as well.
    if (name.starts_with("..") && name != version && name != kDataLink) {
      TRY(RemoveTree(directory + "/" + name));
    }
  }
  return true;
}

}  // namespace skiff::agent

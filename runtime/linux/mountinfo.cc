#include "runtime/linux/mountinfo.h"

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdlib>

#include "base/os/files.h"

namespace skiff::runtime {
namespace {

std::string_view NextWord(std::string_view& line) {
  std::string_view word = line.substr(0, line.find(' '));
  line.remove_prefix(std::min(line.size(), word.size() + 1));
  return word;
}

// Blanks in paths are octal: "\040".
std::string Unescape(std::string_view text) {
  std::string plain;
  for (size_t i = 0; i < text.size(); ++i) {
    auto octal = [&](size_t at) { return text[at] >= '0' && text[at] <= '7'; };
    if (text[i] == '\\' && i + 3 < text.size() && octal(i + 1) && octal(i + 2) && octal(i + 3)) {
      plain += static_cast<char>((text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 +
                                 (text[i + 3] - '0'));
      i += 3;
    } else {
      plain += text[i];
    }
  }
  return plain;
}

bool Contains(const std::string& mount_point, const std::string& path) {
  if (mount_point == "/") return true;
  return path.starts_with(mount_point) &&
         (path.size() == mount_point.size() || path[mount_point.size()] == '/');
}

}  // namespace

Result<> CheckPropagationIn(std::string_view mountinfo, const std::string& source,
                            MountPropagation propagation) {
  std::string best;
  bool shared = false;
  bool slave = false;
  while (!mountinfo.empty()) {
    std::string_view line = mountinfo.substr(0, mountinfo.find('\n'));
    mountinfo.remove_prefix(std::min(mountinfo.size(), line.size() + 1));
    for (int field = 0; field < 4; ++field) NextWord(line);
    std::string mount_point = Unescape(NextWord(line));
    NextWord(line);  // options
    // Of mounts on one another the last counts.
    if (!Contains(mount_point, source) || mount_point.size() < best.size()) continue;
    best = mount_point;
    shared = slave = false;
    for (std::string_view word = NextWord(line); !word.empty() && word != "-";
         word = NextWord(line)) {
      shared = shared || word.starts_with("shared:");
      slave = slave || word.starts_with("master:");
    }
  }
  bool good = shared || (slave && propagation == MountPropagation::kSlave);
  if (good || propagation == MountPropagation::kPrivate) return {};
  return Error(Code::kFailedPrecondition,
               "path \"" + source + "\" is mounted on \"" + best + "\" but it is not a shared" +
                   (propagation == MountPropagation::kSlave ? " or slave" : "") + " mount");
}

Result<> CheckPropagation(const std::vector<MountSpec>& mounts) {
  std::string text;
  for (const MountSpec& mount : mounts) {
    if (mount.propagation == MountPropagation::kPrivate) continue;
    if (text.empty()) text = TRY(ReadFile("/proc/self/mountinfo"));
    char real[PATH_MAX];
    if (::realpath(mount.source.c_str(), real) == nullptr) {
      return Error::Sys(errno, "realpath", mount.source);
    }
    TRY(CheckPropagationIn(text, real, mount.propagation));
  }
  return {};
}

}  // namespace skiff::runtime

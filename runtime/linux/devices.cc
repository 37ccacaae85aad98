#include "runtime/linux/devices.h"

#include <dirent.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <cerrno>

#include "base/os/files.h"

namespace skiff::runtime {
namespace {

Result<DeviceNode> NodeOf(const DeviceSpec& device) {
  struct stat info {};
  if (::stat(device.host_path.c_str(), &info) != 0) {
    if (errno != ENOENT || device.type == '\0' || !device.major || !device.minor) {
      return Error::Sys(errno, "stat", device.host_path);
    }
    info.st_mode = (device.type == 'b' ? S_IFBLK : S_IFCHR) | 0666;
    info.st_rdev = makedev(*device.major, *device.minor);
  }
  if (!S_ISCHR(info.st_mode) && !S_ISBLK(info.st_mode)) {
    return Error(Code::kInvalidArgument, device.host_path + " is no device");
  }
  const char type = S_ISBLK(info.st_mode) ? 'b' : 'c';
  if ((device.type != '\0' && device.type != type) ||
      device.major.value_or(major(info.st_rdev)) != major(info.st_rdev) ||
      device.minor.value_or(minor(info.st_rdev)) != minor(info.st_rdev)) {
    return Error(Code::kInvalidArgument, device.host_path + " is another device than asked for");
  }
  return DeviceNode{
      .path = device.container_path,
      .mode = (info.st_mode & S_IFMT) | (device.file_mode.value_or(info.st_mode) & 07777),
      .major = major(info.st_rdev),
      .minor = minor(info.st_rdev),
      .uid = device.uid.value_or(info.st_uid),
      .gid = device.gid.value_or(info.st_gid),
      .access = device.access,
      .host_path = device.host_path};
}

// What a container has of its own in /dev.
bool IsContainersOwn(const std::string& path) {
  static constexpr const char* kOwn[] = {"/dev/pts",     "/dev/shm",  "/dev/fd", "/dev/mqueue",
                                         "/dev/console", "/dev/ptmx", "/dev/tty"};
  return std::any_of(std::begin(kOwn), std::end(kOwn),
                     [&](const char* own) { return path == own; });
}

void CollectDevices(const std::string& directory, int depth, std::vector<DeviceNode>& nodes) {
  constexpr int kDepthLimit = 8;
  if (depth > kDepthLimit) return;
  for (const std::string& name : ListDirectory(directory).value_or({})) {
    std::string path = directory + "/" + name;
    struct stat info;
    if (IsContainersOwn(path) || ::lstat(path.c_str(), &info) != 0) continue;
    if (S_ISDIR(info.st_mode)) {
      CollectDevices(path, depth + 1, nodes);
    } else if (S_ISCHR(info.st_mode) || S_ISBLK(info.st_mode)) {
      Result<DeviceNode> node = NodeOf({.host_path = path, .container_path = path});
      if (node.ok()) nodes.push_back(std::move(*node));  // else it went away
    }
  }
}

}  // namespace

Result<std::vector<DeviceNode>> DeviceNodes(const ContainerSpec& spec) {
  std::vector<DeviceNode> nodes;
  for (const DeviceSpec& device : spec.devices) nodes.push_back(TRY(NodeOf(device)));
  if (spec.privileged) CollectDevices("/dev", 0, nodes);
  return nodes;
}

Result<std::vector<DeviceRule>> DeviceRules(const std::vector<DeviceSpec>& devices) {
  std::vector<DeviceRule> rules = {
      {'a', -1, -1, "m"},    // a node that may not be opened does no harm
      {'c', 1, 3, "rwm"},    // null
      {'c', 1, 5, "rwm"},    // zero
      {'c', 1, 7, "rwm"},    // full
      {'c', 1, 8, "rwm"},    // random
      {'c', 1, 9, "rwm"},    // urandom
      {'c', 5, 0, "rwm"},    // tty
      {'c', 5, 2, "rwm"},    // ptmx
      {'c', 136, -1, "rwm"}  // terminals
  };
  for (const DeviceSpec& device : devices) {
    DeviceNode node = TRY(NodeOf(device));
    rules.push_back({S_ISBLK(node.mode) ? 'b' : 'c', node.major, node.minor, node.access});
  }
  return rules;
}

}  // namespace skiff::runtime

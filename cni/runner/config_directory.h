// The folder that names the node's network (/etc/cni/net.d), read as container runtimes do: the
// first file by name that ends in .conflist, .conf or .json counts.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>

#include "base/os/unique_fd.h"
#include "base/result.h"
#include "cni/spec/config.h"

namespace skiff::cni {

struct FoundNetwork {
  std::string file;
  NetworkConfig network;
};

// Nothing where the folder is missing or has no configuration in it. InvalidArgument: the first
// file is no configuration; a later one is not taken instead, since it may be of a network that
// nobody wants any more. Files whose list of plugins is empty are passed over, and so is the
// network called podman: it is there for podman alone wherever podman is installed.
Result<std::optional<FoundNetwork>> LoadNetwork(const std::string& directory);

// Calls `changed` from a thread of its own after something in the folder changed, also when the
// folder itself comes and goes. Not told of a file system that is mounted over it.
class DirectoryWatch {
 public:
  static Result<std::unique_ptr<DirectoryWatch>> Start(std::string directory,
                                                       std::function<void()> changed);
  ~DirectoryWatch();  // waits for a call under way
  DirectoryWatch(const DirectoryWatch&) = delete;

 private:
  DirectoryWatch(std::string directory, std::function<void()> changed, UniqueFd inotify,
                 UniqueFd stop);
  void Arm();
  void Run();
  bool ReadEvents();

  const std::string directory_;
  const std::function<void()> changed_;
  const UniqueFd inotify_, stop_;
  std::string watched_;  // the folder, or the nearest above it that exists
  int watch_ = -1;
  std::thread thread_;
};

}  // namespace skiff::cni

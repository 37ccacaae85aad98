// What an image on this machine is: plain values that the store hands out and containers are made
// from. Immutable once published (shared_ptr<const Image>).
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "runtime/image/digest.h"

namespace skiff::runtime {

// The machine an image is for (OCI image-index.md, GOARCH names).
struct Platform {
  std::string os = "linux";
  std::string architecture;  // "amd64", "arm64", "arm", …
  std::string variant;       // "v7", "v8"; often empty
  // This machine's (uname(2)).
  static Platform Host();
  bool operator==(const Platform&) const = default;
};

// How to run what is in the image (OCI config.md; Docker's config has the same names).
struct ImageRunConfig {
  std::vector<std::string> entrypoint;
  std::vector<std::string> command;  // "Cmd"
  std::vector<std::string> env;      // "NAME=value"
  std::string user;                  // "", "uid", "name", "uid:gid", "name:group"
  std::string working_directory;
  std::string stop_signal;           // "", "SIGTERM", "15"
  std::vector<std::string> volumes;  // paths in the container
  std::map<std::string, std::string> labels;
};

// One layer as it lies on disk.
struct ImageLayer {
  Digest diff_id;   // of the uncompressed tar
  Digest blob;      // of the bytes that the registry serves
  std::string key;  // the name of its directory below the store
  uint64_t blob_size_bytes = 0;
};

struct Image {
  Digest id;        // of the config: what CRI calls image id
  Digest manifest;  // of the manifest that named the config
  Platform platform;
  std::vector<std::string> repo_tags;     // "docker.io/library/busybox:latest"
  std::vector<std::string> repo_digests;  // "docker.io/library/busybox@sha256:…"
  uint64_t size_bytes = 0;                // config and compressed layers
  bool pinned = false;                    // garbage collection leaves it alone
  WallTime pulled_at;
  ImageRunConfig config;
  std::vector<ImageLayer> layers;  // bottom first
};

// What a container's root file system is mounted from (overlayfs).
struct OverlayDescription {
  std::vector<std::string> lower_dirs;  // absolute, topmost first; at least one
  // A directory of the container's own, for what it writes; it exists and is empty at first.
  std::string writable_dir;
};

}  // namespace skiff::runtime

// ImageStore: the images of this machine, from the registry to the directories that overlayfs
// mounts.
//
// Everything lies below one root directory (see paths in image_store.cc):
//   blobs/sha256/HEX       content as the registry serves it, named by its digest
//   layers/KEY/fs          unpacked layers, shared by the images that have them
//   snapshots/ID           what a container writes
//   snapshot-records/ID    what it stands on; written before the former is made, removed after it
//   mount-points           below the layers of all containers: what every one has mounts on
//   images.json            the records: images, their names, their layers
//   staging/               unfinished work; emptied at Open
// A directory or blob is renamed into place only when it is whole and synced, and images.json is
// written only after what it names: kill -9 and power cuts leave either the old state or the new.
//
// All calls are thread-safe and block on disk and network: call them from a pool made for that.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "runtime/image/byte_source.h"
#include "runtime/image/image.h"
#include "runtime/image/registry_settings.h"

namespace skiff::runtime {

// How far a pull is. Bytes are of compressed layers.
struct PullProgress {
  uint64_t bytes_done = 0;
  uint64_t bytes_total = 0;
  size_t layers_done = 0;
  size_t layers_total = 0;
};

struct PullRequest {
  std::string reference;  // as people write it
  RegistryCredentials credentials;
  std::function<void(const PullProgress&)> on_progress;  // from the pulling threads; may be empty
  const std::atomic<bool>* cancelled = nullptr;          // Cancelled soon after it turns true
};

struct ImageUsage {
  uint64_t used_bytes = 0;
  uint64_t inodes_used = 0;
};

class ImageStore {
 public:
  struct Options {
    std::string root;  // "/var/lib/skiff/images"
    RegistrySettings registries;
    Platform platform = Platform::Host();
    int parallel_layers = 3;
    uint64_t max_layer_bytes = uint64_t{64} << 30;  // unpacked; against bombs
    std::vector<std::string> pinned;                // references whose images are pinned
    const Clock* clock = &Clock::Real();
  };
  // Reads the records, drops what is not whole, removes unfinished work. One process a root
  // (FailedPrecondition when another one has it open).
  static Result<std::unique_ptr<ImageStore>> Open(Options options);
  virtual ~ImageStore() = default;

  // Fetches and unpacks the image unless it is here already, and names it. The manifest is asked
  // for each time, so a moved tag is seen. NotFound: no such image. Unauthenticated and
  // PermissionDenied: the registry's word. Unavailable: no registry answered.
  virtual Result<std::shared_ptr<const Image>> Pull(const PullRequest& request) = 0;

  // Takes in an OCI layout archive or a `docker save` archive (plain, gzip or zstd tar), with the
  // names that it gives; or, where a name is given here, with that one alone. Returns the images it
  // held. InvalidArgument: neither format, or the name is none, or it is to name several images.
  virtual Result<std::vector<std::shared_ptr<const Image>>> Import(ByteSource& archive,
                                                                   const std::string& name) = 0;
  // Writes the images that the references name as one OCI layout archive that `docker load`
  // understands, too.
  virtual Result<> Export(const std::vector<std::string>& references, int archive_fd) = 0;

  // By reference (any spelling), by id ("sha256:HEX", HEX, or a prefix of 12 digits or more that
  // is unique). Null when there is none.
  virtual std::shared_ptr<const Image> Find(std::string_view reference_or_id) const = 0;
  virtual std::vector<std::shared_ptr<const Image>> List() const = 0;
  // Removes the image with all its names, whichever of them is given. One that is not there is a
  // success. Layers that containers still stand on stay until those are gone.
  virtual Result<> Remove(std::string_view reference_or_id) = 0;
  // All bytes below the root but snapshots', from the records: nothing is walked.
  virtual ImageUsage Usage() const = 0;
  virtual const std::string& root() const = 0;

  // The writable layer of a container: recorded with the layers below it, which stay while it
  // does. Idempotent for the same id and image. id: [a-zA-Z0-9_-]{1,128}.
  virtual Result<OverlayDescription> CreateSnapshot(const std::string& id,
                                                    const Digest& image_id) = 0;
  virtual Result<OverlayDescription> FindSnapshot(const std::string& id) const = 0;
  // What the container wrote is gone afterwards; no such snapshot is a success.
  virtual Result<> DeleteSnapshot(const std::string& id) = 0;
  virtual std::vector<std::string> ListSnapshots() const = 0;
};

}  // namespace skiff::runtime

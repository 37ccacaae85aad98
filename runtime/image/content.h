// Content: the directories of the image store on disk, and the rules by which files get into them.
//
// Whatever is under blobs/ and layers/ is whole: it was written in staging/, synced, and renamed.
// Thread-safe: names are digests or random, and renames are atomic.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/os/files.h"
#include "base/os/unique_fd.h"
#include "base/result.h"
#include "runtime/image/byte_source.h"
#include "runtime/image/digest.h"
#include "runtime/image/layer_writer.h"

namespace skiff::runtime {

// What layers/KEY/layer.json says.
struct LayerRecord {
  Digest diff_id;
  uint64_t disk_bytes = 0;
  uint64_t inodes = 0;
};

// A layer that is unpacked and not yet in its place.
struct StagedLayer {
  std::string directory;  // in staging/, with fs/ in it
  Digest diff_id;
  LayerContents contents;
};

class Content {
 public:
  // Makes the directories, takes the lock (FailedPrecondition when another process has it),
  // empties staging/ and reads the layer records.
  static Result<std::unique_ptr<Content>> Open(const std::string& root, bool rootless);

  const std::string& root() const { return root_; }
  std::string BlobPath(const Digest& digest) const;
  std::string LayerPath(const std::string& key) const;  // …/fs
  std::string SnapshotPath(const std::string& id) const;
  std::string SnapshotRecordPath(const std::string& id) const;
  // A new name in staging/; nothing is made.
  std::string StagingPath(std::string_view kind) const;

  // Whether the blob is there with its size.
  bool HasBlob(const Digest& digest, uint64_t size_bytes) const;
  // The bytes of a small blob, verified. NotFound, DataLoss.
  Result<std::string> ReadBlob(const Digest& digest, uint64_t limit_bytes) const;
  // Puts a small blob in its place, synced.
  Result<> WriteBlob(const Digest& digest, std::string_view bytes);
  // Puts a finished file of staging/ in its place as a blob; its bytes must be verified already.
  Result<> PublishBlob(const std::string& staged, const Digest& digest);

  // Unpacks a layer's bytes as the registry gives them; DataLoss when they are not the diff id's.
  Result<StagedLayer> Unpack(ByteSource& packed, const Digest& diff_id, uint64_t max_bytes);
  // Puts it in its place. lower_keys: the layers below, topmost first, from which implicit
  // directories take their looks. Returns the key.
  Result<std::string> PublishLayer(const StagedLayer& layer, const Digest& chain_id,
                                   const std::vector<std::string>& lower_keys);
  // The key under which a layer is here, if it is: by its own digest, or that of the chain of
  // layers up to it where its looks depend on those.
  std::optional<std::string> FindLayer(const Digest& diff_id, const Digest& chain_id) const;
  std::optional<LayerRecord> Layer(const std::string& key) const;
  std::vector<std::string> Layers() const;
  std::vector<Digest> Blobs() const;
  uint64_t BlobBytes() const;  // of all blobs

  // Takes the tree out of sight by a rename into staging/, where RemoveTree (or the next Open) has
  // all the time it needs. Returns its new path, "" when there was none.
  Result<std::string> Discard(const std::string& path) const;
  Result<std::string> DiscardLayer(const std::string& key);
  // Removes something of staging/, or remembers it where it cannot be removed now.
  Result<> RemoveStaged(const std::string& path);
  // Tries again with what RemoveStaged could not remove.
  Result<> RemoveLeftovers();
  Result<> DeleteBlob(const Digest& digest);

 private:
  Content(std::string root, bool rootless, UniqueFd lock)
      : root_(std::move(root)), rootless_(rootless), lock_(std::move(lock)) {}
  Result<> LoadLayers();
  Result<> LoadBlobs();
  Result<> SyncAll() const;

  const std::string root_;
  const bool rootless_;
  UniqueFd lock_;
  mutable std::mutex mutex_;  // guards all below
  std::map<std::string, LayerRecord> layers_;
  std::map<Digest, uint64_t> blobs_;
  std::set<std::string> leftovers_;
};

// The chain id of layers up to each one (OCI config.md, "Layer ChainID").
std::vector<Digest> ChainIds(const std::vector<Digest>& diff_ids);

}  // namespace skiff::runtime

#include "runtime/image/content.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cerrno>
#include <nlohmann/json.hpp>

#include "base/failpoint.h"
#include "base/log.h"
#include "base/random.h"

namespace skiff::runtime {
namespace {

using Json = nlohmann::json;
constexpr size_t kMaxLayerRecordBytes = 64 << 10;

// "sha256:ab…" as one file name.
std::string KeyOf(const Digest& digest, std::string_view prefix = "") {
  return std::string(prefix) + std::string(digest.algorithm()) + "-" + std::string(digest.hex());
}

Result<LayerRecord> ReadLayerRecord(const std::string& path) {
  const std::string text = TRY(ReadFile(path, kMaxLayerRecordBytes));
  const Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object() || !json.value("diffId", Json()).is_string()) {
    return Error(Code::kDataLoss, path + " is damaged");
  }
  LayerRecord record;
  record.diff_id = TRY(Digest::Parse(json["diffId"].get<std::string>()));
  record.disk_bytes = json.value("diskBytes", uint64_t{0});
  record.inodes = json.value("inodes", uint64_t{0});
  return record;
}

std::string FormatLayerRecord(const LayerRecord& record) {
  return Json{{"version", 1},
              {"diffId", record.diff_id.text()},
              {"diskBytes", record.disk_bytes},
              {"inodes", record.inodes}}
      .dump();
}

// What a name of a lower layer is, without following a symlink at its end.
Result<struct stat> StatInLayer(int layer, const std::string& path) {
  open_how how{};
  how.flags = O_PATH | O_CLOEXEC | O_NOFOLLOW;
  how.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS;
  const UniqueFd fd(static_cast<int>(syscall(SYS_openat2, layer, path.c_str(), &how, sizeof how)));
  if (!fd.valid()) return Error::Sys(errno, "openat2", path);
  struct stat info {};
  if (fstat(fd.get(), &info) != 0) return Error::Sys(errno, "fstat", path);
  return info;
}

// A directory that no entry describes looks as it does in the layers below; overlayfs would show
// the upper one's looks.
Result<> CopyLooks(const std::string& staged_fs, const std::string& path,
                   const std::vector<std::string>& lower_dirs, bool rootless) {
  for (const std::string& lower : lower_dirs) {
    const UniqueFd layer = TRY(OpenFile(lower, O_PATH | O_DIRECTORY));
    const auto info = StatInLayer(layer.get(), path);
    if (!info.ok()) continue;
    if (!S_ISDIR(info->st_mode)) return {};  // a whiteout or a file: the directory is new here
    const std::string directory = staged_fs + "/" + path;
    if (!rootless && lchown(directory.c_str(), info->st_uid, info->st_gid) != 0) {
      return Error::Sys(errno, "lchown", path);
    }
    if (chmod(directory.c_str(), info->st_mode & 07777) != 0) {
      return Error::Sys(errno, "chmod", path);
    }
    return {};
  }
  return {};
}

}  // namespace

Result<std::unique_ptr<Content>> Content::Open(const std::string& root, bool rootless) {
  TRY(MakeDirectories(root, 0700));
  UniqueFd lock = TRY(OpenFile(root + "/lock", O_RDWR | O_CREAT, 0600));
  if (flock(lock.get(), LOCK_EX | LOCK_NB) != 0) {
    return Error(Code::kFailedPrecondition, "the image store " + root + " is in use");
  }
  std::unique_ptr<Content> content(new Content(root, rootless, std::move(lock)));
  for (const char* name :
       {"blobs/sha256", "blobs/sha512", "layers", "snapshots", "snapshot-records", "staging"}) {
    TRY(MakeDirectories(root + "/" + name, 0700));
  }
  for (const std::string& name : TRY(ListDirectory(root + "/staging"))) {
    if (auto removed = RemoveTree(root + "/staging/" + name); !removed.ok()) {
      log::Warning("leaving unfinished image work behind",
                   {{"name", name}, {"error", removed.error()}});
    }
  }
  // Of a write of images.json that did not finish.
  for (const std::string& name : TRY(ListDirectory(root))) {
    if (name.starts_with("images.json.")) TRY(RemoveFile(root + "/" + name));
  }
  TRY(content->LoadLayers());
  TRY(content->LoadBlobs());
  return content;
}

Result<> Content::LoadLayers() {
  for (const std::string& key : TRY(ListDirectory(root_ + "/layers"))) {
    auto record = ReadLayerRecord(root_ + "/layers/" + key + "/layer.json");
    if (record.ok() && PathExists(LayerPath(key))) {
      layers_[key] = *std::move(record);
    } else {
      log::Warning("removing a damaged image layer", {{"layer", key}});
      const std::string trash = TRY(Discard(root_ + "/layers/" + key));
      TRY(RemoveTree(trash));
    }
  }
  return {};
}

Result<> Content::LoadBlobs() {
  for (const char* algorithm : {"sha256", "sha512"}) {
    const std::string directory = root_ + "/blobs/" + algorithm;
    for (const std::string& hex : TRY(ListDirectory(directory))) {
      auto digest = Digest::Parse(std::string(algorithm) + ":" + hex);
      struct stat info {};
      if (!digest.ok() || lstat((directory + "/" + hex).c_str(), &info) != 0) {
        TRY(RemoveFile(directory + "/" + hex));
        continue;
      }
      blobs_[*digest] = static_cast<uint64_t>(info.st_size);
    }
  }
  return {};
}

std::string Content::BlobPath(const Digest& digest) const {
  return root_ + "/blobs/" + std::string(digest.algorithm()) + "/" + std::string(digest.hex());
}
std::string Content::LayerPath(const std::string& key) const {
  return root_ + "/layers/" + key + "/fs";
}
std::string Content::SnapshotPath(const std::string& id) const {
  return root_ + "/snapshots/" + id;
}
std::string Content::SnapshotRecordPath(const std::string& id) const {
  return root_ + "/snapshot-records/" + id;
}
std::string Content::StagingPath(std::string_view kind) const {
  return root_ + "/staging/" + std::string(kind) + "-" + RandomHex(8);
}

bool Content::HasBlob(const Digest& digest, uint64_t size_bytes) const {
  std::lock_guard lock(mutex_);
  const auto it = blobs_.find(digest);
  return it != blobs_.end() && it->second == size_bytes;
}

Result<std::string> Content::ReadBlob(const Digest& digest, uint64_t limit_bytes) const {
  std::string bytes = TRY(ReadFile(BlobPath(digest), limit_bytes));
  Hasher hasher(digest.algorithm());
  hasher.Update(bytes);
  if (hasher.Finish() != digest) {
    return Error(Code::kDataLoss, "blob " + digest.text() + " is damaged");
  }
  return bytes;
}

Result<> Content::WriteBlob(const Digest& digest, std::string_view bytes) {
  if (HasBlob(digest, bytes.size())) return {};
  TRY(WriteFileAtomic(BlobPath(digest), bytes, Durability::kPower));
  std::lock_guard lock(mutex_);
  blobs_[digest] = bytes.size();
  return {};
}

Result<> Content::PublishBlob(const std::string& staged, const Digest& digest) {
  const UniqueFd file = TRY(OpenFile(staged, O_RDONLY));
  struct stat info {};
  if (fstat(file.get(), &info) != 0) return Error::Sys(errno, "fstat", staged);
  if (fsync(file.get()) != 0) return Error::Sys(errno, "fsync", staged);
  const std::string path = BlobPath(digest);
  TRY(failpoint::Reach("publish blob", path));
  if (rename(staged.c_str(), path.c_str()) != 0) return Error::Sys(errno, "rename", path);
  TRY(SyncDirectory(root_ + "/blobs/" + std::string(digest.algorithm())));
  std::lock_guard lock(mutex_);
  blobs_[digest] = static_cast<uint64_t>(info.st_size);
  return {};
}

Result<StagedLayer> Content::Unpack(ByteSource& packed, const Digest& diff_id, uint64_t max_bytes) {
  StagedLayer layer{StagingPath("layer"), diff_id, {}};
  const std::string fs = layer.directory + "/fs";
  TRY(MakeDirectories(fs, 0755));
  auto outcome = [&]() -> Result<> {
    InflatingSource inflated(packed);
    HashingSource hashed(inflated, diff_id.algorithm(), max_bytes);
    LayerWriterOptions options;
    options.rootless = rootless_;
    layer.contents = TRY(UnpackLayer(hashed, fs, options));
    const Digest found = TRY(hashed.Finish());
    if (found != diff_id) {
      return Error(Code::kDataLoss, "the layer unpacks to " + found.text() +
                                        ", but the image says " + diff_id.text());
    }
    return {};
  }();
  if (!outcome.ok()) {
    (void)RemoveStaged(layer.directory);  // remembered where it fails
    return std::move(outcome).error();
  }
  return layer;
}

// Everything written so far is on disk afterwards: one call for the thousands of files of a layer.
Result<> Content::SyncAll() const {
  if (syncfs(lock_.get()) != 0) return Error::Sys(errno, "syncfs", root_);
  return {};
}

Result<std::string> Content::PublishLayer(const StagedLayer& layer, const Digest& chain_id,
                                          const std::vector<std::string>& lower_keys) {
  const bool depends = !layer.contents.implicit_directories.empty() && !lower_keys.empty();
  if (depends) {
    std::vector<std::string> lower_dirs;
    for (const std::string& key : lower_keys) lower_dirs.push_back(LayerPath(key));
    for (const std::string& path : layer.contents.implicit_directories) {
      TRY(CopyLooks(layer.directory + "/fs", path, lower_dirs, rootless_));
    }
  }
  const std::string key = depends ? KeyOf(chain_id, "chain-") : KeyOf(layer.diff_id);
  const LayerRecord record{layer.diff_id, layer.contents.disk_bytes, layer.contents.inodes};
  TRY(WriteFileAtomic(layer.directory + "/layer.json", FormatLayerRecord(record),
                      Durability::kNone));
  TRY(SyncAll());
  const std::string path = root_ + "/layers/" + key;
  TRY(failpoint::Reach("publish layer", path));
  if (rename(layer.directory.c_str(), path.c_str()) != 0) {
    if (errno != ENOTEMPTY && errno != EEXIST) return Error::Sys(errno, "rename", path);
    (void)RemoveStaged(layer.directory);  // another pull was faster
  }
  TRY(SyncDirectory(root_ + "/layers"));
  std::lock_guard lock(mutex_);
  layers_[key] = record;
  return key;
}

std::optional<std::string> Content::FindLayer(const Digest& diff_id, const Digest& chain_id) const {
  std::lock_guard lock(mutex_);
  for (const std::string& key : {KeyOf(diff_id), KeyOf(chain_id, "chain-")}) {
    if (layers_.contains(key)) return key;
  }
  return std::nullopt;
}

std::optional<LayerRecord> Content::Layer(const std::string& key) const {
  std::lock_guard lock(mutex_);
  const auto it = layers_.find(key);
  return it == layers_.end() ? std::nullopt : std::optional(it->second);
}

std::vector<std::string> Content::Layers() const {
  std::lock_guard lock(mutex_);
  std::vector<std::string> keys;
  for (const auto& [key, record] : layers_) keys.push_back(key);
  return keys;
}

std::vector<Digest> Content::Blobs() const {
  std::lock_guard lock(mutex_);
  std::vector<Digest> digests;
  for (const auto& [digest, size] : blobs_) digests.push_back(digest);
  return digests;
}

uint64_t Content::BlobBytes() const {
  std::lock_guard lock(mutex_);
  uint64_t bytes = 0;
  for (const auto& [digest, size] : blobs_) bytes += size;
  return bytes;
}

Result<std::string> Content::DiscardLayer(const std::string& key) {
  std::string trash = TRY(Discard(root_ + "/layers/" + key));
  std::lock_guard lock(mutex_);
  layers_.erase(key);
  return trash;
}

Result<> Content::DeleteBlob(const Digest& digest) {
  TRY(RemoveFile(BlobPath(digest)));
  std::lock_guard lock(mutex_);
  blobs_.erase(digest);
  return {};
}

Result<> Content::RemoveStaged(const std::string& path) {
  if (path.empty()) return {};
  Result<> removed = RemoveTree(path);
  std::lock_guard lock(mutex_);
  if (removed.ok()) {
    leftovers_.erase(path);
  } else {
    leftovers_.insert(path);
  }
  return removed;
}

Result<> Content::RemoveLeftovers() {
  std::set<std::string> paths;
  {
    std::lock_guard lock(mutex_);
    paths = leftovers_;
  }
  Result<> first;
  for (const std::string& path : paths) {
    Result<> removed = RemoveStaged(path);
    if (first.ok()) first = std::move(removed);
  }
  return first;
}

Result<std::string> Content::Discard(const std::string& path) const {
  TRY(failpoint::Reach("discard", path));
  std::string trash = StagingPath("trash");
  if (rename(path.c_str(), trash.c_str()) == 0) return trash;
  if (errno == ENOENT) return std::string();
  return Error::Sys(errno, "rename", path);
}

std::vector<Digest> ChainIds(const std::vector<Digest>& diff_ids) {
  std::vector<Digest> chain;
  for (const Digest& diff_id : diff_ids) {
    chain.push_back(chain.empty() ? diff_id
                                  : Digest::OfBytes(chain.back().text() + " " + diff_id.text()));
  }
  return chain;
}

}  // namespace skiff::runtime

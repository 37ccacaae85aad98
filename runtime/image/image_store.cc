#include "runtime/image/image_store.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>
#include <set>

#include "base/log.h"
#include "runtime/image/archive.h"
#include "runtime/image/content.h"
#include "runtime/image/layer_installer.h"
#include "runtime/image/manifest.h"
#include "runtime/image/records.h"
#include "runtime/image/reference.h"
#include "runtime/image/registry_client.h"

namespace skiff::runtime {
namespace {

using Json = nlohmann::json;

constexpr size_t kMaxRecordsBytes = 256 << 20;
constexpr size_t kMinIdPrefix = 12;

bool IsHex(std::string_view text) {
  return text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

// Below all layers of every container is what every container has something mounted on, so that
// it is not made in each one's writable directory: half the files that a container's start makes.
constexpr const char* kMountPoints = "/mount-points";

Result<> MakeMountPoints(const std::string& directory) {
  for (const char* name : {"/dev", "/etc", "/proc", "/sys"}) {
    TRY(MakeDirectories(directory + name, 0755));
  }
  for (const char* name : {"/etc/hostname", "/etc/hosts", "/etc/resolv.conf"}) {
    TRY(OpenFile(directory + name, O_WRONLY | O_CREAT, 0644));
  }
  return {};
}

bool IsSnapshotId(std::string_view id) {
  return !id.empty() && id.size() <= 128 && id.front() != '.' &&
         std::all_of(id.begin(), id.end(), [](unsigned char c) {
           return std::isalnum(c) != 0 || c == '_' || c == '-' || c == '.';
         });
}

void AddUnique(std::vector<std::string>* list, const std::string& text) {
  if (std::find(list->begin(), list->end(), text) == list->end()) list->push_back(text);
}

// What a container stands on, as snapshot-records/ID says.
struct SnapshotRecord {
  Digest image_id;
  std::vector<std::string> layer_keys;  // bottom first
};

std::string FormatSnapshot(const SnapshotRecord& record) {
  return Json{{"version", 1}, {"image", record.image_id.text()}, {"layers", record.layer_keys}}
      .dump();
}

Result<SnapshotRecord> ReadSnapshot(const std::string& path) {
  const std::string text = TRY(ReadFile(path, 1 << 20));
  SnapshotRecord record;
  try {
    const Json json = Json::parse(text);
    record.image_id = TRY(Digest::Parse(json.at("image").get<std::string>()));
    record.layer_keys = json.at("layers").get<std::vector<std::string>>();
  } catch (const Json::exception& e) {
    return Error(Code::kDataLoss, path + ": " + e.what());
  }
  return record;
}

class DiskImageStore : public ImageStore {
 public:
  DiskImageStore(Options options, std::unique_ptr<Content> content)
      : options_(std::move(options)),
        content_(std::move(content)),
        client_({.settings = options_.registries, .clock = options_.clock}),
        installer_(*content_, options_.parallel_layers, options_.max_layer_bytes) {
    for (const std::string& text : options_.pinned) {
      if (auto reference = ImageReference::Parse(text); reference.ok()) {
        pinned_.insert(reference->ToString());
      }
    }
  }

  Result<> Load();

  Result<std::shared_ptr<const Image>> Pull(const PullRequest& request) override;
  Result<std::vector<std::shared_ptr<const Image>>> Import(ByteSource& archive,
                                                           const std::string& name) override;
  Result<> Export(const std::vector<std::string>& references, int archive_fd) override;

  std::shared_ptr<const Image> Find(std::string_view text) const override {
    std::lock_guard lock(mutex_);
    return FindLocked(text);
  }
  std::vector<std::shared_ptr<const Image>> List() const override;
  Result<> Remove(std::string_view reference_or_id) override;
  ImageUsage Usage() const override;
  const std::string& root() const override { return content_->root(); }

  Result<OverlayDescription> CreateSnapshot(const std::string& id, const Digest& image_id) override;
  Result<OverlayDescription> FindSnapshot(const std::string& id) const override;
  Result<> DeleteSnapshot(const std::string& id) override;
  std::vector<std::string> ListSnapshots() const override;

 private:
  using ImagePtr = std::shared_ptr<const Image>;
  // While one lives, nothing that is not yet recorded is collected.
  class Intake {
   public:
    explicit Intake(DiskImageStore& store) : store_(store) {
      std::lock_guard lock(store_.mutex_);
      ++store_.intakes_;
    }
    ~Intake() {
      {
        std::lock_guard lock(store_.mutex_);
        --store_.intakes_;
      }
      store_.CollectGarbage();
    }
    Intake(const Intake&) = delete;
    Intake& operator=(const Intake&) = delete;

   private:
    DiskImageStore& store_;
  };

  ImagePtr FindLocked(std::string_view text) const;
  Result<ImagePtr> Check(Image image) const;
  Result<> LoadSnapshots();
  Result<ImagePtr> TakeIn(const std::string& manifest_bytes, const Digest& named_digest,
                          const LayerInstaller::BlobReader& read_blob,
                          const std::function<Result<std::string>(const Descriptor&)>& read_config,
                          const std::function<void(const PullProgress&)>& on_progress);
  Result<ImagePtr> NameAgain(const ImagePtr& image, const ImageReference& reference,
                             const Digest& named_digest);
  void RememberLocked(std::map<Digest, ImagePtr> images);
  void CollectGarbage();
  OverlayDescription Describe(const std::string& id, const SnapshotRecord& record) const;

  const Options options_;
  const std::unique_ptr<Content> content_;
  RegistryClient client_;
  LayerInstaller installer_;
  std::set<std::string> pinned_;

  mutable std::mutex mutex_;  // guards all below; held over writing images.json
  std::map<Digest, ImagePtr> images_;
  std::map<std::string, Digest> names_;  // tags and digests to ids
  std::map<std::string, SnapshotRecord> snapshots_;
  int intakes_ = 0;
};

Result<> DiskImageStore::Load() {
  TRY(MakeMountPoints(content_->root() + kMountPoints));
  auto text = ReadFile(content_->root() + "/images.json", kMaxRecordsBytes);
  if (!text.ok() && text.error().code() != Code::kNotFound) return std::move(text).error();
  std::vector<Image> records;
  if (text.ok()) records = TRY(ParseRecords(*text));
  std::map<Digest, ImagePtr> images;
  for (Image& record : records) {
    const std::string id = record.id.text();
    auto checked = Check(std::move(record));
    if (checked.ok()) {
      images[(*checked)->id] = *std::move(checked);
    } else {
      log::Warning("forgetting a damaged image; it will be pulled again",
                   {{"image", id}, {"error", checked.error()}});
    }
  }
  {
    std::lock_guard lock(mutex_);
    RememberLocked(std::move(images));
  }
  TRY(LoadSnapshots());
  CollectGarbage();
  return {};
}

// The image with its config, if all that its record names is there.
Result<DiskImageStore::ImagePtr> DiskImageStore::Check(Image image) const {
  TRY(content_->ReadBlob(image.manifest, kMaxManifestBytes));
  const std::string config = TRY(content_->ReadBlob(image.id, kMaxConfigBytes));
  image.config = TRY(ParseConfig(config)).run;
  for (const ImageLayer& layer : image.layers) {
    if (!content_->Layer(layer.key)) return Error(Code::kDataLoss, "no layer " + layer.key);
  }
  return std::make_shared<const Image>(std::move(image));
}

Result<> DiskImageStore::LoadSnapshots() {
  std::lock_guard lock(mutex_);
  for (const std::string& id : TRY(ListDirectory(content_->root() + "/snapshot-records"))) {
    const std::string path = content_->SnapshotRecordPath(id);
    if (auto record = ReadSnapshot(path); record.ok()) {
      snapshots_[id] = *std::move(record);
    } else {
      TRY(RemoveFile(path));
    }
  }
  for (const std::string& id : TRY(ListDirectory(content_->root() + "/snapshots"))) {
    if (snapshots_.contains(id)) continue;
    // Removed halfway: nobody stands on it.
    const std::string trash = TRY(content_->Discard(content_->SnapshotPath(id)));
    TRY(RemoveTree(trash));
  }
  return {};
}

DiskImageStore::ImagePtr DiskImageStore::FindLocked(std::string_view text) const {
  if (const auto id = Digest::Parse(text); id.ok()) {
    const auto it = images_.find(*id);
    return it == images_.end() ? nullptr : it->second;
  }
  if (const auto reference = ImageReference::Parse(text); reference.ok()) {
    const auto it = names_.find(reference->ToString());
    if (it != names_.end()) return images_.at(it->second);
  }
  if (text.starts_with("sha256:")) text.remove_prefix(7);
  if (text.size() < kMinIdPrefix || !IsHex(text)) return nullptr;
  ImagePtr found;
  for (const auto& [id, image] : images_) {
    if (!id.hex().starts_with(text)) continue;
    if (found != nullptr) return nullptr;
    found = image;
  }
  return found;
}

std::vector<DiskImageStore::ImagePtr> DiskImageStore::List() const {
  std::lock_guard lock(mutex_);
  std::vector<ImagePtr> list;
  for (const auto& [id, image] : images_) list.push_back(image);
  return list;
}

ImageUsage DiskImageStore::Usage() const {
  ImageUsage usage{content_->BlobBytes(), content_->Blobs().size()};
  for (const std::string& key : content_->Layers()) {
    const auto layer = content_->Layer(key);
    if (!layer) continue;
    usage.used_bytes += layer->disk_bytes;
    usage.inodes_used += layer->inodes;
  }
  return usage;
}

// ---- taking images in ----

Result<DiskImageStore::ImagePtr> DiskImageStore::Pull(const PullRequest& request) {
  const ImageReference reference = TRY(ImageReference::Parse(request.reference));
  const ImagePtr known = Find(request.reference);
  // What a digest names never changes.
  if (known != nullptr && !reference.digest.empty()) return known;
  const RegistrySession session{reference, request.credentials, request.cancelled};
  if (known != nullptr) {
    const Digest now = TRY(client_.ResolveTag(session));
    const auto& digests = known->repo_digests;
    if (!now.empty() &&
        std::find(digests.begin(), digests.end(), reference.WithDigest(now)) != digests.end()) {
      return known;
    }
  }
  const Intake intake(*this);
  RegistryDocument document = TRY(client_.FetchManifest(
      session, reference.digest.empty() ? reference.tag : reference.digest.text()));
  const Digest named = document.digest;
  if (TRY(ClassifyDocument(document.bytes, document.media_type)) == DocumentKind::kIndex) {
    const ImageIndex index = TRY(ParseIndex(document.bytes));
    const Descriptor chosen =
        TRY(ChooseManifest(index, options_.platform).With(reference.ToString()));
    document = TRY(client_.FetchManifest(session, chosen.digest.text()));
    if (TRY(ClassifyDocument(document.bytes, document.media_type)) != DocumentKind::kManifest) {
      return Error(Code::kUnimplemented, reference.ToString() + ": an index within an index");
    }
  }
  const auto read_blob = [&](const Descriptor& blob, const ByteSink& sink) {
    return client_.FetchBlob(session, blob, sink);
  };
  const auto read_config = [&](const Descriptor& blob) -> Result<std::string> {
    std::string bytes;
    TRY(client_.FetchBlob(session, blob, [&](std::string_view more) -> Result<> {
      bytes.append(more);
      return {};
    }));
    return bytes;
  };
  const ImagePtr image =
      TRY(TakeIn(document.bytes, document.digest, read_blob, read_config, request.on_progress)
              .With(reference.ToString()));
  return NameAgain(image, reference, named);
}

// Brings config and layers of a manifest here; the image is recorded once it has a name.
Result<DiskImageStore::ImagePtr> DiskImageStore::TakeIn(
    const std::string& manifest_bytes, const Digest& manifest_digest,
    const LayerInstaller::BlobReader& read_blob,
    const std::function<Result<std::string>(const Descriptor&)>& read_config,
    const std::function<void(const PullProgress&)>& on_progress) {
  const ImageManifest manifest = TRY(ParseManifest(manifest_bytes));
  for (const Descriptor& layer : manifest.layers) TRY(CheckLayerType(layer.media_type));
  auto config = content_->ReadBlob(manifest.config.digest, kMaxConfigBytes);
  if (!config.ok()) {
    config = TRY(read_config(manifest.config));
    Hasher hasher(manifest.config.digest.algorithm());
    hasher.Update(*config);
    if (hasher.Finish() != manifest.config.digest) {
      return Error(Code::kDataLoss, "the config is not " + manifest.config.digest.text());
    }
  }
  const ParsedConfig parsed = TRY(ParseConfig(*config));
  Image image;
  image.id = manifest.config.digest;
  image.manifest = manifest_digest;
  image.platform = parsed.platform;
  image.config = parsed.run;
  image.size_bytes = manifest.config.size_bytes;
  for (const Descriptor& layer : manifest.layers) image.size_bytes += layer.size_bytes;
  image.pulled_at = options_.clock->WallNow();
  image.layers = TRY(installer_.Install({manifest, parsed.diff_ids, read_blob, on_progress}));
  TRY(content_->WriteBlob(image.id, *config));
  TRY(content_->WriteBlob(image.manifest, manifest_bytes));
  return std::make_shared<const Image>(std::move(image));
}

// Records the image under a name, besides those that it has if it is known already; whoever had the
// tag loses it.
Result<DiskImageStore::ImagePtr> DiskImageStore::NameAgain(const ImagePtr& image,
                                                           const ImageReference& reference,
                                                           const Digest& named_digest) {
  std::lock_guard lock(mutex_);
  std::map<Digest, ImagePtr> images = images_;
  const std::string tag = reference.Tagged();
  for (auto& [id, other] : images) {
    const auto& tags = other->repo_tags;
    if (tag.empty() || id == image->id || std::find(tags.begin(), tags.end(), tag) == tags.end()) {
      continue;
    }
    Image without = *other;
    std::erase(without.repo_tags, tag);
    other = std::make_shared<const Image>(std::move(without));
  }
  const auto it = images.find(image->id);
  Image named = *image;
  if (it != images.end()) {
    named.repo_tags = it->second->repo_tags;
    named.repo_digests = it->second->repo_digests;
    named.pinned = it->second->pinned;
  }
  if (!tag.empty()) AddUnique(&named.repo_tags, tag);
  if (!named_digest.empty()) AddUnique(&named.repo_digests, reference.WithDigest(named_digest));
  named.pinned = named.pinned || pinned_.contains(tag) || pinned_.contains(reference.ToString());
  auto result = std::make_shared<const Image>(std::move(named));
  images[result->id] = result;
  std::vector<Image> records;
  for (const auto& [id, entry] : images) records.push_back(*entry);
  TRY(WriteFileAtomic(content_->root() + "/images.json", FormatRecords(records)));
  RememberLocked(std::move(images));
  return ImagePtr(result);
}

void DiskImageStore::RememberLocked(std::map<Digest, ImagePtr> images) {
  images_ = std::move(images);
  names_.clear();
  for (const auto& [id, image] : images_) {
    for (const std::string& tag : image->repo_tags) names_[tag] = id;
    for (const std::string& digest : image->repo_digests) names_[digest] = id;
  }
}

namespace {

// Gives the archive's image the name, in place of its own. An image with several names may stand
// there once for each.
Result<> Rename(const std::string& name, std::vector<ArchivedImage>* images) {
  if (images->empty()) return {};
  for (const ArchivedImage& image : *images) {
    if (image.manifest_bytes != images->front().manifest_bytes) {
      return Error(Code::kInvalidArgument,
                   "the archive has several images, which one name cannot name");
    }
  }
  images->resize(1);
  images->front().names = {name};
  return {};
}

}  // namespace

Result<std::vector<DiskImageStore::ImagePtr>> DiskImageStore::Import(ByteSource& archive,
                                                                     const std::string& name) {
  if (!name.empty() && !TRY(ImageReference::Parse(name)).digest.empty()) {
    return Error(Code::kInvalidArgument, "the name " + name + " has a digest: name it by a tag");
  }
  const Intake intake(*this);
  const auto unavailable = [](const Descriptor& blob) {
    return Error(Code::kInvalidArgument, "the archive lacks blob " + blob.digest.text());
  };
  auto archived_images = TRY(ReadImageArchive(*content_, archive, options_.platform));
  if (!name.empty()) TRY(Rename(name, &archived_images));
  std::vector<ImagePtr> result;
  for (const ArchivedImage& archived : archived_images) {
    std::vector<ImageReference> references;
    for (const std::string& text : archived.names) {
      references.push_back(TRY(ImageReference::Parse(text)));
    }
    ImagePtr image = TRY(TakeIn(
        archived.manifest_bytes, Digest::OfBytes(archived.manifest_bytes),
        [&](const Descriptor& blob, const ByteSink&) -> Result<> { return unavailable(blob); },
        [&](const Descriptor& blob) -> Result<std::string> { return unavailable(blob); }, {}));
    if (references.empty()) {
      // Nameless: known by its id alone, under a name that no registry has.
      references.push_back({"import.local", "image", "", archived.manifest_digest});
    }
    for (const ImageReference& reference : references) {
      const bool with_digest = archived.names_digest || reference.tag.empty();
      image = TRY(NameAgain(image, reference, with_digest ? archived.manifest_digest : Digest()));
    }
    result.push_back(image);
  }
  return result;
}

Result<> DiskImageStore::Export(const std::vector<std::string>& references, int archive_fd) {
  const Intake intake(*this);  // nothing that is being written goes away
  std::vector<ImagePtr> images;
  std::map<std::string, Digest> names;
  for (const std::string& text : references) {
    const ImagePtr image = Find(text);
    if (image == nullptr) return Error(Code::kNotFound, "no image " + text);
    if (std::find(images.begin(), images.end(), image) == images.end()) images.push_back(image);
    const auto reference = ImageReference::Parse(text);
    if (reference.ok() && !reference->tag.empty()) names[reference->Tagged()] = image->id;
  }
  return WriteImageArchive(*content_, images, names, archive_fd);
}

// ---- removing ----

Result<> DiskImageStore::Remove(std::string_view reference_or_id) {
  {
    std::lock_guard lock(mutex_);
    if (const ImagePtr image = FindLocked(reference_or_id); image != nullptr) {
      std::map<Digest, ImagePtr> images = images_;
      images.erase(image->id);
      std::vector<Image> records;
      for (const auto& [id, entry] : images) records.push_back(*entry);
      TRY(WriteFileAtomic(content_->root() + "/images.json", FormatRecords(records)));
      RememberLocked(std::move(images));
    }
  }
  // Also where there is no such image: an earlier removal may have left something.
  CollectGarbage();
  return {};
}

// Removes the blobs and layers that no image and no snapshot names. While something is taken in,
// its parts are not yet named: whoever ends last collects.
void DiskImageStore::CollectGarbage() {
  std::vector<std::string> trash;
  {
    std::lock_guard lock(mutex_);
    if (intakes_ > 0) return;
    std::set<std::string> keys;
    std::set<Digest> blobs;
    for (const auto& [id, image] : images_) {
      blobs.insert(image->id);
      blobs.insert(image->manifest);
      for (const ImageLayer& layer : image->layers) {
        keys.insert(layer.key);
        blobs.insert(layer.blob);
      }
    }
    for (const auto& [id, snapshot] : snapshots_) {
      keys.insert(snapshot.layer_keys.begin(), snapshot.layer_keys.end());
    }
    for (const std::string& key : content_->Layers()) {
      if (keys.contains(key)) continue;
      auto moved = content_->DiscardLayer(key);
      if (moved.ok()) trash.push_back(*moved);
    }
    for (const Digest& digest : content_->Blobs()) {
      // A failure leaves the file for the next collection.
      if (!blobs.contains(digest)) (void)content_->DeleteBlob(digest);
    }
  }
  for (const std::string& path : trash) {
    (void)content_->RemoveStaged(path);  // remembered where it fails
  }
  if (auto removed = content_->RemoveLeftovers(); !removed.ok()) {
    log::Warning("removed image data is still on disk; trying again later",
                 {{"error", removed.error()}});
  }
}

// ---- snapshots ----

OverlayDescription DiskImageStore::Describe(const std::string& id,
                                            const SnapshotRecord& record) const {
  OverlayDescription overlay;
  for (auto key = record.layer_keys.rbegin(); key != record.layer_keys.rend(); ++key) {
    overlay.lower_dirs.push_back(content_->LayerPath(*key));
  }
  overlay.lower_dirs.push_back(content_->root() + kMountPoints);
  overlay.writable_dir = content_->SnapshotPath(id);
  return overlay;
}

Result<OverlayDescription> DiskImageStore::CreateSnapshot(const std::string& id,
                                                          const Digest& image_id) {
  if (!IsSnapshotId(id)) return Error(Code::kInvalidArgument, "bad snapshot id \"" + id + "\"");
  std::lock_guard lock(mutex_);
  if (const auto it = snapshots_.find(id); it != snapshots_.end()) {
    if (it->second.image_id == image_id) return Describe(id, it->second);
    return Error(Code::kAlreadyExists, "snapshot " + id + " stands on another image");
  }
  const auto image = images_.find(image_id);
  if (image == images_.end()) return Error(Code::kNotFound, "no image " + image_id.text());
  SnapshotRecord record{image_id, {}};
  for (const ImageLayer& layer : image->second->layers) record.layer_keys.push_back(layer.key);
  // A container does not outlive the machine's power, so neither need this.
  TRY(WriteFileAtomic(content_->SnapshotRecordPath(id), FormatSnapshot(record), Durability::kNone));
  snapshots_[id] = record;
  TRY(MakeDirectories(content_->SnapshotPath(id), 0711));
  return Describe(id, record);
}

Result<OverlayDescription> DiskImageStore::FindSnapshot(const std::string& id) const {
  std::lock_guard lock(mutex_);
  const auto it = snapshots_.find(id);
  if (it == snapshots_.end()) return Error(Code::kNotFound, "no snapshot " + id);
  return Describe(id, it->second);
}

Result<> DiskImageStore::DeleteSnapshot(const std::string& id) {
  if (!IsSnapshotId(id)) return Error(Code::kInvalidArgument, "bad snapshot id \"" + id + "\"");
  (void)content_->RemoveLeftovers();  // of others: not this caller's trouble
  Result<> removed = RemoveTree(content_->SnapshotPath(id));
  if (!removed.ok()) {
    // Out of the way at least, and remembered.
    removed = content_->RemoveStaged(TRY(content_->Discard(content_->SnapshotPath(id))));
  }
  TRY(RemoveFile(content_->SnapshotRecordPath(id)));
  bool unused = false;
  {
    std::lock_guard lock(mutex_);
    const auto it = snapshots_.find(id);
    if (it != snapshots_.end()) {
      // Only the last container of a removed image leaves something to collect.
      unused = !images_.contains(it->second.image_id);
      snapshots_.erase(it);
    }
  }
  if (unused) CollectGarbage();
  return removed;
}

std::vector<std::string> DiskImageStore::ListSnapshots() const {
  std::lock_guard lock(mutex_);
  std::vector<std::string> ids;
  for (const auto& [id, record] : snapshots_) ids.push_back(id);
  return ids;
}

}  // namespace

Result<std::unique_ptr<ImageStore>> ImageStore::Open(Options options) {
  TRY(options.registries.Check());
  auto content = TRY(Content::Open(options.root, /*rootless=*/geteuid() != 0));
  auto store = std::make_unique<DiskImageStore>(std::move(options), std::move(content));
  TRY(store->Load());
  return std::unique_ptr<ImageStore>(std::move(store));
}

}  // namespace skiff::runtime

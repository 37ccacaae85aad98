#include "runtime/image/archive.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstring>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "runtime/image/reference.h"
#include "runtime/image/tar_reader.h"

namespace skiff::runtime {
namespace {

using Json = nlohmann::json;

constexpr size_t kMaxFiles = 100'000;
constexpr int kMaxIndexDepth = 4;
// Of all files together, unpacked: an archive that inflates without end fills no disk.
constexpr uint64_t kMaxArchiveBytes = uint64_t{64} << 30;
constexpr std::string_view kContainerdName = "io.containerd.image.name";
constexpr std::string_view kRefName = "org.opencontainers.image.ref.name";

struct StagedFile {
  std::string path;  // in staging/
  Digest digest;
  uint64_t size_bytes = 0;
};

// The archive unpacked by name into a staging directory that goes with it.
class StagedArchive {
 public:
  StagedArchive(Content& content, std::string directory)
      : content_(content), directory_(std::move(directory)) {}
  ~StagedArchive() { (void)content_.RemoveStaged(directory_); }  // remembered where it fails
  StagedArchive(const StagedArchive&) = delete;
  StagedArchive& operator=(const StagedArchive&) = delete;

  Result<> Read(ByteSource& archive) {
    TRY(MakeDirectories(directory_, 0700));
    InflatingSource inflated(archive);
    TarReader reader(inflated);
    while (auto entry = TRY(reader.Next().With("not a whole tar archive"))) {
      const std::string path = TRY(CleanLayerPath(entry->path));
      if (files_.size() + links_.size() >= kMaxFiles) {
        return Error(Code::kResourceExhausted, "the archive has too many files");
      }
      if (entry->type == TarType::kFile) TRY(Stage(path, reader).With(path));
      // docker writes a layer it has already written as a link to that one.
      if (entry->type == TarType::kSymlink) {
        const size_t slash = path.rfind('/');
        const std::string base = slash == std::string::npos ? "" : path.substr(0, slash + 1);
        links_[path] = TRY(CleanLayerPath(base + entry->link_target));
      }
      if (entry->type == TarType::kHardlink) {
        links_[path] = TRY(CleanLayerPath(entry->link_target));
      }
    }
    return {};
  }

  const StagedFile* Find(const std::string& path) const {
    const auto link = links_.find(path);
    const auto it = files_.find(link == links_.end() ? path : link->second);
    return it == files_.end() ? nullptr : &it->second;
  }
  const StagedFile* FindBlob(const Digest& digest) const {
    return Find("blobs/" + std::string(digest.algorithm()) + "/" + std::string(digest.hex()));
  }
  Result<std::string> Text(const std::string& path, uint64_t limit_bytes) const {
    const StagedFile* file = Find(path);
    if (file == nullptr) return Error(Code::kNotFound, "the archive has no " + path);
    return ReadFile(file->path, limit_bytes).With(path);
  }
  // Puts a blob into the store, unless it is there.
  Result<> Publish(const StagedFile& file) {
    if (content_.HasBlob(file.digest, file.size_bytes)) return {};
    return content_.PublishBlob(file.path, file.digest);
  }

 private:
  Result<> Stage(const std::string& path, TarReader& reader) {
    StagedFile file{directory_ + "/" + std::to_string(files_.size()), {}, 0};
    const UniqueFd fd = TRY(OpenFile(file.path, O_WRONLY | O_CREAT | O_EXCL, 0600));
    const bool sha512 = path.starts_with("blobs/sha512/");
    Hasher hasher(sha512 ? "sha512" : "sha256");
    while (true) {
      const std::string_view data = TRY(reader.ReadData());
      if (data.empty()) break;
      hasher.Update(data);
      if (data.size() > left_bytes_) {
        return Error(Code::kResourceExhausted, "the archive holds more than 64 GiB");
      }
      left_bytes_ -= data.size();
      TRY(WriteAll(fd.get(), data).With(file.path));
      file.size_bytes += data.size();
    }
    file.digest = hasher.Finish();
    if (path.starts_with("blobs/") && path.substr(path.rfind('/') + 1) != file.digest.hex()) {
      return Error(Code::kDataLoss, "the blob has the digest " + file.digest.text());
    }
    files_[path] = std::move(file);
    return {};
  }

  Content& content_;
  const std::string directory_;
  uint64_t left_bytes_ = kMaxArchiveBytes;
  std::map<std::string, StagedFile> files_;
  std::map<std::string, std::string> links_;
};

// ---- OCI layout ----

Result<> PublishManifestBlobs(StagedArchive& archive, const ImageManifest& manifest) {
  std::vector<Descriptor> blobs = manifest.layers;
  blobs.push_back(manifest.config);
  for (const Descriptor& blob : blobs) {
    const StagedFile* file = archive.FindBlob(blob.digest);
    if (file == nullptr || file->size_bytes != blob.size_bytes) {
      return Error(Code::kInvalidArgument, "the archive lacks blob " + blob.digest.text());
    }
    TRY(archive.Publish(*file));
  }
  return {};
}

// Follows nested indexes down to the platform's manifest.
Result<std::string> ResolveManifest(const StagedArchive& archive, const Descriptor& entry,
                                    const Platform& platform, int depth) {
  if (depth > kMaxIndexDepth) return Error(Code::kInvalidArgument, "indexes nested too deep");
  const StagedFile* file = archive.FindBlob(entry.digest);
  if (file == nullptr) {
    return Error(Code::kInvalidArgument, "the archive lacks manifest " + entry.digest.text());
  }
  std::string bytes = TRY(ReadFile(file->path, kMaxManifestBytes));
  if (TRY(ClassifyDocument(bytes, entry.media_type)) == DocumentKind::kManifest) return bytes;
  const ImageIndex index = TRY(ParseIndex(bytes));
  const Descriptor chosen = TRY(ChooseManifest(index, platform));
  return ResolveManifest(archive, chosen, platform, depth + 1);
}

std::vector<std::string> NamesOf(const Descriptor& entry) {
  if (const auto it = entry.annotations.find(std::string(kContainerdName));
      it != entry.annotations.end()) {
    return {it->second};
  }
  const auto it = entry.annotations.find(std::string(kRefName));
  // A bare tag names nothing by itself.
  if (it == entry.annotations.end() || it->second.find_first_of("/:") == std::string::npos) {
    return {};
  }
  return {it->second};
}

Result<std::vector<ArchivedImage>> ReadLayout(StagedArchive& archive, const Platform& platform) {
  const std::string text = TRY(archive.Text("index.json", kMaxManifestBytes));
  const ImageIndex index = TRY(ParseIndex(text).With("index.json"));
  std::vector<ArchivedImage> images;
  for (const Descriptor& entry : index.manifests) {
    ArchivedImage image;
    image.manifest_bytes = TRY(ResolveManifest(archive, entry, platform, 0));
    image.manifest_digest = entry.digest;
    image.names = NamesOf(entry);
    image.names_digest = true;
    const ImageManifest manifest = TRY(ParseManifest(image.manifest_bytes));
    TRY(PublishManifestBlobs(archive, manifest));
    images.push_back(std::move(image));
  }
  return images;
}

// ---- docker save ----

Json MakeDescriptor(std::string_view media_type, const StagedFile& file) {
  return {{"mediaType", media_type}, {"digest", file.digest.text()}, {"size", file.size_bytes}};
}

// The OCI manifest of an image that docker describes by file names.
Result<std::string> SynthesizeManifest(StagedArchive& archive, const std::string& config,
                                       const std::vector<std::string>& layers) {
  const StagedFile* config_file = archive.Find(config);
  if (config_file == nullptr) {
    return Error(Code::kInvalidArgument, "the archive lacks the config " + config);
  }
  TRY(archive.Publish(*config_file));
  Json manifest{{"schemaVersion", 2},
                {"mediaType", kOciManifestType},
                {"config", MakeDescriptor(kOciConfigType, *config_file)},
                {"layers", Json::array()}};
  for (const std::string& path : layers) {
    const StagedFile* layer = archive.Find(path);
    if (layer == nullptr) {
      return Error(Code::kInvalidArgument, "the archive lacks the layer " + path);
    }
    // Unpacking looks at the bytes, so one media type serves packed and plain layers.
    manifest["layers"].push_back(MakeDescriptor("application/vnd.oci.image.layer.v1.tar", *layer));
    TRY(archive.Publish(*layer));
  }
  return manifest.dump();
}

struct DockerEntry {
  std::string config;
  std::vector<std::string> names;
  std::vector<std::string> layers;
};

Result<std::vector<DockerEntry>> ParseDockerManifest(std::string_view text) {
  const Error wrong(Code::kInvalidArgument, "manifest.json is not what docker save writes");
  const Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_array()) return wrong;
  std::vector<DockerEntry> entries;
  for (const Json& item : json) {
    if (!item.is_object() || !item.value("Config", Json()).is_string()) return wrong;
    DockerEntry entry;
    entry.config = TRY(CleanLayerPath(item["Config"].get<std::string>()));
    const auto take = [&](const char* key, std::vector<std::string>* list) -> Result<> {
      const Json values = item.value(key, Json());
      if (values.is_null()) return {};
      if (!values.is_array()) return wrong;
      for (const Json& value : values) {
        if (!value.is_string()) return wrong;
        list->push_back(value.get<std::string>());
      }
      return {};
    };
    TRY(take("RepoTags", &entry.names));
    TRY(take("Layers", &entry.layers));
    for (std::string& layer : entry.layers) layer = TRY(CleanLayerPath(layer));
    if (entry.layers.size() > kMaxLayers) return wrong;
    entries.push_back(std::move(entry));
  }
  return entries;
}

Result<std::vector<ArchivedImage>> ReadDockerSave(StagedArchive& archive) {
  const std::string text = TRY(archive.Text("manifest.json", kMaxManifestBytes));
  std::vector<ArchivedImage> images;
  for (const DockerEntry& entry : TRY(ParseDockerManifest(text))) {
    ArchivedImage image;
    image.manifest_bytes = TRY(SynthesizeManifest(archive, entry.config, entry.layers));
    image.manifest_digest = Digest::OfBytes(image.manifest_bytes);
    image.names = entry.names;
    images.push_back(std::move(image));
  }
  return images;
}

// An archive of a newer docker has both forms; its names stand in docker's.
void AddDockerNames(const StagedArchive& archive, std::vector<ArchivedImage>* images) {
  auto text = archive.Text("manifest.json", kMaxManifestBytes);
  if (!text.ok()) return;
  const auto entries = ParseDockerManifest(*text);
  if (!entries.ok()) return;
  for (ArchivedImage& image : *images) {
    const auto manifest = ParseManifest(image.manifest_bytes);
    if (!manifest.ok() || !image.names.empty()) continue;
    for (const DockerEntry& entry : *entries) {
      const StagedFile* config = archive.Find(entry.config);
      if (config != nullptr && config->digest == manifest->config.digest) {
        image.names = entry.names;
      }
    }
  }
}

// ---- writing ----

// A ustar header of a plain file, the same bytes for the same content.
std::string TarHeader(const std::string& name, uint64_t size) {
  std::array<char, kTarBlockBytes> header{};
  const auto put = [&](size_t at, std::string_view text) {
    std::memcpy(header.data() + at, text.data(), text.size());
  };
  put(0, name);
  put(100, "0000644");
  put(108, "0000000");
  put(116, "0000000");
  std::array<char, 32> number{};
  if (size < uint64_t{1} << 33) {
    std::snprintf(number.data(), number.size(), "%011lo", static_cast<unsigned long>(size));
    put(124, number.data());
  } else {  // base 256, as GNU tar writes what octal cannot hold
    header[124] = static_cast<char>(0x80);
    for (size_t i = 0; i < 8; ++i) header[135 - i] = static_cast<char>(size >> (8 * i) & 0xff);
  }
  put(136, "00000000000");
  put(148, "        ");
  header[156] = '0';
  put(257, std::string_view("ustar\00000", 8));
  unsigned sum = 0;
  for (const char c : header) sum += static_cast<unsigned char>(c);
  std::snprintf(number.data(), number.size(), "%06o", sum);
  put(148, std::string_view(number.data(), 7));
  return std::string(header.data(), header.size());
}

Result<> WritePadding(int fd, uint64_t size) {
  return WriteAll(fd, std::string((kTarBlockBytes - size % kTarBlockBytes) % kTarBlockBytes, '\0'));
}

Result<> WriteTarFile(int fd, const std::string& name, std::string_view bytes) {
  TRY(WriteAll(fd, TarHeader(name, bytes.size())));
  TRY(WriteAll(fd, bytes));
  return WritePadding(fd, bytes.size());
}

std::string BlobName(const Digest& digest) {
  return "blobs/" + std::string(digest.algorithm()) + "/" + std::string(digest.hex());
}

Result<> WriteTarBlob(int fd, const Content& content, const Digest& digest) {
  auto file = OpenFile(content.BlobPath(digest), O_RDONLY);
  if (!file.ok()) return std::move(file).error().With("blob " + digest.text());
  const off_t size = lseek(file->get(), 0, SEEK_END);
  if (size < 0 || lseek(file->get(), 0, SEEK_SET) < 0) return Error::Sys(errno, "lseek");
  TRY(WriteAll(fd, TarHeader(BlobName(digest), static_cast<uint64_t>(size))));
  FileSource source(file->get(), static_cast<uint64_t>(size));
  while (true) {
    const std::string_view bytes = TRY(source.Next());
    if (bytes.empty()) break;
    TRY(WriteAll(fd, bytes));
  }
  return WritePadding(fd, static_cast<uint64_t>(size));
}

}  // namespace

Result<std::vector<ArchivedImage>> ReadImageArchive(Content& content, ByteSource& archive,
                                                    const Platform& platform) {
  StagedArchive staged(content, content.StagingPath("archive"));
  TRY(staged.Read(archive));
  if (staged.Find("index.json") != nullptr) {
    std::vector<ArchivedImage> images = TRY(ReadLayout(staged, platform));
    AddDockerNames(staged, &images);
    return images;
  }
  if (staged.Find("manifest.json") != nullptr) return ReadDockerSave(staged);
  return Error(Code::kInvalidArgument,
               "neither an OCI layout (index.json) nor a docker save archive (manifest.json)");
}

Result<> WriteImageArchive(const Content& content,
                           const std::vector<std::shared_ptr<const Image>>& images,
                           const std::map<std::string, Digest>& names, int fd) {
  Json index{{"schemaVersion", 2}, {"mediaType", kOciIndexType}, {"manifests", Json::array()}};
  Json docker = Json::array();
  std::set<Digest> blobs;
  for (const auto& image : images) {
    const std::string manifest = TRY(content.ReadBlob(image->manifest, kMaxManifestBytes));
    blobs.insert(image->manifest);
    blobs.insert(image->id);
    Json layers = Json::array();
    for (const ImageLayer& layer : image->layers) {
      blobs.insert(layer.blob);
      layers.push_back(BlobName(layer.blob));
    }
    Json tags = Json::array();
    const Json described{{"mediaType", kOciManifestType},
                         {"digest", image->manifest.text()},
                         {"size", manifest.size()}};
    for (const auto& [name, id] : names) {
      if (id != image->id) continue;
      Json entry = described;
      entry["annotations"] = {{kContainerdName, name}, {kRefName, name}};
      index["manifests"].push_back(entry);
      tags.push_back(name);
    }
    if (tags.empty()) index["manifests"].push_back(described);
    docker.push_back({{"Config", BlobName(image->id)}, {"RepoTags", tags}, {"Layers", layers}});
  }
  TRY(WriteTarFile(fd, "oci-layout", R"({"imageLayoutVersion":"1.0.0"})"));
  TRY(WriteTarFile(fd, "index.json", index.dump()));
  TRY(WriteTarFile(fd, "manifest.json", docker.dump()));
  for (const Digest& digest : blobs) TRY(WriteTarBlob(fd, content, digest));
  return WriteAll(fd, std::string(2 * kTarBlockBytes, '\0'));
}

}  // namespace skiff::runtime

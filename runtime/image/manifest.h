// The documents of an image: index, manifest, config (OCI image-spec v1.1 and Docker schema 2),
// parsed from untrusted bytes with limits. Pure; use from any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "runtime/image/image.h"

namespace skiff::runtime {

// Larger documents are refused (registries refuse manifests over 4 MiB).
inline constexpr uint64_t kMaxManifestBytes = 4 << 20;
inline constexpr uint64_t kMaxConfigBytes = 8 << 20;
inline constexpr size_t kMaxLayers = 512;  // overlayfs stacks 500 at most

inline constexpr std::string_view kOciIndexType = "application/vnd.oci.image.index.v1+json";
inline constexpr std::string_view kOciManifestType = "application/vnd.oci.image.manifest.v1+json";
inline constexpr std::string_view kOciConfigType = "application/vnd.oci.image.config.v1+json";
inline constexpr std::string_view kDockerListType =
    "application/vnd.docker.distribution.manifest.list.v2+json";
inline constexpr std::string_view kDockerManifestType =
    "application/vnd.docker.distribution.manifest.v2+json";

struct Descriptor {
  std::string media_type;
  Digest digest;
  uint64_t size_bytes = 0;
  std::optional<Platform> platform;
  std::map<std::string, std::string> annotations;
};

struct ImageManifest {
  Descriptor config;
  std::vector<Descriptor> layers;  // bottom first
};
struct ImageIndex {
  std::vector<Descriptor> manifests;
};

enum class DocumentKind { kIndex, kManifest };
// What a document is, by its own mediaType, else the transport's, else its shape. Unimplemented
// for Docker schema 1 and for artifacts that are no images.
Result<DocumentKind> ClassifyDocument(std::string_view json, std::string_view transport_type);

Result<ImageIndex> ParseIndex(std::string_view json);
Result<ImageManifest> ParseManifest(std::string_view json);

struct ParsedConfig {
  ImageRunConfig run;
  Platform platform;
  std::vector<Digest> diff_ids;
};
Result<ParsedConfig> ParseConfig(std::string_view json);

// The entry for the platform: the same os and architecture, best variant first. An entry without a
// platform is the last choice. NotFound, naming what there is, when none fits.
Result<Descriptor> ChooseManifest(const ImageIndex& index, const Platform& wanted);

// Whether a layer of this media type can be unpacked. Unimplemented for foreign, encrypted and
// unknown ones. How it is compressed is seen from its bytes, since tools mislabel it.
Result<> CheckLayerType(std::string_view media_type);

}  // namespace skiff::runtime

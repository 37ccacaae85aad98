#include "runtime/image/manifest.h"

#include <algorithm>
#include <nlohmann/json.hpp>

namespace skiff::runtime {
namespace {

using Json = nlohmann::json;

constexpr int kMaxDepth = 64;
constexpr size_t kMaxIndexEntries = 1024;

Error Malformed(std::string_view document, std::string_view what) {
  return Error(Code::kInvalidArgument, std::string(document) + ": " + std::string(what));
}

Result<Json> ParseJson(std::string_view text, std::string_view document, uint64_t limit) {
  if (text.size() > limit) return Malformed(document, "too large");
  bool too_deep = false;
  Json json = Json::parse(
      text.begin(), text.end(),
      [&](int depth, Json::parse_event_t, Json&) {
        too_deep = too_deep || depth > kMaxDepth;
        return !too_deep;
      },
      /*allow_exceptions=*/false);
  if (json.is_discarded() || too_deep) return Malformed(document, "not valid JSON");
  if (!json.is_object()) return Malformed(document, "not a JSON object");
  return json;
}

// The member as text; absent and null give "".
Result<std::string> Text(const Json& object, const char* key, std::string_view document) {
  const auto it = object.find(key);
  if (it == object.end() || it->is_null()) return std::string();
  if (!it->is_string()) return Malformed(document, std::string(key) + " is not a string");
  return it->get<std::string>();
}

Result<std::vector<std::string>> TextList(const Json& object, const char* key,
                                          std::string_view document) {
  std::vector<std::string> list;
  const auto it = object.find(key);
  if (it == object.end() || it->is_null()) return list;
  // Docker wrote Cmd and Entrypoint as a plain string at times.
  if (it->is_string()) return std::vector<std::string>{it->get<std::string>()};
  if (!it->is_array()) return Malformed(document, std::string(key) + " is not a list");
  for (const Json& item : *it) {
    if (!item.is_string()) return Malformed(document, std::string(key) + " has a non-string");
    list.push_back(item.get<std::string>());
  }
  return list;
}

Result<std::map<std::string, std::string>> TextMap(const Json& object, const char* key,
                                                   std::string_view document) {
  std::map<std::string, std::string> map;
  const auto it = object.find(key);
  if (it == object.end() || it->is_null()) return map;
  if (!it->is_object()) return Malformed(document, std::string(key) + " is not an object");
  for (const auto& [name, value] : it->items()) {
    if (!value.is_string()) return Malformed(document, std::string(key) + " has a non-string");
    map[name] = value.get<std::string>();
  }
  return map;
}

Result<Descriptor> ParseDescriptor(const Json& json, std::string_view document) {
  if (!json.is_object()) return Malformed(document, "a descriptor is not an object");
  Descriptor descriptor;
  descriptor.media_type = TRY(Text(json, "mediaType", document));
  const std::string digest = TRY(Text(json, "digest", document));
  descriptor.digest = TRY(Digest::Parse(digest).With(document));
  const auto size = json.find("size");
  if (size == json.end() || !size->is_number_unsigned()) {
    return Malformed(document, "a descriptor has no size");
  }
  descriptor.size_bytes = size->get<uint64_t>();
  descriptor.annotations = TRY(TextMap(json, "annotations", document));
  if (const auto it = json.find("platform"); it != json.end() && it->is_object()) {
    Platform platform;
    platform.os = TRY(Text(*it, "os", document));
    platform.architecture = TRY(Text(*it, "architecture", document));
    platform.variant = TRY(Text(*it, "variant", document));
    descriptor.platform = platform;
  }
  return descriptor;
}

// arm64 without a variant is v8 (and v8 alone exists); arm without one is v7.
std::string NormalVariant(const Platform& platform) {
  if (!platform.variant.empty()) return platform.variant;
  if (platform.architecture == "arm64") return "v8";
  if (platform.architecture == "arm") return "v7";
  return "";
}

// Higher is better; negative: does not run here.
int Fitness(const Platform& have, const Platform& want) {
  if (have.os != want.os || have.architecture != want.architecture) return -1;
  const std::string mine = NormalVariant(want);
  const std::string its = NormalVariant(have);
  if (mine == its) return 100;
  // A newer ARM runs code for older ones ("v7" runs "v6" and "v5"); an amd64 image of a higher
  // level ("v3") may not run at all.
  if (want.architecture == "arm" && its < mine) return 50 + (its.size() == 2 ? its[1] - '0' : 0);
  return its.empty() ? 40 : -1;
}

}  // namespace

Result<DocumentKind> ClassifyDocument(std::string_view json, std::string_view transport_type) {
  const Json document = TRY(ParseJson(json, "manifest", kMaxManifestBytes));
  std::string type = TRY(Text(document, "mediaType", "manifest"));
  if (type.empty()) type = transport_type.substr(0, transport_type.find(';'));
  if (type == kOciIndexType || type == kDockerListType) return DocumentKind::kIndex;
  if (type == kOciManifestType || type == kDockerManifestType) return DocumentKind::kManifest;
  if (document.contains("schemaVersion") && document["schemaVersion"] == 1) {
    return Error(Code::kUnimplemented,
                 "manifest: Docker schema 1 images are not supported; push the image again with a "
                 "current tool");
  }
  if (document.contains("manifests")) return DocumentKind::kIndex;
  if (document.contains("config") && document.contains("layers")) return DocumentKind::kManifest;
  return Error(Code::kUnimplemented, "manifest: not an image (media type \"" + type + "\")");
}

Result<ImageIndex> ParseIndex(std::string_view json) {
  const Json document = TRY(ParseJson(json, "index", kMaxManifestBytes));
  const auto list = document.find("manifests");
  if (list == document.end() || !list->is_array()) return Malformed("index", "no manifests");
  if (list->size() > kMaxIndexEntries) return Malformed("index", "too many manifests");
  ImageIndex index;
  for (const Json& item : *list) index.manifests.push_back(TRY(ParseDescriptor(item, "index")));
  return index;
}

Result<ImageManifest> ParseManifest(std::string_view json) {
  const Json document = TRY(ParseJson(json, "manifest", kMaxManifestBytes));
  const auto config = document.find("config");
  const auto layers = document.find("layers");
  if (config == document.end()) return Malformed("manifest", "no config");
  if (layers == document.end() || !layers->is_array()) return Malformed("manifest", "no layers");
  if (layers->size() > kMaxLayers) return Malformed("manifest", "too many layers");
  ImageManifest manifest;
  manifest.config = TRY(ParseDescriptor(*config, "manifest"));
  if (manifest.config.size_bytes > kMaxConfigBytes) {
    return Malformed("manifest", "the config is too large");
  }
  for (const Json& layer : *layers) {
    manifest.layers.push_back(TRY(ParseDescriptor(layer, "manifest")));
  }
  return manifest;
}

Result<ParsedConfig> ParseConfig(std::string_view json) {
  constexpr std::string_view kName = "image config";
  const Json document = TRY(ParseJson(json, kName, kMaxConfigBytes));
  ParsedConfig parsed;
  parsed.platform.os = TRY(Text(document, "os", kName));
  parsed.platform.architecture = TRY(Text(document, "architecture", kName));
  parsed.platform.variant = TRY(Text(document, "variant", kName));
  const auto rootfs = document.find("rootfs");
  if (rootfs == document.end() || !rootfs->is_object()) return Malformed(kName, "no rootfs");
  for (const std::string& diff_id : TRY(TextList(*rootfs, "diff_ids", kName))) {
    parsed.diff_ids.push_back(TRY(Digest::Parse(diff_id).With(kName)));
  }
  const auto config = document.find("config");
  if (config == document.end() || config->is_null()) return parsed;
  if (!config->is_object()) return Malformed(kName, "config is not an object");
  ImageRunConfig& run = parsed.run;
  run.entrypoint = TRY(TextList(*config, "Entrypoint", kName));
  run.command = TRY(TextList(*config, "Cmd", kName));
  run.env = TRY(TextList(*config, "Env", kName));
  run.user = TRY(Text(*config, "User", kName));
  run.working_directory = TRY(Text(*config, "WorkingDir", kName));
  run.stop_signal = TRY(Text(*config, "StopSignal", kName));
  run.labels = TRY(TextMap(*config, "Labels", kName));
  if (const auto volumes = config->find("Volumes");
      volumes != config->end() && volumes->is_object()) {
    for (const auto& [path, unused] : volumes->items()) run.volumes.push_back(path);
  }
  return parsed;
}

Result<Descriptor> ChooseManifest(const ImageIndex& index, const Platform& wanted) {
  const Descriptor* best = nullptr;
  int best_fitness = -1;
  std::string offered;
  for (const Descriptor& entry : index.manifests) {
    // Attestations and signatures sit in the same list, with another platform or an annotation.
    if (entry.annotations.contains("vnd.docker.reference.type")) continue;
    const int fitness = entry.platform ? Fitness(*entry.platform, wanted) : 0;
    if (entry.platform) {
      offered += (offered.empty() ? "" : ", ") + entry.platform->os + "/" +
                 entry.platform->architecture +
                 (entry.platform->variant.empty() ? "" : "/" + entry.platform->variant);
    }
    if (fitness > best_fitness) {
      best = &entry;
      best_fitness = fitness;
    }
  }
  if (best == nullptr) {
    return Error(Code::kNotFound, "no image for platform " + wanted.os + "/" + wanted.architecture +
                                      " (there is: " + (offered.empty() ? "none" : offered) + ")");
  }
  return *best;
}

Result<> CheckLayerType(std::string_view media_type) {
  constexpr std::string_view kKnown[] = {
      "application/vnd.oci.image.layer.v1.tar",
      "application/vnd.oci.image.layer.v1.tar+gzip",
      "application/vnd.oci.image.layer.v1.tar+zstd",
      "application/vnd.docker.image.rootfs.diff.tar",
      "application/vnd.docker.image.rootfs.diff.tar.gzip",
      "application/vnd.docker.image.rootfs.diff.tar.zstd",
      "application/vnd.docker.container.image.rootfs.diff+x-gtar",
  };
  if (std::find(std::begin(kKnown), std::end(kKnown), media_type) != std::end(kKnown)) return {};
  return Error(Code::kUnimplemented,
               "layers of media type \"" + std::string(media_type) + "\" cannot be unpacked");
}

}  // namespace skiff::runtime

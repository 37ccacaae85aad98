#include "runtime/image/records.h"

#include <nlohmann/json.hpp>

namespace skiff::runtime {
namespace {

using Json = nlohmann::json;
constexpr int kVersion = 1;

Json ToJson(const Image& record) {
  Json layers = Json::array();
  for (const ImageLayer& layer : record.layers) {
    layers.push_back({{"diffId", layer.diff_id.text()},
                      {"blob", layer.blob.text()},
                      {"key", layer.key},
                      {"blobSize", layer.blob_size_bytes}});
  }
  return {{"id", record.id.text()},
          {"manifest", record.manifest.text()},
          {"os", record.platform.os},
          {"architecture", record.platform.architecture},
          {"variant", record.platform.variant},
          {"repoTags", record.repo_tags},
          {"repoDigests", record.repo_digests},
          {"size", record.size_bytes},
          {"pinned", record.pinned},
          {"pulledAt", FormatMicroTime(record.pulled_at)},
          {"layers", layers}};
}

// Throws nlohmann's exceptions on a shape that is wrong; ParseRecords catches them.
Result<Image> FromJson(const Json& json) {
  Image record;
  record.id = TRY(Digest::Parse(json.at("id").get<std::string>()));
  record.manifest = TRY(Digest::Parse(json.at("manifest").get<std::string>()));
  record.platform = {json.at("os").get<std::string>(), json.at("architecture").get<std::string>(),
                     json.at("variant").get<std::string>()};
  record.repo_tags = json.at("repoTags").get<std::vector<std::string>>();
  record.repo_digests = json.at("repoDigests").get<std::vector<std::string>>();
  record.size_bytes = json.at("size").get<uint64_t>();
  record.pinned = json.at("pinned").get<bool>();
  record.pulled_at = TRY(ParseTime(json.at("pulledAt").get<std::string>()));
  for (const Json& item : json.at("layers")) {
    ImageLayer layer;
    layer.diff_id = TRY(Digest::Parse(item.at("diffId").get<std::string>()));
    layer.blob = TRY(Digest::Parse(item.at("blob").get<std::string>()));
    layer.key = item.at("key").get<std::string>();
    layer.blob_size_bytes = item.at("blobSize").get<uint64_t>();
    record.layers.push_back(std::move(layer));
  }
  return record;
}

}  // namespace

std::string FormatRecords(const std::vector<Image>& records) {
  Json images = Json::array();
  for (const Image& record : records) images.push_back(ToJson(record));
  return Json{{"version", kVersion}, {"images", images}}.dump(1) + "\n";
}

Result<std::vector<Image>> ParseRecords(std::string_view text) {
  std::vector<Image> records;
  try {
    const Json json = Json::parse(text);
    if (json.at("version").get<int>() != kVersion) {
      return Error(Code::kDataLoss, "image records of an unknown version");
    }
    for (const Json& item : json.at("images")) records.push_back(TRY(FromJson(item)));
  } catch (const Json::exception& e) {
    return Error(Code::kDataLoss, std::string("image records: ") + e.what());
  }
  return records;
}

}  // namespace skiff::runtime

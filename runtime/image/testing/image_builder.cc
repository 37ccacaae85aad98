#include "runtime/image/testing/image_builder.h"

#include <zlib.h>
#include <zstd.h>

#include <array>
#include <cstdio>
#include <cstring>
#include <nlohmann/json.hpp>

#include "runtime/image/manifest.h"

namespace skiff::runtime::testing {
namespace {

using Json = nlohmann::json;
constexpr size_t kBlock = 512;

void PutOctal(std::string* header, size_t at, int digits, uint64_t value) {
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "%0*lo", digits, static_cast<unsigned long>(value));
  header->replace(at, static_cast<size_t>(digits), text.data());
}

std::string PaxRecord(const std::string& key, const std::string& value) {
  // The length counts its own digits.
  const size_t rest = key.size() + value.size() + 3;
  size_t length = rest + 1;
  while (std::to_string(length).size() + rest != length) ++length;
  return std::to_string(length) + " " + key + "=" + value + "\n";
}

Json Describe(std::string_view media_type, std::string_view bytes) {
  return {
      {"mediaType", media_type}, {"digest", Digest::OfBytes(bytes).text()}, {"size", bytes.size()}};
}

}  // namespace

void TarBuilder::AddRaw(const Entry& entry) {
  std::string header(kBlock, '\0');
  header.replace(0, std::min<size_t>(entry.path.size(), 100), entry.path.substr(0, 100));
  PutOctal(&header, 100, 7, entry.mode);
  PutOctal(&header, 108, 7, entry.uid);
  PutOctal(&header, 116, 7, entry.gid);
  PutOctal(&header, 124, 11, entry.data.size());
  PutOctal(&header, 136, 11, static_cast<uint64_t>(entry.mtime));
  header.replace(148, 8, "        ");
  header[156] = entry.type;
  header.replace(157, std::min<size_t>(entry.link.size(), 100), entry.link.substr(0, 100));
  header.replace(257, 8,
                 std::string("ustar\0"
                             "00",
                             8));
  unsigned sum = 0;
  for (const char c : header) sum += static_cast<unsigned char>(c);
  PutOctal(&header, 148, 6, sum);
  header[154] = '\0';
  bytes_ += header + entry.data;
  bytes_.append((kBlock - entry.data.size() % kBlock) % kBlock, '\0');
}

TarBuilder& TarBuilder::Add(const Entry& entry) {
  if (!entry.pax.empty()) {
    std::string records;
    for (const auto& [key, value] : entry.pax) records += PaxRecord(key, value);
    AddRaw({"PaxHeaders/entry", 'x', records});
  }
  AddRaw(entry);
  return *this;
}

std::string TarBuilder::Finish() const { return bytes_ + std::string(2 * kBlock, '\0'); }

std::string Gzip(std::string_view bytes) {
  z_stream stream{};
  CHECK(deflateInit2(&stream, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) == Z_OK);
  std::string out(deflateBound(&stream, bytes.size()) + 32, '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
  stream.avail_in = static_cast<uInt>(bytes.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  CHECK(deflate(&stream, Z_FINISH) == Z_STREAM_END);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

std::string Zstd(std::string_view bytes) {
  std::string out(ZSTD_compressBound(bytes.size()), '\0');
  const size_t size = ZSTD_compress(out.data(), out.size(), bytes.data(), bytes.size(), 3);
  CHECK(ZSTD_isError(size) == 0);
  out.resize(size);
  return out;
}

BuiltImage BuildImage(const std::vector<std::string>& layers, Packing packing,
                      const std::string& user) {
  BuiltImage image;
  Json diff_ids = Json::array();
  Json descriptors = Json::array();
  for (const std::string& layer : layers) {
    diff_ids.push_back(Digest::OfBytes(layer).text());
    std::string type = "application/vnd.oci.image.layer.v1.tar";
    if (packing == Packing::kGzip) type += "+gzip";
    if (packing == Packing::kZstd) type += "+zstd";
    image.blobs.push_back(packing == Packing::kGzip   ? Gzip(layer)
                          : packing == Packing::kZstd ? Zstd(layer)
                                                      : layer);
    descriptors.push_back(Describe(type, image.blobs.back()));
  }
  const Platform host = Platform::Host();
  image.config = Json{{"os", host.os},
                      {"architecture", host.architecture},
                      {"config",
                       {{"Entrypoint", {"/bin/app"}},
                        {"Cmd", {"serve"}},
                        {"Env", {"PATH=/bin"}},
                        {"User", user},
                        {"WorkingDir", "/srv"}}},
                      {"rootfs", {{"type", "layers"}, {"diff_ids", diff_ids}}}}
                     .dump();
  image.config_digest = Digest::OfBytes(image.config);
  image.manifest = Json{
      {"schemaVersion", 2},
      {"mediaType", kOciManifestType},
      {"config", Describe(kOciConfigType, image.config)},
      {"layers",
       descriptors}}.dump();
  image.manifest_digest = Digest::OfBytes(image.manifest);
  return image;
}

std::string BuildIndex(const BuiltImage& image) {
  const Platform host = Platform::Host();
  Json other = Describe(kOciManifestType, "for another machine");
  other["platform"] = {{"os", "linux"}, {"architecture", "pdp11"}};
  Json mine = Describe(kOciManifestType, image.manifest);
  mine["platform"] = {{"os", host.os}, {"architecture", host.architecture}};
  return Json{{"schemaVersion", 2}, {"mediaType", kOciIndexType}, {"manifests", {other, mine}}}
      .dump();
}

}  // namespace skiff::runtime::testing

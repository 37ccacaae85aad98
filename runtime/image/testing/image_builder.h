// Images made in memory: tars, their compressed forms, and manifests. For tests.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/image/digest.h"

namespace skiff::runtime::testing {

// A tar archive, entry by entry.
class TarBuilder {
 public:
  struct Entry {
    std::string path;
    char type = '0';
    std::string data;
    std::string link;
    uint32_t mode = 0644;
    uint32_t uid = 0;
    uint32_t gid = 0;
    int64_t mtime = 1'700'000'000;
    std::map<std::string, std::string> pax;  // a header of such records before the entry
  };
  TarBuilder& Add(const Entry& entry);
  TarBuilder& File(const std::string& path, const std::string& data, uint32_t mode = 0644) {
    return Add({path, '0', data, "", mode});
  }
  TarBuilder& Directory(const std::string& path, uint32_t mode = 0755) {
    return Add({path, '5', "", "", mode});
  }
  TarBuilder& Symlink(const std::string& path, const std::string& target) {
    return Add({path, '2', "", target, 0777});
  }
  TarBuilder& Hardlink(const std::string& path, const std::string& target) {
    return Add({path, '1', "", target});
  }
  // The whole archive, with its two blocks of zeroes.
  std::string Finish() const;

 private:
  void AddRaw(const Entry& entry);
  std::string bytes_;
};

std::string Gzip(std::string_view bytes);
std::string Zstd(std::string_view bytes);

struct BuiltImage {
  std::string config;
  std::string manifest;
  std::vector<std::string> blobs;  // the packed layers
  Digest config_digest;
  Digest manifest_digest;
};
enum class Packing { kPlain, kGzip, kZstd };
// user: of the config. Layers are plain tars, bottom first.
BuiltImage BuildImage(const std::vector<std::string>& layers, Packing packing,
                      const std::string& user = "");
// An index with the image for this machine and an entry for a machine that does not exist.
std::string BuildIndex(const BuiltImage& image);

}  // namespace skiff::runtime::testing

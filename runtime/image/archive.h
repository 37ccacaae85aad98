// Image archives: OCI layouts and `docker save` files, read into staging and written from blobs.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "runtime/image/byte_source.h"
#include "runtime/image/content.h"
#include "runtime/image/image.h"
#include "runtime/image/manifest.h"

namespace skiff::runtime {

// One image found in an archive, its blobs published already.
struct ArchivedImage {
  std::string manifest_bytes;
  Digest manifest_digest;  // what names point at: the archive's index entry
  std::vector<std::string> names;
  bool names_digest = false;  // whether NAME@manifest_digest is true outside of the archive
};

// Reads the whole archive (plain, gzip or zstd) and puts the blobs that its images for the platform
// need into the store. InvalidArgument when it is neither of the two formats; DataLoss when a
// blob is not what its name says. Blocks.
Result<std::vector<ArchivedImage>> ReadImageArchive(Content& content, ByteSource& archive,
                                                    const Platform& platform);

// Writes an OCI layout that also has docker's manifest.json. NotFound when a blob is missing.
Result<> WriteImageArchive(const Content& content,
                           const std::vector<std::shared_ptr<const Image>>& images,
                           const std::map<std::string, Digest>& names, int fd);

}  // namespace skiff::runtime

// `skiff image`: the images of this machine, asked of the agent on its root-only socket.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"

namespace skiff::cli {

struct ImageImportOptions {
  std::string socket;  // "unix:///run/skiff/skiff.sock" or the path alone
  std::string file;    // "-": standard input
  std::string name;    // empty: the names that the archive gives
};

struct ImportedImage {
  std::string id;                  // "sha256:HEX"
  std::vector<std::string> names;  // its tags; its digests where it has none
};
// Sends the archive and returns what it held. The messages of errors say what the user can do.
Result<std::vector<ImportedImage>> ImportImages(const ImageImportOptions& options);
// The same, printed.
Result<> RunImageImport(const ImageImportOptions& options);

Result<> RunImageList(const std::string& socket);

struct ListedImage {
  ImportedImage image;
  uint64_t size_bytes = 0;
};
// One line a name, sorted by name.
std::string ImageTable(const std::vector<ListedImage>& images);

}  // namespace skiff::cli

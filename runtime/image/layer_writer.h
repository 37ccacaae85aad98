// Unpacks the tar stream of a layer into a directory that overlayfs can stack.
//
// Whiteouts (".wh.NAME", ".wh..wh..opq"; OCI image-spec layer.md) become overlayfs's: a character
// device 0:0 and the "opaque" attribute. The stream is untrusted: names are resolved with
// openat2(RESOLVE_IN_ROOT), so neither ".." nor a symlink leads out of the directory. One thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/os/unique_fd.h"
#include "base/result.h"
#include "runtime/image/tar_reader.h"

namespace skiff::runtime {

struct LayerWriterOptions {
  // Without root: ownership and devices are left out, and overlayfs's attributes are in the user
  // namespace ("userxattr" mounts).
  bool rootless = false;
  uint64_t max_entries = 4'000'000;
};

struct LayerContents {
  uint64_t disk_bytes = 0;  // contents rounded up to blocks
  uint64_t inodes = 0;
  // Directories that no entry of the tar describes, made because something is in them. What they
  // look like depends on the layers below (see LayerStore::Commit).
  std::vector<std::string> implicit_directories;
};

// directory: an empty one. On error its contents are undefined.
Result<LayerContents> UnpackLayer(ByteSource& tar, const std::string& directory,
                                  const LayerWriterOptions& options);

// The path inside the layer without "/", "." and "..": "./a//b/" is "a/b", "" is the root itself.
// InvalidArgument when ".." leads out.
Result<std::string> CleanLayerPath(std::string_view path);

}  // namespace skiff::runtime

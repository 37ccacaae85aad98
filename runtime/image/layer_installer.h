// LayerInstaller: brings the layers of an image into the store, several at a time, each as one
// stream: fetch and hash on one thread, inflate, hash and unpack on another.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <set>
#include <vector>

#include "base/result.h"
#include "runtime/image/content.h"
#include "runtime/image/http_transfer.h"
#include "runtime/image/image_store.h"
#include "runtime/image/manifest.h"

namespace skiff::runtime {

class LayerInstaller {
 public:
  // Gives all bytes of a blob to the sink, in order.
  using BlobReader = std::function<Result<>(const Descriptor& blob, const ByteSink& sink)>;

  LayerInstaller(Content& content, int parallel, uint64_t max_layer_bytes)
      : content_(content), parallel_(parallel), max_layer_bytes_(max_layer_bytes) {}

  struct Request {
    const ImageManifest& manifest;
    const std::vector<Digest>& diff_ids;
    BlobReader read_blob;
    std::function<void(const PullProgress&)> on_progress;  // may be empty
  };
  // Layers that are here already are not read. Two calls that want the same layer share the work.
  // Blocks; thread-safe.
  Result<std::vector<ImageLayer>> Install(const Request& request);

 private:
  class Job;
  Content& content_;
  const int parallel_;
  const uint64_t max_layer_bytes_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::set<Digest> busy_;  // diff ids being unpacked
};

}  // namespace skiff::runtime

#include "runtime/image/layer_installer.h"

#include <fcntl.h>

#include <algorithm>
#include <thread>

namespace skiff::runtime {
namespace {

constexpr size_t kQueueBytes = 8 << 20;  // between fetching and unpacking one layer

}  // namespace

// One Install: its threads take layer after layer from the bottom.
class LayerInstaller::Job {
 public:
  Job(LayerInstaller& installer, const Request& request)
      : installer_(installer),
        content_(installer.content_),
        request_(request),
        chain_ids_(ChainIds(request.diff_ids)),
        layers_(request.diff_ids.size()),
        postponed_(request.diff_ids.size()) {
    for (const Descriptor& layer : request.manifest.layers) {
      progress_.bytes_total += layer.size_bytes;
    }
    progress_.layers_total = layers_.size();
  }

  Result<std::vector<ImageLayer>> Run() {
    const size_t count = std::min<size_t>(std::max(installer_.parallel_, 1), layers_.size());
    std::vector<std::thread> threads;
    for (size_t i = 1; i < count; ++i) threads.emplace_back([this] { Work(); });
    Work();
    for (std::thread& thread : threads) thread.join();
    auto published = PublishPostponed();
    DropPostponed();
    if (error_) return *std::move(error_);
    TRY(std::move(published));
    return std::move(layers_);
  }

 private:
  void Work() {
    while (true) {
      size_t index = 0;
      {
        std::lock_guard lock(mutex_);
        if (error_ || next_ == layers_.size()) return;
        index = next_++;
      }
      auto outcome = InstallOne(index);
      std::lock_guard lock(mutex_);
      if (!outcome.ok() && !error_) error_ = std::move(outcome).error();
    }
  }

  Result<> InstallOne(size_t index) {
    const Descriptor& blob = request_.manifest.layers[index];
    const Digest& diff_id = request_.diff_ids[index];
    layers_[index] = {diff_id, blob.digest, "", blob.size_bytes};
    {
      std::unique_lock lock(installer_.mutex_);
      installer_.changed_.wait(lock, [&] { return !installer_.busy_.contains(diff_id); });
      if (auto key = content_.FindLayer(diff_id, chain_ids_[index])) {
        layers_[index].key = *key;
        lock.unlock();
        Advance(blob.size_bytes, 1);
        return {};
      }
      installer_.busy_.insert(diff_id);
    }
    auto outcome = Bring(index);
    {
      std::lock_guard lock(installer_.mutex_);
      installer_.busy_.erase(diff_id);
    }
    installer_.changed_.notify_all();
    return std::move(outcome).With("layer " + blob.digest.text());
  }

  Result<> Bring(size_t index) {
    const Descriptor& blob = request_.manifest.layers[index];
    TRY(CheckLayerType(blob.media_type));
    StagedLayer staged =
        TRY(content_.HasBlob(blob.digest, blob.size_bytes) ? UnpackBlob(index) : FetchBlob(index));
    if (!staged.contents.implicit_directories.empty() && index > 0) {
      // Its looks depend on the layers below, which may still be on their way.
      postponed_[index] = std::move(staged);
    } else {
      auto key = content_.PublishLayer(staged, chain_ids_[index], {});
      if (!key.ok()) (void)content_.RemoveStaged(staged.directory);  // remembered where it fails
      layers_[index].key = TRY(std::move(key));
    }
    Advance(0, 1);
    return {};
  }

  Result<StagedLayer> UnpackBlob(size_t index) {
    const Descriptor& blob = request_.manifest.layers[index];
    const UniqueFd file = TRY(OpenFile(content_.BlobPath(blob.digest), O_RDONLY));
    FileSource source(file.get());
    StagedLayer staged =
        TRY(content_.Unpack(source, request_.diff_ids[index], installer_.max_layer_bytes_));
    Advance(blob.size_bytes, 0);
    return staged;
  }

  Result<StagedLayer> FetchBlob(size_t index) {
    const Descriptor& blob = request_.manifest.layers[index];
    const std::string path = content_.StagingPath("blob");
    UniqueFd file = TRY(OpenFile(path, O_WRONLY | O_CREAT | O_EXCL, 0600));
    Hasher hasher(blob.digest.algorithm());
    ByteQueue queue(kQueueBytes);
    std::optional<Result<StagedLayer>> unpacked;
    std::thread unpacker([&] {
      unpacked = content_.Unpack(queue, request_.diff_ids[index], installer_.max_layer_bytes_);
      queue.CloseReader();
    });
    auto fetched = request_.read_blob(blob, [&](std::string_view bytes) -> Result<> {
      hasher.Update(bytes);
      TRY(WriteAll(file.get(), bytes).With(path));
      Advance(bytes.size(), 0);
      if (!queue.Push(bytes)) return Error(Code::kCancelled, "unpacking failed");
      return {};
    });
    if (fetched.ok() && hasher.Finish() != blob.digest) {
      fetched = Error(Code::kDataLoss, "the registry gave other bytes than the digest says");
    }
    queue.CloseWriter(fetched.ok() ? Result<>() : Result<>(Error(fetched.error())));
    unpacker.join();
    // Whichever failed first has the reason; the other one only saw the queue break.
    const bool fetch_broke = !fetched.ok() && fetched.error().message() != "unpacking failed";
    if (fetch_broke || !unpacked->ok()) {
      (void)content_.RemoveStaged(path);  // remembered where it fails
      if (unpacked->ok()) (void)content_.RemoveStaged((*unpacked)->directory);
      if (fetch_broke) return std::move(fetched).error();
      return std::move(*unpacked);
    }
    if (auto published = content_.PublishBlob(path, blob.digest); !published.ok()) {
      (void)content_.RemoveStaged(path);  // remembered where it fails
      (void)content_.RemoveStaged((*unpacked)->directory);
      return std::move(published).error();
    }
    return std::move(*unpacked);
  }

  Result<> PublishPostponed() {
    for (size_t index = 0; index < layers_.size() && !error_; ++index) {
      if (!postponed_[index]) continue;
      std::vector<std::string> lower_keys;
      for (size_t below = index; below-- > 0;) lower_keys.push_back(layers_[below].key);
      layers_[index].key =
          TRY(content_.PublishLayer(*postponed_[index], chain_ids_[index], lower_keys));
      postponed_[index].reset();
    }
    return {};
  }

  void DropPostponed() {
    for (const auto& staged : postponed_) {
      if (staged) (void)content_.RemoveStaged(staged->directory);  // remembered where it fails
    }
  }

  void Advance(uint64_t bytes, size_t layers) {
    std::lock_guard lock(mutex_);
    progress_.bytes_done += bytes;
    progress_.layers_done += layers;
    if (request_.on_progress) request_.on_progress(progress_);
  }

  LayerInstaller& installer_;
  Content& content_;
  const Request& request_;
  const std::vector<Digest> chain_ids_;
  std::vector<ImageLayer> layers_;                     // each slot: one thread, then Run
  std::vector<std::optional<StagedLayer>> postponed_;  // likewise
  std::mutex mutex_;                                   // guards the three below
  size_t next_ = 0;
  std::optional<Error> error_;
  PullProgress progress_;
};

Result<std::vector<ImageLayer>> LayerInstaller::Install(const Request& request) {
  if (request.manifest.layers.size() != request.diff_ids.size()) {
    return Error(Code::kInvalidArgument,
                 "the manifest has " + std::to_string(request.manifest.layers.size()) +
                     " layers and the config " + std::to_string(request.diff_ids.size()));
  }
  return Job(*this, request).Run();
}

}  // namespace skiff::runtime

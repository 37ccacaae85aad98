#include "cri/archive_service.h"

#include <grpcpp/grpcpp.h>

#include <atomic>
#include <condition_variable>
#include <map>
#include <mutex>
#include <optional>

#include "base/grpc/status.h"
#include "base/log.h"
#include "cri/grpc_front.h"
#include "proto/skiff/admin/v1/admin.grpc.pb.h"
#include "runtime/image/image_store.h"

namespace skiff::cri {
namespace {

namespace admin = skiff::admin::v1;

// Each has a thread, and room in staging for its archive.
constexpr int kMaxImports = 4;

// One import. The store pulls: a message is asked for when the one before is used up, which holds
// the client back. Deletes itself when gRPC is done with it.
class ImportCall final : public grpc::ServerReadReactor<admin::ImportRequest>,
                         private runtime::ByteSource {
 public:
  ImportCall(grpc::CallbackServerContext& context, runtime::ImageStore& images, Executor& blocking,
             std::atomic<int>& running, admin::ImportResponse* response)
      : context_(context), images_(images), running_(running), response_(response) {
    if (++running_ > kMaxImports) {
      End(Error(Code::kResourceExhausted, "too many imports at the same time; try again later"));
      return;
    }
    StartSendInitialMetadata();  // the client learns that it is its turn
    blocking.Post([this] { End(Import()); });
  }

  void OnReadDone(bool ok) override {
    std::lock_guard lock(mutex_);
    arrived_ = ok;
    changed_.notify_one();
  }
  void OnDone() override { delete this; }

 private:
  // The place is free before the client learns of the end: it may come again at once. Nothing of
  // this is touched afterwards.
  void End(const Result<>& outcome) {
    --running_;
    Finish(ToGrpcStatus(outcome));
  }

  Result<> Import() {
    if (!Receive()) return Error(Code::kInvalidArgument, "the archive is empty");
    unread_ = true;
    const std::string name = message_.name();
    const auto imported = TRY(images_.Import(*this, name));
    // What follows the end of a tar is padding.
    while (!TRY(Next()).empty()) continue;
    if (imported.empty()) return Error(Code::kInvalidArgument, "the archive has no image");
    // An image that stands there under several names is told once, with all of them.
    std::map<std::string, std::shared_ptr<const runtime::Image>> by_id;
    for (const auto& image : imported) by_id[image->id.text()] = image;
    for (const auto& [id, image] : by_id) {
      admin::ImportResponse::Image* told = response_->add_images();
      told->set_id(id);
      for (const std::string& tag : image->repo_tags) told->add_repo_tags(tag);
      for (const std::string& digest : image->repo_digests) told->add_repo_digests(digest);
      log::Info("image imported", {{"id", id},
                                   {"name", image->repo_tags.empty() ? image->repo_digests.front()
                                                                     : image->repo_tags.front()}});
    }
    return {};
  }

  // Waits for the next message; false at the end.
  bool Receive() {
    if (ended_) return false;
    StartRead(&message_);
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return arrived_.has_value(); });
    ended_ = !*std::exchange(arrived_, std::nullopt);
    return !ended_;
  }

  Result<std::string_view> Next() override {
    while (std::exchange(unread_, false) || Receive()) {
      if (!message_.data().empty()) return std::string_view(message_.data());
    }
    // A client that died has not sent all of the archive.
    if (context_.IsCancelled()) return Error(Code::kCancelled, "the client has left");
    return std::string_view();
  }

  grpc::CallbackServerContext& context_;
  runtime::ImageStore& images_;
  std::atomic<int>& running_;
  admin::ImportResponse* const response_;
  // Of the importing thread; message_ is gRPC's while a read is under way.
  admin::ImportRequest message_;
  bool unread_ = false;
  bool ended_ = false;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::optional<bool> arrived_;  // guarded by mutex_: the read's outcome
};

class ArchiveService final : public admin::ImageArchives::CallbackService {
 public:
  ArchiveService(runtime::ImageStore& images, Executor& blocking)
      : images_(images), blocking_(blocking) {}

  grpc::ServerReadReactor<admin::ImportRequest>* Import(grpc::CallbackServerContext* context,
                                                        admin::ImportResponse* response) override {
    return new ImportCall(*context, images_, blocking_, running_, response);
  }

 private:
  runtime::ImageStore& images_;
  Executor& blocking_;
  std::atomic<int> running_ = 0;
};

}  // namespace

std::unique_ptr<grpc::Service> MakeArchiveService(runtime::ImageStore& images, Executor& blocking) {
  return std::make_unique<ArchiveService>(images, blocking);
}

}  // namespace skiff::cri

// AttachmentTable: what plugins made for which sandbox, and all that it takes to have them undo it.
//
// One file a sandbox, DIRECTORY/SANDBOX_ID.json, written before the first plugin runs and removed
// after all have undone what they did. Plugins keep state that outlives a boot (host-local's
// addresses are files), so these outlive one too.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "cni/runner/chain.h"
#include "cni/spec/config.h"

namespace skiff::cni {

struct AttachmentRecord {
  std::string boot_id;
  std::string pod;  // "namespace/name"
  NetworkConfig network;
  CniVersion version;
  ChainCall call;
  Json result;  // null: ADD has not come to its end
};

std::string RenderAttachment(const AttachmentRecord& record);
// DataLoss when the text is none.
Result<AttachmentRecord> ParseAttachment(std::string_view text);

// Thread-safe. The key is the record's call.container_id.
class AttachmentTable {
 public:
  using RecordPtr = std::shared_ptr<const AttachmentRecord>;

  // Reads what is there. A file that is no record is set aside (its name ends in .damaged), with a
  // warning: the plugins' garbage collection has to find what it stood for.
  static Result<std::unique_ptr<AttachmentTable>> Open(std::string directory);

  // Survives a power cut where there was no record of the sandbox before.
  Result<> Put(const AttachmentRecord& record);
  // One that is not there is a success.
  Result<> Remove(const std::string& sandbox_id);

  RecordPtr Find(const std::string& sandbox_id) const;  // or null
  std::vector<RecordPtr> All() const;

 private:
  explicit AttachmentTable(std::string directory) : directory_(std::move(directory)) {}
  std::string FileOf(const std::string& sandbox_id) const {
    return directory_ + "/" + sandbox_id + ".json";
  }

  const std::string directory_;
  mutable std::mutex mutex_;
  std::map<std::string, RecordPtr> records_;
};

}  // namespace skiff::cni

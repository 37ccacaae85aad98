#include "cni/runner/attachments.h"

#include <cerrno>
#include <cstdio>

#include "base/log.h"
#include "base/os/files.h"

namespace skiff::cni {
namespace {

constexpr uint32_t kAttachmentVersion = 1;
constexpr std::string_view kAttachmentSuffix = ".json";
// A record holds a configuration and a result, each within its own limits.
constexpr size_t kRecordLimitBytes = 4 * kDocumentLimitBytes;
constexpr int kRecordDepth = kDocumentDepth + 8;

Result<AttachmentRecord> ReadRecord(std::string_view text) {
  Json document = TRY(ParseDocument(text, kRecordLimitBytes, kRecordDepth));
  if (TRY(NumberField(document, "version")) != kAttachmentVersion) {
    return Error(Code::kDataLoss, "written by another version of skiff");
  }
  AttachmentRecord record;
  record.boot_id = TRY(TextField(document, "bootId"));
  record.pod = TRY(TextField(document, "pod"));
  const std::string version = TRY(TextField(document, "cniVersion"));
  record.version = TRY(ParseCniVersion(version));
  record.call.container_id = TRY(TextField(document, "sandbox"));
  record.call.netns = TRY(TextField(document, "netns"));
  record.call.interface = TRY(TextField(document, "interface"));
  record.call.arguments = TRY(TextField(document, "arguments"));
  const Json* network = TRY(ObjectField(document, "network"));
  const Json* capabilities = TRY(ObjectField(document, "capabilities"));
  if (network == nullptr || capabilities == nullptr) {
    return Error(Code::kDataLoss, "\"network\" or \"capabilities\" is missing");
  }
  record.network = TRY(ReadNetworkConfig(*network).With("network"));
  record.call.capabilities = *capabilities;
  if (const Json* result = TRY(ObjectField(document, "result"))) record.result = *result;
  return record;
}

}  // namespace

std::string RenderAttachment(const AttachmentRecord& record) {
  return RenderDocument({{"version", kAttachmentVersion},
                         {"bootId", record.boot_id},
                         {"pod", record.pod},
                         {"cniVersion", ToString(record.version)},
                         {"sandbox", record.call.container_id},
                         {"netns", record.call.netns},
                         {"interface", record.call.interface},
                         {"arguments", record.call.arguments},
                         {"capabilities", record.call.capabilities},
                         {"network", RenderNetworkConfig(record.network)},
                         {"result", record.result}}) +
         "\n";
}

Result<AttachmentRecord> ParseAttachment(std::string_view text) {
  auto record = ReadRecord(text);
  if (record.ok()) return record;
  return Error(Code::kDataLoss, record.error().message());
}

Result<std::unique_ptr<AttachmentTable>> AttachmentTable::Open(std::string directory) {
  TRY(MakeDirectories(directory, 0700));
  std::unique_ptr<AttachmentTable> table(new AttachmentTable(std::move(directory)));
  for (const std::string& name : TRY(ListDirectory(table->directory_))) {
    const std::string path = table->directory_ + "/" + name;
    if (name.ends_with(".damaged")) continue;
    if (!name.ends_with(kAttachmentSuffix)) {
      // A write that did not finish: nothing was done on its word.
      TRY(RemoveFile(path));
      continue;
    }
    auto record = ParseAttachment(TRY(ReadFile(path)));
    if (record.ok() && table->FileOf(record->call.container_id) != path) {
      record = Error(Code::kDataLoss, "is of sandbox " + record->call.container_id);
    }
    if (!record.ok()) {
      log::Warning("a record of what CNI plugins made cannot be read; setting it aside",
                   {{"file", path}, {"error", record.error()}});
      if (::rename(path.c_str(), (path + ".damaged").c_str()) != 0) {
        return Error::Sys(errno, "rename", path);
      }
      continue;
    }
    std::string id = record->call.container_id;
    table->records_[id] = std::make_shared<const AttachmentRecord>(*std::move(record));
  }
  return table;
}

Result<> AttachmentTable::Put(const AttachmentRecord& record) {
  const std::string& id = record.call.container_id;
  const bool is_new = Find(id) == nullptr;
  // Calls for one sandbox come one after another: the write needs no lock.
  TRY(WriteFileAtomic(FileOf(id), RenderAttachment(record),
                      is_new ? Durability::kPower : Durability::kNone));
  std::lock_guard lock(mutex_);
  records_[id] = std::make_shared<const AttachmentRecord>(record);
  return {};
}

Result<> AttachmentTable::Remove(const std::string& sandbox_id) {
  TRY(RemoveFile(FileOf(sandbox_id)));
  std::lock_guard lock(mutex_);
  records_.erase(sandbox_id);
  return {};
}

AttachmentTable::RecordPtr AttachmentTable::Find(const std::string& sandbox_id) const {
  std::lock_guard lock(mutex_);
  auto found = records_.find(sandbox_id);
  return found == records_.end() ? nullptr : found->second;
}

std::vector<AttachmentTable::RecordPtr> AttachmentTable::All() const {
  std::lock_guard lock(mutex_);
  std::vector<RecordPtr> all;
  for (const auto& [id, record] : records_) all.push_back(record);
  return all;
}

}  // namespace skiff::cni

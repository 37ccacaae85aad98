#include "agent/desired/desired_state.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include <atomic>

#include "base/log.h"
#include "base/os/files.h"
#include "proto/k8s/core/v1/config.pb.h"
#include "proto/k8s/core/v1/node.pb.h"
#include "proto/k8s/core/v1/pod.pb.h"
#include "proto/k8s/core/v1/service.pb.h"
#include "proto/k8s/discovery/v1/discovery.pb.h"
#include "proto/k8s/node/v1/node.pb.h"
#include "proto/skiff/node/v1/node.pb.h"
#include "proto/skiff/node/v1/policy.pb.h"

namespace skiff::agent {
namespace {

namespace core = k8s::core::v1;
namespace link = skiff::node::v1;
using google::protobuf::Message;
using MessagePtr = std::shared_ptr<const Message>;

constexpr char kMagic[] = "skiff-desired-1\n";
constexpr size_t kMagicBytes = sizeof kMagic - 1;
constexpr size_t kMaxFrameBytes = 16 << 20;
constexpr size_t kMaxFileBytes = 1 << 30;
constexpr size_t kRewriteSlackBytes = 4 << 20;

std::shared_ptr<Message> NewOf(const std::string& kind) {
  if (kind == "Pod") return std::make_shared<core::Pod>();
  if (kind == "ConfigMap") return std::make_shared<core::ConfigMap>();
  if (kind == "Secret") return std::make_shared<core::Secret>();
  if (kind == "RuntimeClass") return std::make_shared<::k8s::node::v1::RuntimeClass>();
  if (kind == "Service") return std::make_shared<core::Service>();
  if (kind == "Node") return std::make_shared<core::Node>();
  if (kind == "NetworkPolicy") return std::make_shared<link::NetworkPolicy>();
  if (kind == "AddressSet") return std::make_shared<link::AddressSetPart>();
  if (kind == "EndpointSlice") return std::make_shared<k8s::discovery::v1::EndpointSlice>();
  return nullptr;
}

uint32_t Checksum(std::string_view bytes) {
  return static_cast<uint32_t>(::crc32(0, reinterpret_cast<const unsigned char*>(bytes.data()),
                                       static_cast<unsigned>(bytes.size())));
}

void AppendNumber(std::string* out, uint32_t number) {
  for (int shift = 0; shift < 32; shift += 8) out->push_back(static_cast<char>(number >> shift));
}
uint32_t ReadNumber(std::string_view bytes) {
  uint32_t number = 0;
  for (size_t i = 4; i-- > 0;) number = (number << 8) | static_cast<unsigned char>(bytes[i]);
  return number;
}

// A frame: length, checksum, message; numbers are little-endian.
void AppendFrame(std::string* out, const link::ControlMessage& message) {
  std::string bytes = message.SerializeAsString();
  AppendNumber(out, static_cast<uint32_t>(bytes.size()));
  AppendNumber(out, Checksum(bytes));
  out->append(bytes);
}

// Whether the update of a pod brings nothing but a status, which the node itself reported.
bool OnlyStatus(const Message& before, const Message& after) {
  const auto* old_pod = dynamic_cast<const core::Pod*>(&before);
  const auto* new_pod = dynamic_cast<const core::Pod*>(&after);
  if (old_pod == nullptr || new_pod == nullptr) return false;
  const auto& a = old_pod->metadata();
  const auto& b = new_pod->metadata();
  return a.uid() == b.uid() && a.generation() == b.generation() &&
         a.has_deletion_timestamp() == b.has_deletion_timestamp() &&
         old_pod->status().phase() == new_pod->status().phase() &&
         old_pod->spec().SerializeAsString() == new_pod->spec().SerializeAsString();
}

}  // namespace

struct DesiredState::Impl {
  std::string path;
  mutable std::mutex mutex;
  std::map<ObjectKey, MessagePtr> objects;
  link::Welcome welcome;
  bool has_welcome = false;
  bool complete = false;
  int64_t durable_revision = 0;

  // Of the applying thread alone: what came since the last mark.
  std::vector<link::ObjectUpdate> held;
  bool held_full = false;
  std::string held_frames;
  size_t file_bytes = 0;
  size_t live_bytes = 0;

  std::atomic<bool> sync_due = false;

  // Applies what was held; the caller has the lock. important: something beside reported statuses
  // changed.
  DesiredChange Publish(bool* important) {
    DesiredChange change;
    change.full = held_full;
    *important = held_full;
    if (held_full) objects.clear();
    for (const link::ObjectUpdate& update : held) {
      ObjectKey key{update.kind(), update.namespace_(), update.name()};
      auto present = objects.find(key);
      if (update.deleted()) {
        // A deletion of an earlier object of that name says nothing about the present one.
        if (present != objects.end()) objects.erase(present);
        change.deleted.push_back(key);
        *important = true;
        continue;
      }
      std::shared_ptr<Message> object = NewOf(update.kind());
      if (object == nullptr) continue;  // a kind of a later version
      if (!object->ParseFromString(update.object())) {
        log::Error("the control plane sent an object that cannot be read; ignoring it",
                   {{"kind", key.kind}, {"name", key.name}});
        continue;
      }
      if (present == objects.end() || !OnlyStatus(*present->second, *object)) *important = true;
      objects[key] = std::move(object);
      change.changed.push_back(key);
    }
    held.clear();
    held_full = false;
    complete = true;
    return change;
  }

  std::string Snapshot(int64_t revision) const {
    std::string out(kMagic, kMagicBytes);
    link::ControlMessage message;
    *message.mutable_welcome() = welcome;
    message.mutable_welcome()->set_full(true);
    AppendFrame(&out, message);
    for (const auto& [key, object] : objects) {
      link::ObjectUpdate* update = message.mutable_update();
      update->set_kind(key.kind);
      update->set_namespace_(key.name_space);
      update->set_name(key.name);
      update->set_object(object->SerializeAsString());
      AppendFrame(&out, message);
    }
    message.mutable_mark()->set_revision(revision);
    AppendFrame(&out, message);
    return out;
  }

  Result<> Store(int64_t revision, bool rewrite, bool important) {
    if (rewrite || file_bytes + held_frames.size() > 3 * live_bytes + kRewriteSlackBytes) {
      std::string bytes = Snapshot(revision);
      TRY(WriteFileAtomic(path, bytes, Durability::kPower, 0600));
      file_bytes = live_bytes = bytes.size();
    } else {
      UniqueFd fd = TRY(OpenFile(path, O_WRONLY | O_APPEND));
      TRY(WriteAll(fd.get(), held_frames).With(path));
      // A status lost in a power cut is reported again anyway: not worth a write to the disk.
      if (important) sync_due = true;
      file_bytes += held_frames.size();
    }
    return {};
  }

  // Replays a file's content; the length of its good part.
  size_t Replay(std::string_view content) {
    size_t good = kMagicBytes;
    size_t position = good;
    while (content.size() - position >= 8) {
      uint32_t length = ReadNumber(content.substr(position));
      uint32_t checksum = ReadNumber(content.substr(position + 4));
      if (length > kMaxFrameBytes || content.size() - position - 8 < length) break;
      std::string_view bytes = content.substr(position + 8, length);
      link::ControlMessage message;
      if (Checksum(bytes) != checksum ||
          !message.ParseFromArray(bytes.data(), static_cast<int>(length))) {
        break;
      }
      position += 8 + length;
      if (message.has_welcome()) {
        TakeWelcome(message.welcome());
      } else if (message.has_update()) {
        held.push_back(message.update());
      } else if (message.has_mark()) {
        bool important;
        (void)Publish(&important);
        durable_revision = message.mark().revision();
        good = position;
      }
    }
    held.clear();
    held_full = false;
    return good;
  }

  void TakeWelcome(const link::Welcome& message) {
    welcome = message;
    has_welcome = true;
    held.clear();
    held_frames.clear();
    held_full = message.full();
  }
};

DesiredState::DesiredState(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
DesiredState::~DesiredState() = default;

Result<std::unique_ptr<DesiredState>> DesiredState::Open(std::string path) {
  auto impl = std::make_unique<Impl>();
  impl->path = path;
  auto content = ReadFile(path, kMaxFileBytes);
  if (!content.ok() && content.error().code() != Code::kNotFound) return std::move(content).error();
  if (content.ok() && !content->starts_with(kMagic)) {
    log::Error("the stored desired state is damaged; putting it aside", {{"path", path}});
    std::string aside = path + ".damaged";
    if (::rename(path.c_str(), aside.c_str()) != 0) return Error::Sys(errno, "rename", path);
  } else if (content.ok()) {
    size_t good = impl->Replay(*content);
    if (good < content->size() && ::truncate(path.c_str(), static_cast<off_t>(good)) != 0) {
      return Error::Sys(errno, "truncate", path);
    }
    impl->file_bytes = impl->live_bytes = good;
  }
  return std::unique_ptr<DesiredState>(new DesiredState(std::move(impl)));
}

std::optional<DesiredChange> DesiredState::Apply(const link::ControlMessage& message) {
  Impl& impl = *impl_;
  if (message.has_welcome()) {
    std::lock_guard lock(impl.mutex);
    impl.TakeWelcome(message.welcome());
    if (!message.welcome().full()) AppendFrame(&impl.held_frames, message);
    return std::nullopt;
  }
  if (message.has_update()) {
    impl.held.push_back(message.update());
    AppendFrame(&impl.held_frames, message);
    return std::nullopt;
  }
  if (!message.has_mark()) return std::nullopt;
  AppendFrame(&impl.held_frames, message);
  DesiredChange change;
  bool important = false;
  {
    std::lock_guard lock(impl.mutex);
    change = impl.Publish(&important);
  }
  // Only this thread changes the objects: reading them without the lock is safe.
  bool rewrite = change.full || impl.file_bytes == 0;
  auto stored = impl.Store(message.mark().revision(), rewrite, important);
  impl.held_frames.clear();
  std::lock_guard lock(impl.mutex);
  if (stored.ok()) {
    impl.durable_revision = message.mark().revision();
  } else {
    // The file's end may be torn now; the next mark writes all of it anew.
    impl.file_bytes = 0;
    log::Error("cannot store the desired state; a reboot while cut off would lose the change",
               {{"error", stored.error()}});
  }
  return change;
}

bool DesiredState::sync_due() const { return impl_->sync_due; }

void DesiredState::Sync() {
  if (!impl_->sync_due.exchange(false)) return;
  // A file written anew in the meantime is on the disk already.
  auto fd = OpenFile(impl_->path, O_WRONLY);
  if (fd.ok() && ::fdatasync(fd->get()) == 0) return;
  Error error = fd.ok() ? Error::Sys(errno, "fdatasync", impl_->path) : fd.error();
  log::Error("cannot sync the desired state; a power cut while cut off would lose the change",
             {{"error", error}});
}

bool DesiredState::complete() const {
  std::lock_guard lock(impl_->mutex);
  return impl_->complete;
}

int64_t DesiredState::resume_revision() const {
  std::lock_guard lock(impl_->mutex);
  return impl_->durable_revision;
}

std::unique_ptr<link::Welcome> DesiredState::welcome() const {
  std::lock_guard lock(impl_->mutex);
  return std::make_unique<link::Welcome>(impl_->welcome);
}

MessagePtr DesiredState::Find(const ObjectKey& key) const {
  std::lock_guard lock(impl_->mutex);
  auto found = impl_->objects.find(key);
  return found == impl_->objects.end() ? nullptr : found->second;
}

std::shared_ptr<const core::ConfigMap> DesiredState::FindConfigMap(const std::string& name_space,
                                                                   const std::string& name) const {
  return std::static_pointer_cast<const core::ConfigMap>(Find({"ConfigMap", name_space, name}));
}

std::shared_ptr<const core::Secret> DesiredState::FindSecret(const std::string& name_space,
                                                             const std::string& name) const {
  return std::static_pointer_cast<const core::Secret>(Find({"Secret", name_space, name}));
}

std::optional<std::string> DesiredState::FindRuntimeHandler(
    const std::string& runtime_class) const {
  auto found = std::static_pointer_cast<const ::k8s::node::v1::RuntimeClass>(
      Find({"RuntimeClass", "", runtime_class}));
  if (found == nullptr) return std::nullopt;
  return found->handler();
}

std::vector<std::shared_ptr<const core::Service>> DesiredState::ServicesIn(
    const std::string& name_space) const {
  std::lock_guard lock(impl_->mutex);
  std::vector<std::shared_ptr<const core::Service>> services;
  for (auto it = impl_->objects.lower_bound({"Service", name_space, ""});
       it != impl_->objects.end() && it->first.kind == "Service" &&
       it->first.name_space == name_space;
       ++it) {
    services.push_back(std::static_pointer_cast<const core::Service>(it->second));
  }
  return services;
}

std::vector<std::shared_ptr<const core::Pod>> DesiredState::Pods() const {
  std::lock_guard lock(impl_->mutex);
  std::vector<std::shared_ptr<const core::Pod>> pods;
  for (auto it = impl_->objects.lower_bound({"Pod", "", ""});
       it != impl_->objects.end() && it->first.kind == "Pod"; ++it) {
    pods.push_back(std::static_pointer_cast<const core::Pod>(it->second));
  }
  return pods;
}

std::vector<ObjectKey> DesiredState::Keys() const {
  std::lock_guard lock(impl_->mutex);
  std::vector<ObjectKey> keys;
  for (const auto& [key, object] : impl_->objects) keys.push_back(key);
  return keys;
}

}  // namespace skiff::agent

#include "agent/node/node_object.h"

#include <algorithm>

#include "proto/codec/quantity.h"
#include "proto/k8s/core/v1/node.pb.h"

namespace skiff::agent {
namespace {

namespace core = k8s::core::v1;
using codec::Quantity;

// Kubelet's hard eviction thresholds.
constexpr uint64_t kMinMemoryBytes = 100 << 20;
constexpr int64_t kEvictionReserveBytes = 100 << 20;
constexpr size_t kMaxImages = 50;

void SetQuantity(google::protobuf::Map<std::string, k8s::resource::Quantity>* map, const char* name,
                 const Quantity& quantity) {
  quantity.WriteTo(&(*map)[name]);
}

Quantity Kibibytes(int64_t bytes) {
  return Quantity::FromValue(bytes / 1024 * 1024, Quantity::Format::kBinarySi);
}

void SetTime(WallTime time, k8s::meta::v1::Time* out) {
  out->set_seconds(
      std::chrono::duration_cast<std::chrono::seconds>(time.time_since_epoch()).count());
  out->set_nanos(0);
}

class NodeMaker {
 public:
  NodeMaker(const NodeOptions& options, const MachineFacts& facts, const NodeHealth& health,
            const core::Node* previous, WallTime now)
      : options_(options), facts_(facts), health_(health), previous_(previous), now_(now) {}

  core::Node Make() {
    FillMetadata();
    FillCapacity();
    FillAddresses();
    FillInfo();
    FillConditions();
    FillImages();
    FillFeatures();
    return std::move(node_);
  }

 private:
  void FillMetadata() {
    node_.mutable_metadata()->set_name(options_.node_name);
    auto& annotations = *node_.mutable_metadata()->mutable_annotations();
    if (options_.pod_mtu != 0) annotations[kPodMtuAnnotation] = std::to_string(options_.pod_mtu);
    if (!options_.wireguard_key.empty()) {
      annotations[kWireguardKeyAnnotation] = options_.wireguard_key;
    }
    auto& labels = *node_.mutable_metadata()->mutable_labels();
    for (const auto& [key, value] : options_.labels) labels[key] = value;
    labels["kubernetes.io/hostname"] = options_.node_name;
    labels["kubernetes.io/os"] = "linux";
    labels["kubernetes.io/arch"] = facts_.architecture;
    labels["beta.kubernetes.io/os"] = "linux";
    labels["beta.kubernetes.io/arch"] = facts_.architecture;
  }

  void FillCapacity() {
    auto* status = node_.mutable_status();
    int64_t milli = options_.milli_cpu > 0 ? options_.milli_cpu : facts_.milli_cpu;
    int64_t memory = options_.memory_bytes > 0 ? options_.memory_bytes : facts_.memory_bytes;
    auto disk = static_cast<int64_t>(health_.disk_bytes);
    for (auto* map : {status->mutable_capacity(), status->mutable_allocatable()}) {
      SetQuantity(map, "pods", Quantity::FromValue(options_.max_pods));
      SetQuantity(map, "hugepages-1Gi", Quantity::FromValue(0));
      SetQuantity(map, "hugepages-2Mi", Quantity::FromValue(0));
    }
    SetQuantity(status->mutable_capacity(), "cpu", Quantity::FromMilliValue(milli));
    SetQuantity(status->mutable_capacity(), "memory", Kibibytes(memory));
    SetQuantity(status->mutable_capacity(), "ephemeral-storage", Kibibytes(disk));
    SetQuantity(
        status->mutable_allocatable(), "cpu",
        Quantity::FromMilliValue(std::max<int64_t>(milli - options_.reserved_milli_cpu, 0)));
    SetQuantity(status->mutable_allocatable(), "memory",
                Kibibytes(std::max<int64_t>(
                    memory - options_.reserved_memory_bytes - kEvictionReserveBytes, 0)));
    // A tenth stays free for the system.
    SetQuantity(status->mutable_allocatable(), "ephemeral-storage",
                Quantity::FromValue(disk / 10 * 9));
  }

  void FillAddresses() {
    auto add = [this](const char* type, const std::string& address) {
      auto* entry = node_.mutable_status()->add_addresses();
      entry->set_type(type);
      entry->set_address(address);
    };
    for (const std::string& ip : options_.node_ips) add("InternalIP", ip);
    add("Hostname", options_.node_name);
  }

  void FillInfo() {
    auto* info = node_.mutable_status()->mutable_node_info();
    info->set_machine_id(facts_.machine_id);
    info->set_system_uuid(facts_.system_uuid);
    info->set_boot_id(facts_.boot_id);
    info->set_kernel_version(facts_.kernel_version);
    info->set_os_image(facts_.os_image);
    info->set_container_runtime_version(health_.runtime.name + "://" + health_.runtime.version);
    info->set_kubelet_version(options_.agent_version);
    info->set_kube_proxy_version("");
    info->set_operating_system("linux");
    info->set_architecture(facts_.architecture);
    if (facts_.swap_bytes > 0) info->mutable_swap()->set_capacity(facts_.swap_bytes);
    // The node accepts no connections: there is no kubelet endpoint to name.
    node_.mutable_status()->mutable_daemon_endpoints()->mutable_kubelet_endpoint()->set_port(0);
  }

  void AddCondition(const char* type, bool value, const char* reason, const std::string& message) {
    auto* condition = node_.mutable_status()->add_conditions();
    condition->set_type(type);
    condition->set_status(value ? "True" : "False");
    condition->set_reason(reason);
    condition->set_message(message);
    SetTime(now_, condition->mutable_last_heartbeat_time());
    SetTime(now_, condition->mutable_last_transition_time());
    if (previous_ == nullptr) return;
    for (const core::NodeCondition& before : previous_->status().conditions()) {
      if (before.type() == type && before.status() == condition->status()) {
        *condition->mutable_last_transition_time() = before.last_transition_time();
      }
    }
  }

  void FillConditions() {
    bool memory = health_.available_memory_bytes < kMinMemoryBytes;
    AddCondition("MemoryPressure", memory,
                 memory ? "KubeletHasInsufficientMemory" : "KubeletHasSufficientMemory",
                 memory ? "kubelet has insufficient memory available"
                        : "kubelet has sufficient memory available");
    bool disk = health_.disk_bytes > 0 &&
                (health_.available_disk_bytes < health_.disk_bytes / 10 ||
                 (health_.disk_inodes > 0 && health_.available_inodes < health_.disk_inodes / 20));
    AddCondition("DiskPressure", disk, disk ? "KubeletHasDiskPressure" : "KubeletHasNoDiskPressure",
                 disk ? "kubelet has disk pressure" : "kubelet has no disk pressure");
    bool pids = health_.max_pids > 0 && health_.used_pids > health_.max_pids / 10 * 9;
    AddCondition(
        "PIDPressure", pids, pids ? "KubeletHasInsufficientPID" : "KubeletHasSufficientPID",
        pids ? "kubelet has insufficient PID available" : "kubelet has sufficient PID available");
    bool ready = health_.runtime_ready && health_.network_ready;
    std::string why = health_.runtime_message;
    if (!health_.network_message.empty())
      why += (why.empty() ? "" : ", ") + health_.network_message;
    AddCondition("Ready", ready, ready ? "KubeletReady" : "KubeletNotReady",
                 ready ? "kubelet is posting ready status" : why);
    if (options_.overlay) {
      AddCondition("OverlayDegraded", options_.overlay->degraded, options_.overlay->reason.c_str(),
                   options_.overlay->message);
    }
  }

  void FillImages() {
    std::vector<const ImageInfo*> largest;
    for (const ImageInfo& image : health_.images) largest.push_back(&image);
    std::sort(largest.begin(), largest.end(), [](const ImageInfo* a, const ImageInfo* b) {
      return std::pair(b->size_bytes, a->id) < std::pair(a->size_bytes, b->id);
    });
    if (largest.size() > kMaxImages) largest.resize(kMaxImages);
    for (const ImageInfo* image : largest) {
      auto* entry = node_.mutable_status()->add_images();
      entry->mutable_names()->Add(image->names.begin(), image->names.end());
      entry->set_size_bytes(static_cast<int64_t>(image->size_bytes));
    }
  }

  void FillFeatures() {
    auto* status = node_.mutable_status();
    for (const RuntimeHandlerFeatures& handler : health_.handlers) {
      auto* entry = status->add_runtime_handlers();
      entry->set_name(handler.name);
      entry->mutable_features()->set_user_namespaces(handler.user_namespaces);
      entry->mutable_features()->set_recursive_read_only_mounts(handler.recursive_read_only_mounts);
    }
    if (health_.handlers.empty()) return;
    status->mutable_features()->set_supplemental_groups_policy(health_.supplemental_groups_policy);
  }

  const NodeOptions& options_;
  const MachineFacts& facts_;
  const NodeHealth& health_;
  const core::Node* previous_;
  WallTime now_;
  core::Node node_;
};

// The node without what changes at each look: the times, and the fluctuation of the disk.
std::string Essence(const core::Node& node) {
  core::Node copy = node;
  for (auto& condition : *copy.mutable_status()->mutable_conditions()) {
    condition.clear_last_heartbeat_time();
  }
  // Maps serialise in no fixed order.
  std::map<std::string, std::string> sorted;
  for (const auto& [key, value] : copy.metadata().labels()) sorted["label " + key] = value;
  for (const auto& [key, value] : copy.status().capacity()) sorted["cap " + key] = value.string();
  for (const auto& [key, value] : copy.status().allocatable()) {
    sorted["alloc " + key] = value.string();
  }
  copy.mutable_metadata()->clear_labels();
  copy.mutable_status()->clear_capacity();
  copy.mutable_status()->clear_allocatable();
  std::string text = copy.SerializeAsString();
  for (const auto& [key, value] : sorted) text += key + "=" + value + ";";
  return text;
}

}  // namespace

core::Node MakeNode(const NodeOptions& options, const MachineFacts& facts, const NodeHealth& health,
                    const core::Node* previous, WallTime now) {
  return NodeMaker(options, facts, health, previous, now).Make();
}

bool NodeDiffers(const core::Node& a, const core::Node& b) { return Essence(a) != Essence(b); }

}  // namespace skiff::agent

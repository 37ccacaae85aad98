#include "cri/cdi.h"

#include <algorithm>
#include <cctype>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>

#include "base/os/files.h"
#include "cri/security.h"
#include "proto/codec/yaml.h"

namespace skiff::cri {
namespace {

using Json = nlohmann::json;

constexpr size_t kFileLimitBytes = 1 << 20;
constexpr size_t kEntryLimit = 4096;  // of one list
constexpr std::string_view kVersions[] = {"0.3.0", "0.4.0", "0.5.0", "0.6.0",
                                          "0.7.0", "0.8.0", "1.0.0"};

Error BadCdi(const std::string& what) { return Error(Code::kInvalidArgument, "CDI: " + what); }

bool IsName(std::string_view name, std::string_view punctuation, bool letter_first) {
  const auto is_word = [](char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0; };
  if (name.empty() || name.size() > 253 || !is_word(name.front()) || !is_word(name.back())) {
    return false;
  }
  if (letter_first && std::isdigit(static_cast<unsigned char>(name.front())) != 0) return false;
  return std::all_of(name.begin(), name.end(), [&](char c) {
    return is_word(c) || punctuation.find(c) != std::string_view::npos;
  });
}

bool IsKind(std::string_view kind) {
  const size_t slash = kind.find('/');
  return slash != std::string_view::npos && IsName(kind.substr(0, slash), "_-.", true) &&
         IsName(kind.substr(slash + 1), "_-", true);
}

// Readers of a JSON object's fields; a field that is missing leaves the default.
Result<> CheckFields(const Json& object, const std::set<std::string_view>& known,
                     const std::string& where) {
  if (!object.is_object()) return BadCdi(where + " is not an object");
  for (const auto& [name, value] : object.items()) {
    if (!known.contains(name)) return BadCdi(where + ": unknown field \"" + name + "\"");
  }
  return {};
}

Result<std::string> Text(const Json& object, const char* name) {
  const auto found = object.find(name);
  if (found == object.end() || found->is_null()) return std::string();
  if (!found->is_string()) return BadCdi(std::string(name) + " is not a string");
  return found->get<std::string>();
}

Result<std::optional<uint32_t>> Number(const Json& object, const char* name) {
  const auto found = object.find(name);
  if (found == object.end() || found->is_null()) return std::optional<uint32_t>();
  if (!found->is_number_unsigned() || found->get<uint64_t>() > UINT32_MAX) {
    return BadCdi(std::string(name) + " is not a number of 32 bits");
  }
  return std::optional<uint32_t>(found->get<uint32_t>());
}

// The elements of a list, none where it is missing.
Result<std::vector<Json>> List(const Json& object, const char* name) {
  const auto found = object.find(name);
  if (found == object.end() || found->is_null()) return std::vector<Json>();
  if (!found->is_array()) return BadCdi(std::string(name) + " is not a list");
  if (found->size() > kEntryLimit) return BadCdi(std::string(name) + " is too long");
  return found->get<std::vector<Json>>();
}

Result<runtime::DeviceSpec> ParseDeviceNode(const Json& node) {
  TRY(CheckFields(
      node, {"path", "hostPath", "type", "major", "minor", "fileMode", "permissions", "uid", "gid"},
      "device node"));
  runtime::DeviceSpec device;
  device.container_path = TRY(Text(node, "path"));
  device.host_path = TRY(Text(node, "hostPath"));
  if (device.host_path.empty()) device.host_path = device.container_path;
  if (!IsAbsolute(device.container_path) || !IsAbsolute(device.host_path)) {
    return BadCdi("device node \"" + device.container_path + "\": the path is not absolute");
  }
  if (const std::string access = TRY(Text(node, "permissions")); !access.empty()) {
    if (access.find_first_not_of("rwm") != std::string::npos) {
      return BadCdi("device node " + device.container_path + ": bad permissions");
    }
    device.access = access;
  }
  const std::string type = TRY(Text(node, "type"));
  if (!type.empty() && type != "c" && type != "u" && type != "b") {
    return BadCdi("device node " + device.container_path + ": type \"" + type +
                  "\" is not supported");
  }
  device.type = type.empty() ? '\0' : type == "b" ? 'b' : 'c';
  device.major = TRY(Number(node, "major"));
  device.minor = TRY(Number(node, "minor"));
  device.file_mode = TRY(Number(node, "fileMode"));
  device.uid = TRY(Number(node, "uid"));
  device.gid = TRY(Number(node, "gid"));
  return device;
}

Result<> ApplyMountOption(const std::string& option, runtime::MountSpec* mount) {
  using runtime::MountPropagation;
  if (option == "rw" || option == "bind" || option == "rbind") {
    mount->recursive = mount->recursive || option == "rbind";
  } else if (option == "ro") {
    mount->readonly = true;
  } else if (option == "nosuid") {
    mount->no_suid = true;
  } else if (option == "nodev") {
    mount->no_dev = true;
  } else if (option == "noexec") {
    mount->no_exec = true;
  } else if (option == "private" || option == "rprivate") {
    mount->propagation = MountPropagation::kPrivate;
  } else if (option == "slave" || option == "rslave") {
    mount->propagation = MountPropagation::kSlave;
  } else if (option == "shared" || option == "rshared") {
    mount->propagation = MountPropagation::kShared;
  } else {
    return BadCdi("mount at " + mount->target + ": option \"" + option + "\" is not supported");
  }
  return {};
}

Result<runtime::MountSpec> ParseMount(const Json& json) {
  TRY(CheckFields(json, {"hostPath", "containerPath", "options", "type"}, "mount"));
  runtime::MountSpec mount;
  mount.recursive = false;
  mount.source = TRY(Text(json, "hostPath"));
  mount.target = TRY(Text(json, "containerPath"));
  const std::string type = TRY(Text(json, "type"));
  if (!IsAbsolute(mount.target)) return BadCdi("mount: the container path is not absolute");
  const std::vector<Json> options = TRY(List(json, "options"));
  if (type == "tmpfs") {
    mount.type = runtime::MountSpec::Type::kTmpfs;
    for (const Json& option : options) {
      if (!option.is_string()) return BadCdi("mount: an option is not a string");
      mount.tmpfs_options += (mount.tmpfs_options.empty() ? "" : ",") + option.get<std::string>();
    }
    return mount;
  }
  if (!type.empty() && type != "bind" && type != "none") {
    return BadCdi("mount at " + mount.target + ": type \"" + type + "\" is not supported");
  }
  if (!IsAbsolute(mount.source)) return BadCdi("mount: the host path is not absolute");
  for (const Json& option : options) {
    if (!option.is_string()) return BadCdi("mount: an option is not a string");
    TRY(ApplyMountOption(option.get<std::string>(), &mount));
  }
  return mount;
}

Result<CdiEdits> ParseEdits(const Json& owner) {
  CdiEdits edits;
  const auto found = owner.find("containerEdits");
  if (found == owner.end() || found->is_null()) return edits;
  const Json& json = *found;
  TRY(CheckFields(
      json, {"env", "deviceNodes", "netDevices", "mounts", "hooks", "additionalGids", "intelRdt"},
      "containerEdits"));
  for (const Json& entry : TRY(List(json, "env"))) {
    if (!entry.is_string() || entry.get<std::string>().find('=') == std::string::npos ||
        entry.get<std::string>().front() == '=' ||
        entry.get<std::string>().find('\0') != std::string::npos) {
      return BadCdi("env: an entry is not NAME=VALUE");
    }
    edits.env.push_back(entry.get<std::string>());
  }
  for (const Json& node : TRY(List(json, "deviceNodes"))) {
    edits.devices.push_back(TRY(ParseDeviceNode(node)));
  }
  for (const Json& mount : TRY(List(json, "mounts"))) {
    edits.mounts.push_back(TRY(ParseMount(mount)));
  }
  for (const Json& gid : TRY(List(json, "additionalGids"))) {
    if (!gid.is_number_unsigned() || gid.get<uint64_t>() >= UINT32_MAX) {
      return BadCdi("additionalGids: not a group id");
    }
    // The specification has 0 ignored: it is what a missing value decodes to.
    if (gid.get<uint32_t>() != 0) edits.additional_gids.push_back(gid.get<uint32_t>());
  }
  for (const char* name : {"hooks", "netDevices"}) {
    if (!TRY(List(json, name)).empty()) edits.refused = name;
  }
  if (const auto rdt = json.find("intelRdt"); rdt != json.end() && !rdt->is_null()) {
    edits.refused = "intelRdt";
  }
  return edits;
}

Result<CdiSpec> SpecFromJson(const Json& json) {
  TRY(CheckFields(json, {"cdiVersion", "kind", "annotations", "devices", "containerEdits"},
                  "specification"));
  CdiSpec spec;
  const std::string version = TRY(Text(json, "cdiVersion"));
  if (std::find(std::begin(kVersions), std::end(kVersions), version) == std::end(kVersions)) {
    return BadCdi("version \"" + version + "\" is not supported");
  }
  spec.kind = TRY(Text(json, "kind"));
  if (!IsKind(spec.kind)) return BadCdi("kind \"" + spec.kind + "\" is not VENDOR/CLASS");
  spec.common = TRY(ParseEdits(json));
  for (const Json& device : TRY(List(json, "devices"))) {
    TRY(CheckFields(device, {"name", "annotations", "containerEdits"}, "device"));
    const std::string name = TRY(Text(device, "name"));
    if (!IsName(name, "_-.:", false)) return BadCdi("bad device name \"" + name + "\"");
    if (!spec.devices.emplace(name, TRY(ParseEdits(device))).second) {
      return BadCdi("device " + name + " is there twice");
    }
  }
  return spec;
}

void Append(const CdiEdits& from, CdiEdits* to) {
  const auto all = [](const auto& source, auto* target) {
    target->insert(target->end(), source.begin(), source.end());
  };
  all(from.env, &to->env);
  all(from.devices, &to->devices);
  all(from.mounts, &to->mounts);
  all(from.additional_gids, &to->additional_gids);
}

// What the directories say: devices by their full names, and what cannot be read.
class Catalogue {
 public:
  void Read(const std::string& directory) {
    std::set<std::string> here;
    auto names = ListDirectory(directory);
    if (!names.ok()) return;  // no such directory: no devices in it
    std::sort(names->begin(), names->end());
    for (const std::string& name : *names) {
      if (!name.ends_with(".json") && !name.ends_with(".yaml")) continue;
      const std::string path = directory + "/" + name;
      auto text = ReadFile(path, kFileLimitBytes);
      auto spec = text.ok() ? ParseCdiSpec(*text) : Result<CdiSpec>(text.error());
      if (!spec.ok()) {
        troubles_ += "; " + path + ": " + spec.error().message();
        continue;
      }
      Add(*std::move(spec), &here);
    }
  }

  Result<CdiEdits> Resolve(const std::vector<std::string>& names) const {
    CdiEdits edits;
    std::set<const CdiSpec*> used;
    for (const std::string& name : names) {
      const auto found = devices_.find(name);
      if (found == devices_.end()) {
        return BadCdi("unknown device \"" + name + "\"" + troubles_);
      }
      if (found->second.conflicting) return BadCdi("device " + name + " is defined twice");
      const CdiSpec& spec = *found->second.spec;
      const CdiEdits& own = spec.devices.at(name.substr(name.find('=') + 1));
      for (const CdiEdits* part : {&spec.common, &own}) {
        if (!part->refused.empty()) {
          return Error(Code::kUnimplemented, "CDI: device " + name + " asks for " + part->refused +
                                                 ", which this runtime does not do");
        }
      }
      if (used.insert(&spec).second) Append(spec.common, &edits);
      Append(own, &edits);
    }
    return edits;
  }

 private:
  struct Entry {
    std::shared_ptr<const CdiSpec> spec;
    bool conflicting = false;
  };

  void Add(CdiSpec spec, std::set<std::string>* here) {
    const auto shared = std::make_shared<const CdiSpec>(std::move(spec));
    for (const auto& [device, edits] : shared->devices) {
      const std::string name = shared->kind + "=" + device;
      const bool again = !here->insert(name).second;
      devices_[name] = {shared, again};
    }
  }

  std::map<std::string, Entry> devices_;
  std::string troubles_;
};

}  // namespace

Result<CdiSpec> ParseCdiSpec(std::string_view text) {
  // JSON is YAML, too.
  codec::YamlLimits limits;
  limits.max_bytes = kFileLimitBytes;
  limits.max_json_bytes = 4 * kFileLimitBytes;
  limits.max_depth = 16;
  const std::string json = TRY(codec::YamlToJson(text, limits));
  const Json parsed = Json::parse(json, nullptr, false);
  if (parsed.is_discarded()) return BadCdi("not JSON");
  return SpecFromJson(parsed);
}

Result<CdiEdits> ResolveCdiDevices(const std::vector<std::string>& names,
                                   const std::vector<std::string>& directories) {
  if (names.empty()) return CdiEdits();
  Catalogue catalogue;
  for (const std::string& directory : directories) catalogue.Read(directory);
  return catalogue.Resolve(names);
}

void ApplyCdiEdits(const CdiEdits& edits, runtime::ContainerSpec* spec) {
  for (const std::string& entry : edits.env) {
    const std::string prefix = entry.substr(0, entry.find('=') + 1);
    std::erase_if(spec->env, [&](const std::string& old) { return old.starts_with(prefix); });
    spec->env.push_back(entry);
  }
  // A node that a device and the configuration both name is the device's.
  for (const runtime::DeviceSpec& device : edits.devices) {
    std::erase_if(spec->devices, [&](const runtime::DeviceSpec& old) {
      return old.container_path == device.container_path;
    });
    spec->devices.push_back(device);
  }
  for (const runtime::MountSpec& mount : edits.mounts) {
    std::erase_if(spec->mounts,
                  [&](const runtime::MountSpec& old) { return old.target == mount.target; });
    spec->mounts.push_back(mount);
  }
  const auto depth = [](const runtime::MountSpec& mount) {
    return std::count(mount.target.begin(), mount.target.end(), '/');
  };
  std::stable_sort(spec->mounts.begin(), spec->mounts.end(),
                   [&](const auto& a, const auto& b) { return depth(a) < depth(b); });
  for (const uint32_t gid : edits.additional_gids) {
    std::vector<uint32_t>& gids = spec->user.additional_gids;
    if (std::find(gids.begin(), gids.end(), gid) == gids.end()) gids.push_back(gid);
  }
}

}  // namespace skiff::cri

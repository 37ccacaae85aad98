// Profiles as JSON: the format of the OCI runtime specification with Docker's archMap, includes
// and excludes.

#include <seccomp.h>
#include <sys/utsname.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <nlohmann/json.hpp>

#include "runtime/linux/capabilities.h"
#include "runtime/linux/seccomp.h"

namespace skiff::runtime {
namespace {

using nlohmann::json;

constexpr size_t kProfileLimitBytes = 1 << 20;
#if defined(__x86_64__)
constexpr std::string_view kGoArchitecture = "amd64";
#elif defined(__aarch64__)
constexpr std::string_view kGoArchitecture = "arm64";
#endif

Error BadProfile(const std::string& what) {
  return Error(Code::kInvalidArgument, "seccomp profile: " + what);
}

Result<SeccompAction> ParseAction(const json& object, const char* key, const char* errno_key) {
  if (!object.contains(key) || !object[key].is_string())
    return BadProfile(std::string("no ") + key);
  const std::string name = object[key];
  uint32_t number = EPERM;
  if (object.contains(errno_key) && object[errno_key].is_number_unsigned()) {
    number = object[errno_key];
  }
  if (number > 0xffff) return BadProfile("invalid errno");
  if (name == "SCMP_ACT_ALLOW") return SeccompAction{SCMP_ACT_ALLOW};
  if (name == "SCMP_ACT_ERRNO") return SeccompAction{SCMP_ACT_ERRNO(number)};
  if (name == "SCMP_ACT_KILL" || name == "SCMP_ACT_KILL_THREAD") {
    return SeccompAction{SCMP_ACT_KILL_THREAD};
  }
  if (name == "SCMP_ACT_KILL_PROCESS") return SeccompAction{SCMP_ACT_KILL_PROCESS};
  if (name == "SCMP_ACT_TRAP") return SeccompAction{SCMP_ACT_TRAP};
  if (name == "SCMP_ACT_LOG") return SeccompAction{SCMP_ACT_LOG};
  if (name == "SCMP_ACT_TRACE") return SeccompAction{SCMP_ACT_TRACE(number)};
  return BadProfile("unknown action \"" + name + "\"");
}

Result<int> ParseCompare(const std::string& name) {
  constexpr std::pair<const char*, int> kNames[] = {{"SCMP_CMP_NE", SCMP_CMP_NE},
                                                    {"SCMP_CMP_LT", SCMP_CMP_LT},
                                                    {"SCMP_CMP_LE", SCMP_CMP_LE},
                                                    {"SCMP_CMP_EQ", SCMP_CMP_EQ},
                                                    {"SCMP_CMP_GE", SCMP_CMP_GE},
                                                    {"SCMP_CMP_GT", SCMP_CMP_GT},
                                                    {"SCMP_CMP_MASKED_EQ", SCMP_CMP_MASKED_EQ}};
  for (auto [known, value] : kNames) {
    if (name == known) return value;
  }
  return BadProfile("unknown comparison \"" + name + "\"");
}

Result<std::vector<SeccompArgument>> ParseArguments(const json& rule) {
  std::vector<SeccompArgument> arguments;
  if (!rule.contains("args") || rule["args"].is_null()) return arguments;
  for (const json& item : rule["args"]) {
    SeccompArgument argument;
    argument.index = item.at("index").get<uint32_t>();
    if (argument.index > 5) return BadProfile("argument index out of range");
    argument.value = item.at("value").get<uint64_t>();
    argument.value_two = item.value("valueTwo", uint64_t{0});
    argument.compare = TRY(ParseCompare(item.at("op").get<std::string>()));
    arguments.push_back(argument);
  }
  return arguments;
}

// "4.8" is not newer than "6.1.0".
bool KernelAtLeast(const std::string& wanted) {
  utsname name;
  if (::uname(&name) != 0) return false;
  auto version = [](std::string_view text) {
    std::pair<int, int> numbers{0, 0};
    auto [rest, error] = std::from_chars(text.data(), text.data() + text.size(), numbers.first);
    if (error == std::errc() && rest < text.data() + text.size() && *rest == '.') {
      std::from_chars(rest + 1, text.data() + text.size(), numbers.second);
    }
    return numbers;
  };
  return version(name.release) >= version(wanted);
}

Result<bool> HasAnyOrAll(const json& filter, uint64_t capabilities, bool all) {
  for (const json& name : filter.value("caps", json::array())) {
    bool has = (capabilities & CapabilityBit(TRY(CapabilityNumber(name.get<std::string>())))) != 0;
    if (has != all) return !all;
  }
  return all;
}

bool NamesArchitecture(const json& filter) {
  for (const json& name : filter.value("arches", json::array())) {
    if (name.get<std::string>() == kGoArchitecture) return true;
  }
  return false;
}

// Whether the rule is meant for this machine and these capabilities.
Result<bool> Applies(const json& rule, uint64_t capabilities) {
  const json includes = rule.value("includes", json::object());
  if (includes.is_object()) {
    if (!TRY(HasAnyOrAll(includes, capabilities, true))) return false;
    if (includes.contains("arches") && !includes["arches"].empty() &&
        !NamesArchitecture(includes)) {
      return false;
    }
    if (includes.contains("minKernel") && !KernelAtLeast(includes["minKernel"])) return false;
  }
  const json excludes = rule.value("excludes", json::object());
  if (excludes.is_object()) {
    if (TRY(HasAnyOrAll(excludes, capabilities, false))) return false;
    if (NamesArchitecture(excludes)) return false;
    if (excludes.contains("minKernel") && KernelAtLeast(excludes["minKernel"])) return false;
  }
  return true;
}

void AddArchitecture(SeccompProfile& profile, const std::string& name) {
  // "SCMP_ARCH_X86_64" -> "x86_64"; those of other machines do no harm.
  std::string lower = name.starts_with("SCMP_ARCH_") ? name.substr(10) : name;
  for (char& c : lower) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  uint32_t token = seccomp_arch_resolve_name(lower.c_str());
  if (token != 0) profile.architectures.push_back(token);
}

Result<SeccompProfile> Parse(const json& document, uint64_t capabilities) {
  if (!document.is_object()) return BadProfile("not an object");
  SeccompProfile profile;
  profile.default_action = TRY(ParseAction(document, "defaultAction", "defaultErrnoRet"));
  for (const json& name : document.value("architectures", json::array())) {
    AddArchitecture(profile, name);
  }
  for (const json& entry : document.value("archMap", json::array())) {
    std::string name = entry.at("architecture");
    // Docker's file serves all machines; only the entry of this one counts.
    SeccompProfile entry_only;
    AddArchitecture(entry_only, name);
    if (entry_only.architectures != std::vector<uint32_t>{seccomp_arch_native()}) continue;
    for (const json& sub : entry.value("subArchitectures", json::array())) {
      AddArchitecture(profile, sub);
    }
  }
  for (const json& item : document.value("syscalls", json::array())) {
    if (!TRY(Applies(item, capabilities))) continue;
    SeccompRule rule;
    rule.action = TRY(ParseAction(item, "action", "errnoRet"));
    if (item.contains("name")) rule.names.push_back(item["name"]);
    for (const json& name : item.value("names", json::array())) rule.names.push_back(name);
    if (rule.names.empty()) return BadProfile("a rule without names");
    rule.arguments = TRY(ParseArguments(item));
    profile.rules.push_back(std::move(rule));
  }
  return profile;
}

}  // namespace

Result<SeccompProfile> ParseSeccompProfile(std::string_view text, uint64_t capabilities) {
  if (text.size() > kProfileLimitBytes) return BadProfile("too long");
  try {
    return Parse(json::parse(text), capabilities);
  } catch (const json::exception& exception) {
    return BadProfile(exception.what());
  }
}

}  // namespace skiff::runtime

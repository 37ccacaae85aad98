// Profiles as an OCI runtime reads them: "linux.seccomp" of the OCI runtime specification.

#include <seccomp.h>

#include <nlohmann/json.hpp>

#include "runtime/linux/seccomp.h"

namespace skiff::runtime {
namespace {

using nlohmann::json;

constexpr std::pair<uint32_t, const char*> kArchitectures[] = {
    {SCMP_ARCH_X86, "SCMP_ARCH_X86"},         {SCMP_ARCH_X86_64, "SCMP_ARCH_X86_64"},
    {SCMP_ARCH_X32, "SCMP_ARCH_X32"},         {SCMP_ARCH_ARM, "SCMP_ARCH_ARM"},
    {SCMP_ARCH_AARCH64, "SCMP_ARCH_AARCH64"}, {SCMP_ARCH_RISCV64, "SCMP_ARCH_RISCV64"},
    {SCMP_ARCH_PPC64LE, "SCMP_ARCH_PPC64LE"}, {SCMP_ARCH_S390X, "SCMP_ARCH_S390X"}};

// The action's name and, where it has one, its errno.
void PutAction(json& object, const char* key, const char* errno_key, SeccompAction action) {
  constexpr std::pair<uint32_t, const char*> kWhole[] = {
      {SCMP_ACT_ALLOW, "SCMP_ACT_ALLOW"},
      {SCMP_ACT_LOG, "SCMP_ACT_LOG"},
      {SCMP_ACT_KILL_THREAD, "SCMP_ACT_KILL_THREAD"},
      {SCMP_ACT_KILL_PROCESS, "SCMP_ACT_KILL_PROCESS"},
      {SCMP_ACT_TRAP, "SCMP_ACT_TRAP"}};
  for (const auto& [value, name] : kWhole) {
    if (action.value == value) object[key] = name;
  }
  const uint32_t kind = action.value & 0xffff0000U;
  if (kind != SCMP_ACT_ERRNO(0) && kind != SCMP_ACT_TRACE(0)) return;
  object[key] = kind == SCMP_ACT_ERRNO(0) ? "SCMP_ACT_ERRNO" : "SCMP_ACT_TRACE";
  object[errno_key] = action.value & 0xffffU;
}

const char* CompareName(int compare) {
  switch (compare) {
    case SCMP_CMP_NE: return "SCMP_CMP_NE";
    case SCMP_CMP_LT: return "SCMP_CMP_LT";
    case SCMP_CMP_LE: return "SCMP_CMP_LE";
    case SCMP_CMP_EQ: return "SCMP_CMP_EQ";
    case SCMP_CMP_GE: return "SCMP_CMP_GE";
    case SCMP_CMP_GT: return "SCMP_CMP_GT";
    default: return "SCMP_CMP_MASKED_EQ";
  }
}

json Argument(const SeccompArgument& argument) {
  return {{"index", argument.index},
          {"value", argument.value},
          {"valueTwo", argument.value_two},
          {"op", CompareName(argument.compare)}};
}

bool RepeatsAnIndex(const SeccompRule& rule) {
  for (size_t i = 0; i < rule.arguments.size(); ++i) {
    for (size_t j = 0; j < i; ++j) {
      if (rule.arguments[i].index == rule.arguments[j].index) return true;
    }
  }
  return false;
}

json Rule(const SeccompRule& rule) {
  json object{{"names", rule.names}};
  PutAction(object, "action", "errnoRet", rule.action);
  return object;
}

}  // namespace

std::string RenderSeccompProfile(const SeccompProfile& profile) {
  json document = json::object();
  PutAction(document, "defaultAction", "defaultErrnoRet", profile.default_action);
  json& architectures = document["architectures"] = json::array();
  for (const auto& [token, name] : kArchitectures) {
    if (token == seccomp_arch_native()) architectures.push_back(name);
  }
  for (uint32_t wanted : profile.architectures) {
    for (const auto& [token, name] : kArchitectures) {
      if (token == wanted && token != seccomp_arch_native()) architectures.push_back(name);
    }
  }
  json& rules = document["syscalls"] = json::array();
  for (const SeccompRule& rule : profile.rules) {
    json object = Rule(rule);
    // Runtimes differ in what two conditions on one argument mean: one rule for each says "either".
    const bool either = RepeatsAnIndex(rule);
    for (const SeccompArgument& argument : rule.arguments) {
      if (either) object["args"] = json::array();
      object["args"].push_back(Argument(argument));
      if (either) rules.push_back(object);
    }
    if (!either) rules.push_back(std::move(object));
  }
  return document.dump();
}

Result<std::string> OciSeccompFor(const SeccompSpec& spec, uint64_t capabilities) {
  switch (spec.kind) {
    case SeccompSpec::Kind::kUnconfined: return std::string();
    case SeccompSpec::Kind::kDefault:
      return RenderSeccompProfile(DefaultSeccompProfile(capabilities));
    case SeccompSpec::Kind::kProfile: break;
  }
  return RenderSeccompProfile(TRY(ParseSeccompProfile(spec.profile_json, capabilities)));
}

}  // namespace skiff::runtime

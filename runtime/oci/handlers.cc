#include "runtime/oci/handlers.h"

#include <algorithm>
#include <set>

#include "base/log.h"
#include "base/os/files.h"
#include "base/os/spawn.h"
#include "runtime/state/paths.h"

namespace skiff::runtime {
namespace {

constexpr std::chrono::seconds kProbePatience{5};

// As RuntimeClass.handler: a DNS label.
bool IsHandlerName(const std::string& name) {
  const auto alnum = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); };
  return !name.empty() && name.size() <= 63 && alnum(name.front()) && alnum(name.back()) &&
         std::all_of(name.begin(), name.end(), [&](char c) { return alnum(c) || c == '-'; });
}

Result<OciRuntime> Probe(const OciHandler& handler, const std::string& state_dir) {
  OciRuntime runtime{.name = handler.name, .root = handler.root};
  if (runtime.root.empty()) runtime.root = StatePaths(state_dir).OciRoot(handler.name);
  const ProgramOutput output = TRY(RunProgram(
      {.path = handler.path, .argv = {handler.path, "--version"}, .env = {}}, {}, kProbePatience));
  if (!output.status.Success()) {
    return Error(Code::kFailedPrecondition, handler.path + " --version: exit status " +
                                                std::to_string(output.status.ShellCode()));
  }
  runtime.version = FirstLine(output.out);
  const auto features = RunProgram(
      {.path = handler.path, .argv = {handler.path, "features"}, .env = {}}, {}, kProbePatience);
  if (features.ok() && features->status.Success()) {
    runtime.features = ParseOciFeatures(features->out);
  }
  TRY(MakeDirectories(runtime.root, 0700));
  runtime.command = {handler.path, "--root", runtime.root};
  runtime.command.insert(runtime.command.end(), handler.args.begin(), handler.args.end());
  return runtime;
}

}  // namespace

std::string FirstLine(std::string_view text) {
  return std::string(text.substr(0, text.find('\n')));
}

Result<> CheckHandlers(const std::vector<OciHandler>& handlers) {
  std::set<std::string> names = {"skiff"};
  for (const OciHandler& handler : handlers) {
    const std::string what = "runtime handler \"" + handler.name + "\": ";
    if (!IsHandlerName(handler.name)) {
      return Error(Code::kInvalidArgument, what + "a name is lower-case letters, digits and '-'");
    }
    if (!names.insert(handler.name).second) {
      return Error(Code::kInvalidArgument, what + "the name is taken");
    }
    if (!handler.path.starts_with('/')) {
      return Error(Code::kInvalidArgument, what + "the path must be absolute");
    }
    if (!handler.root.empty() && !handler.root.starts_with('/')) {
      return Error(Code::kInvalidArgument, what + "the root must be absolute");
    }
  }
  return {};
}

Result<std::unique_ptr<OciHandlers>> OciHandlers::Open(const std::vector<OciHandler>& configured,
                                                       const std::string& state_dir) {
  TRY(CheckHandlers(configured));
  auto handlers = std::make_unique<OciHandlers>();
  for (const OciHandler& handler : configured) {
    Result<OciRuntime> found = Probe(handler, state_dir);
    if (!found.ok()) {
      log::Warning("a runtime handler cannot be used",
                   {{"handler", handler.name}, {"error", found.error()}});
      continue;
    }
    handlers->runtimes_.push_back(std::move(*found));
  }
  return handlers;
}

Result<const OciRuntime*> OciHandlers::Find(const std::string& name) const {
  if (name.empty()) return static_cast<const OciRuntime*>(nullptr);
  for (const OciRuntime& runtime : runtimes_) {
    if (runtime.name == name) return &runtime;
  }
  return Error(Code::kNotFound, "no runtime handler named \"" + name + "\"");
}

}  // namespace skiff::runtime

#include "cni/runner/plugin_program.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "base/log.h"
#include "base/os/spawn.h"
#include "cni/spec/document.h"

namespace skiff::cni {
namespace {

constexpr size_t kExcerpt = 400;

// The beginning of what a program said, on one line.
std::string Excerpt(std::string_view text) {
  std::string line(text.substr(0, kExcerpt));
  std::replace_if(
      line.begin(), line.end(), [](unsigned char c) { return c < ' ' || c == 0x7f; }, ' ');
  while (line.ends_with(' ')) line.pop_back();
  return text.size() > kExcerpt ? line + "..." : line;
}

std::string ContextOf(const PluginCall& call) {
  return "plugin " + call.type + ": " + call.command;
}

// The daemon's environment, as plugins are used to (PATH, proxies), and what CNI says.
std::vector<std::string> EnvironmentOf(const PluginPrograms& programs, const PluginCall& call) {
  std::vector<std::string> environment;
  bool has_path = false;
  for (char** variable = environ; *variable != nullptr; ++variable) {
    std::string_view text = *variable;
    if (text.starts_with("CNI_")) continue;
    has_path = has_path || text.starts_with("PATH=");
    environment.emplace_back(text);
  }
  if (!has_path) environment.emplace_back("PATH=/usr/sbin:/usr/bin:/sbin:/bin");
  environment.push_back("CNI_COMMAND=" + call.command);
  environment.push_back("CNI_CONTAINERID=" + call.container_id);
  environment.push_back("CNI_NETNS=" + call.netns);
  environment.push_back("CNI_IFNAME=" + call.interface);
  environment.push_back("CNI_ARGS=" + call.arguments);
  std::string path;
  for (const std::string& directory : programs.directories) {
    path += (path.empty() ? "" : ":") + directory;
  }
  environment.push_back("CNI_PATH=" + path);
  return environment;
}

std::string HowItEnded(const ExitStatus& status) {
  return status.signal != 0 ? "killed by signal " + std::to_string(status.signal)
                            : "exit code " + std::to_string(status.code);
}

}  // namespace

Result<std::string> FindPlugin(const PluginPrograms& programs, const std::string& type) {
  std::string searched;
  for (const std::string& directory : programs.directories) {
    std::string path = directory + "/" + type;
    struct stat about = {};
    if (::stat(path.c_str(), &about) == 0 && S_ISREG(about.st_mode) &&
        ::access(path.c_str(), X_OK) == 0) {
      return path;
    }
    searched += (searched.empty() ? "" : ", ") + directory;
  }
  return Error(Code::kNotFound, "plugin " + type + ": there is no such program in " + searched);
}

Result<PluginAnswer> RunPlugin(const PluginPrograms& programs, const PluginCall& call) {
  std::string path = TRY(FindPlugin(programs, call.type));
  // A session of its own, so that what it starts can be ended with it.
  SpawnRequest request{
      .path = path, .argv = {path}, .env = EnvironmentOf(programs, call), .new_session = true};
  ProgramOutput output =
      TRY(RunProgram(std::move(request), call.config, programs.deadline).With(ContextOf(call)));
  if (output.out.size() > kDocumentLimitBytes) {
    return Error(Code::kInternal, ContextOf(call) + ": printed more than " +
                                      std::to_string(kDocumentLimitBytes >> 10) +
                                      " KiB: " + Excerpt(output.out));
  }
  PluginAnswer answer{.output = std::move(output.out)};
  if (output.status.Success()) {
    if (!output.err.empty()) {
      log::Debug("a plugin said something",
                 {{"plugin", call.type}, {"command", call.command}, {"text", Excerpt(output.err)}});
    }
    return answer;
  }
  answer.error = ParsePluginError(answer.output);
  if (!answer.error) {
    std::string text = ContextOf(call) + ": " + HowItEnded(output.status) + " and no CNI error";
    if (!answer.output.empty()) text += "; its output: " + Excerpt(answer.output);
    if (!output.err.empty()) text += "; its errors: " + Excerpt(output.err);
    return Error(Code::kInternal, text);
  }
  answer.error->message = Excerpt(answer.error->message);
  answer.error->details = Excerpt(answer.error->details);
  return answer;
}

Error PluginFailure(const PluginCall& call, const PluginError& error) {
  return Error(CodeOf(error), ContextOf(call) + ": " + error.ToString());
}

}  // namespace skiff::cni

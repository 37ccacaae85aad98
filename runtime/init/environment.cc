#include "runtime/init/environment.h"

namespace skiff::runtime {
namespace {

constexpr const char* kDefaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

}  // namespace

const std::string* FindVariable(const std::vector<std::string>& env, std::string_view name) {
  for (const std::string& entry : env) {
    if (entry.size() > name.size() && entry.starts_with(name) && entry[name.size()] == '=') {
      return &entry;
    }
  }
  return nullptr;
}

std::vector<std::string> FullEnvironment(std::vector<std::string> env, const std::string& home,
                                         bool terminal) {
  if (FindVariable(env, "PATH") == nullptr) env.push_back(std::string("PATH=") + kDefaultPath);
  if (FindVariable(env, "HOME") == nullptr) env.push_back("HOME=" + home);
  if (terminal && FindVariable(env, "TERM") == nullptr) env.push_back("TERM=xterm");
  return env;
}

}  // namespace skiff::runtime

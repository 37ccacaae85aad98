#include "cni/spec/version.h"

#include <charconv>

namespace skiff::cni {

const std::vector<CniVersion>& AllCniVersions() {
  static const std::vector<CniVersion> all = {kCni010, kCni020, kCni030, kCni031,
                                              kCni040, kCni100, kCni110};
  return all;
}

Result<CniVersion> ParseCniVersion(std::string_view text) {
  CniVersion version;
  std::string_view rest = text;
  for (int* part : {&version.major, &version.minor, &version.patch}) {
    const bool last = part == &version.patch;
    auto [end, trouble] = std::from_chars(rest.data(), rest.data() + rest.size(), *part);
    rest.remove_prefix(static_cast<size_t>(end - rest.data()));
    const bool delimited = last ? rest.empty() : rest.starts_with('.');
    if (trouble != std::errc() || *part < 0 || !delimited) {
      return Error(Code::kInvalidArgument,
                   "\"" + std::string(text.substr(0, 40)) + "\" is no CNI version (\"1.0.0\")");
    }
    if (!last) rest.remove_prefix(1);
  }
  return version;
}

std::string ToString(const CniVersion& version) {
  return std::to_string(version.major) + "." + std::to_string(version.minor) + "." +
         std::to_string(version.patch);
}

}  // namespace skiff::cni

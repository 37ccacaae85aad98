#include "runtime/image/reference.h"

#include <algorithm>

namespace skiff::runtime {
namespace {

// distribution's limit on the whole name.
constexpr size_t kMaxNameLength = 255;
constexpr size_t kMaxTagLength = 128;

bool IsLowerOrDigit(char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); }
bool IsAlnum(char c) { return IsLowerOrDigit(c) || (c >= 'A' && c <= 'Z'); }

Error NotAReference(std::string_view text, std::string_view why) {
  return Error(
      Code::kInvalidArgument,
      "invalid image reference \"" + std::string(text.substr(0, 300)) + "\": " + std::string(why));
}

// One path component: runs of [a-z0-9] joined by ".", "_", "__" or any number of "-".
bool IsComponent(std::string_view text) {
  if (text.empty() || !IsLowerOrDigit(text.front()) || !IsLowerOrDigit(text.back())) return false;
  for (size_t i = 0; i < text.size();) {
    if (IsLowerOrDigit(text[i])) {
      ++i;
      continue;
    }
    const size_t end = std::min(text.find_first_not_of(text[i], i), text.size());
    const size_t run = end - i;
    const bool separator =
        (text[i] == '.' && run == 1) || (text[i] == '_' && run <= 2) || text[i] == '-';
    if (!separator || !IsLowerOrDigit(text[end])) return false;
    i = end;
  }
  return true;
}

bool IsRepository(std::string_view text) {
  while (true) {
    const size_t slash = text.find('/');
    if (!IsComponent(text.substr(0, slash))) return false;
    if (slash == std::string_view::npos) return true;
    text.remove_prefix(slash + 1);
  }
}

bool IsPort(std::string_view text) {
  return !text.empty() && text.size() <= 5 &&
         std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

// A DNS name or IPv4 address, or an IPv6 address in brackets, and a port.
bool IsHost(std::string_view text) {
  if (!text.empty() && text.front() == '[') {
    const size_t end = text.find(']');
    if (end == std::string_view::npos || end < 2) return false;
    const bool address =
        std::all_of(text.begin() + 1, text.begin() + static_cast<ptrdiff_t>(end), [](char c) {
          return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F') ||
                 c == ':';
        });
    const std::string_view rest = text.substr(end + 1);
    return address && (rest.empty() || (rest.front() == ':' && IsPort(rest.substr(1))));
  }
  const size_t colon = text.find(':');
  if (colon != std::string_view::npos && !IsPort(text.substr(colon + 1))) return false;
  std::string_view name = text.substr(0, colon);
  while (true) {
    const size_t dot = name.find('.');
    const std::string_view label = name.substr(0, dot);
    if (label.empty() || !IsAlnum(label.front()) || !IsAlnum(label.back())) return false;
    if (!std::all_of(label.begin(), label.end(), [](char c) { return IsAlnum(c) || c == '-'; })) {
      return false;
    }
    if (dot == std::string_view::npos) return true;
    name.remove_prefix(dot + 1);
  }
}

bool IsTag(std::string_view text) {
  if (text.empty() || text.size() > kMaxTagLength) return false;
  if (!IsAlnum(text.front()) && text.front() != '_') return false;
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return IsAlnum(c) || c == '_' || c == '.' || c == '-'; });
}

// The first component is a host when it could not be a repository's: it has a dot or a port, or is
// localhost, or has capitals.
bool LooksLikeHost(std::string_view component) {
  return component == "localhost" || component.find_first_of(".:") != std::string_view::npos ||
         std::any_of(component.begin(), component.end(),
                     [](char c) { return c >= 'A' && c <= 'Z'; });
}

}  // namespace

Result<ImageReference> ImageReference::Parse(std::string_view text) {
  ImageReference reference;
  std::string_view rest = text;
  if (const size_t at = rest.find('@'); at != std::string_view::npos) {
    auto digest = Digest::Parse(rest.substr(at + 1));
    if (!digest.ok()) return NotAReference(text, "bad digest");
    reference.digest = *std::move(digest);
    rest = rest.substr(0, at);
  }
  const size_t slash = rest.find('/');
  std::string_view host;
  if (slash != std::string_view::npos && LooksLikeHost(rest.substr(0, slash))) {
    host = rest.substr(0, slash);
    rest.remove_prefix(slash + 1);
    if (!IsHost(host)) return NotAReference(text, "bad registry host");
  }
  if (const size_t colon = rest.rfind(':'); colon != std::string_view::npos) {
    if (!IsTag(rest.substr(colon + 1))) return NotAReference(text, "bad tag");
    reference.tag = rest.substr(colon + 1);
    rest = rest.substr(0, colon);
  }
  if (host.empty() || host == "index.docker.io") host = "docker.io";
  reference.host = host;
  reference.repository = rest;
  if (!IsRepository(rest)) return NotAReference(text, "bad repository name");
  if (host == "docker.io" && rest.find('/') == std::string_view::npos) {
    reference.repository = "library/" + reference.repository;
  }
  if (reference.Name().size() > kMaxNameLength) return NotAReference(text, "name too long");
  if (reference.tag.empty() && reference.digest.empty()) reference.tag = "latest";
  return reference;
}

std::string ImageReference::Tagged() const { return tag.empty() ? "" : Name() + ":" + tag; }

std::string ImageReference::ToString() const {
  return digest.empty() ? Tagged() : WithDigest(digest);
}

}  // namespace skiff::runtime

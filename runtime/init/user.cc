#include "runtime/init/user.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>

namespace skiff::runtime {
namespace {

std::optional<uint32_t> ParseId(std::string_view text) {
  uint32_t id = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), id);
  // (uid_t)-1 means "leave as it is" to the kernel.
  if (error != std::errc() || end != text.data() + text.size() || id == UINT32_MAX) return {};
  return id;
}

// Cuts the first piece up to the separator off the text.
std::string_view NextPiece(std::string_view& text, char separator) {
  std::string_view piece = text.substr(0, text.find(separator));
  text.remove_prefix(std::min(text.size(), piece.size() + 1));
  return piece;
}

template <size_t N>
std::array<std::string_view, N> Fields(std::string_view line) {
  std::array<std::string_view, N> fields;
  for (std::string_view& field : fields) field = NextPiece(line, ':');
  return fields;
}

struct PasswdEntry {
  std::string_view name;
  uint32_t uid = 0;
  uint32_t gid = 0;
  std::string_view home;
};

// passwd(5): name:password:uid:gid:comment:home:shell
std::optional<PasswdEntry> FindPasswd(std::string_view passwd, std::string_view name,
                                      std::optional<uint32_t> uid) {
  while (!passwd.empty()) {
    auto fields = Fields<6>(NextPiece(passwd, '\n'));
    std::optional<uint32_t> entry_uid = ParseId(fields[2]);
    std::optional<uint32_t> entry_gid = ParseId(fields[3]);
    if (!entry_uid || !entry_gid) continue;
    if (uid ? *uid == *entry_uid : fields[0] == name) {
      return PasswdEntry{fields[0], *entry_uid, *entry_gid, fields[5]};
    }
  }
  return {};
}

bool IsMember(std::string_view members, std::string_view user) {
  while (!members.empty()) {
    if (NextPiece(members, ',') == user) return true;
  }
  return false;
}

// group(5): name:password:gid:members
std::optional<uint32_t> FindGroup(std::string_view group, std::string_view name) {
  while (!group.empty()) {
    auto fields = Fields<3>(NextPiece(group, '\n'));
    if (fields[0] == name) {
      if (auto gid = ParseId(fields[2])) return gid;
    }
  }
  return {};
}

Result<uint32_t> ResolveGroup(std::string_view text, std::string_view group) {
  if (auto gid = ParseId(text)) return *gid;
  if (auto gid = FindGroup(group, text)) return *gid;
  return Error(Code::kInvalidArgument,
               "unable to find group " + std::string(text) + ": no matching entries in group file");
}

void AddGroup(std::vector<uint32_t>& groups, uint32_t gid) {
  if (std::find(groups.begin(), groups.end(), gid) == groups.end()) groups.push_back(gid);
}

}  // namespace

Result<FoundUser> FindUser(const UserSpec& spec, std::string_view passwd, std::string_view group) {
  std::string_view rest = spec.user;
  std::string_view user = NextPiece(rest, ':');
  std::string_view own_group = rest;
  if (user.empty()) user = "0";

  FoundUser found{.ids = {}, .home = "/"};
  std::optional<uint32_t> uid = ParseId(user);
  std::optional<PasswdEntry> entry = FindPasswd(passwd, user, uid);
  if (!uid && !entry) {
    return Error(Code::kInvalidArgument, "unable to find user " + std::string(user) +
                                             ": no matching entries in passwd file");
  }
  found.ids.uid = uid ? *uid : entry->uid;
  if (entry) {
    found.ids.gid = entry->gid;
    if (!entry->home.empty()) found.home = entry->home;
  }
  std::string_view wanted = spec.group.empty() ? own_group : std::string_view(spec.group);
  if (!wanted.empty()) found.ids.gid = TRY(ResolveGroup(wanted, group));

  found.ids.groups.push_back(found.ids.gid);
  if (spec.groups_from_image && entry) {
    std::string_view lines = group;
    while (!lines.empty()) {
      auto fields = Fields<4>(NextPiece(lines, '\n'));
      std::optional<uint32_t> gid = ParseId(fields[2]);
      if (gid && IsMember(fields[3], entry->name)) AddGroup(found.ids.groups, *gid);
    }
  }
  for (uint32_t gid : spec.additional_gids) AddGroup(found.ids.groups, gid);
  return found;
}

}  // namespace skiff::runtime

#include "agent/policy/members.h"

namespace skiff::agent::policy {

void MemberSets::SetPart(const std::string& name, std::vector<Member> members) {
  const std::string set = name.substr(0, name.find('.'));
  std::vector<Member> before;
  if (auto found = parts_.find(name); found != parts_.end()) before = std::move(found->second);
  auto count = [&](const Member& member, int by) {
    Counts& counts = sets_[set];
    int& present = counts[member];
    present += by;
    // Also where it is there before and after: who asks sees that nothing has changed.
    touched_[set].insert(member);
    if (present == 0) counts.erase(member);
    if (counts.empty()) sets_.erase(set);
  };
  for (const Member& member : members) count(member, 1);
  for (const Member& member : before) count(member, -1);
  if (members.empty()) {
    parts_.erase(name);
  } else {
    parts_[name] = std::move(members);
  }
}

void MemberSets::KeepOnly(const std::set<std::string>& names) {
  std::vector<std::string> gone;
  for (const auto& [name, members] : parts_) {
    if (!names.contains(name)) gone.push_back(name);
  }
  for (const std::string& name : gone) SetPart(name, {});
}

const MemberSets::Counts* MemberSets::Find(const std::string& set) const {
  auto found = sets_.find(set);
  return found == sets_.end() ? nullptr : &found->second;
}

}  // namespace skiff::agent::policy

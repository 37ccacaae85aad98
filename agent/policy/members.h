// MemberSets: the address sets of the control plane, put together from their parts, with what has
// changed since it was last asked for. Plain values, one thread.
#pragma once

#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "agent/policy/model.h"

namespace skiff::agent::policy {

class MemberSets {
 public:
  // A member of several parts (an address that one pod gives up and another gets) is there until
  // the last of them is without it.
  using Counts = std::map<Member, int>;

  // name: "SET.PART"; no members: the part is gone.
  void SetPart(const std::string& name, std::vector<Member> members);
  // Every part that is not named is gone.
  void KeepOnly(const std::set<std::string>& names);

  // Null for a set without members.
  const Counts* Find(const std::string& set) const;
  // The members that came or went since the last call, by set.
  std::map<std::string, std::set<Member>> TakeTouched() { return std::exchange(touched_, {}); }

 private:
  std::map<std::string, std::vector<Member>> parts_;
  std::map<std::string, Counts> sets_;
  std::map<std::string, std::set<Member>> touched_;
};

}  // namespace skiff::agent::policy

// RuleWriter: brings the tables in the kernel to what is planned, and knows what is in force.
//
// One transaction a call, for both families together: at no moment does a packet meet half of a
// change. Rules are compared chain by chain and elements one by one, so that a change costs what it
// changes. After a failure, and at first, what is in force is not known and the tables are written
// whole, again in one step. One thread at a time.
#pragma once

#include <array>
#include <map>
#include <optional>
#include <set>
#include <string>

#include "agent/policy/members.h"
#include "agent/policy/plan.h"
#include "base/net/nft.h"
#include "base/result.h"

namespace skiff::agent::policy {

class RuleWriter {
 public:
  explicit RuleWriter(net::Nft& nft) : nft_(nft) {}

  // Addresses that the tables of a run before isolate.
  struct Isolated {
    std::set<net::IpAddress> ingress, egress;
  };
  Isolated ReadIsolated();

  // plans: in the order of net::kIpFamilies. touched: of MemberSets, since the last call that
  // succeeded.
  Result<> Write(std::array<TablePlan, 2> plans, const MemberSets& members,
                 const std::map<std::string, std::set<Member>>& touched);
  // Whether somebody else removed the tables or their rules; they are written whole next time.
  bool CheckForFlush();
  void ForgetAll() { whole_ = true; }

  // How many elements and rules the last write changed.
  size_t last_operations() const { return last_operations_; }

 private:
  struct InForce {
    TablePlan plan;
    std::map<std::string, std::set<net::nft::Bytes>> members;  // of address sets
    uint64_t handle = 0;
  };
  net::nft::Transaction Replace(net::IpFamily family, const TablePlan& plan,
                                const MemberSets& members, InForce* after) const;
  net::nft::Transaction Change(net::IpFamily family, const TablePlan& plan,
                               const MemberSets& members,
                               const std::map<std::string, std::set<Member>>& touched,
                               InForce* state) const;

  net::Nft& nft_;
  bool whole_ = true;
  std::array<InForce, 2> in_force_;
  size_t last_operations_ = 0;
};

// Removes the tables of both families. Succeeds when there are none.
Result<> RemovePolicyTables(net::Nft& nft);

}  // namespace skiff::agent::policy

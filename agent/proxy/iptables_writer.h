// The iptables mode of ServiceProxy: writes the rules of states with iptables-restore.
#pragma once

#include <vector>

#include "agent/proxy/rule_writer.h"

namespace skiff::net {
class Iptables;
}

namespace skiff::agent::proxy {

class IptablesWriter : public RuleWriter {
 public:
  // Of the contexts, those whose family iptables can do.
  IptablesWriter(std::vector<PlanContext> contexts, net::Iptables& iptables);

  Result<ExistingRules> WriteAll(const States& all) override;
  Result<> WriteChanges(std::span<const Change> changes, States& applied) override;
  size_t CountRules(const ObjectKey& key, const ServiceState* state) const override;
  bool IsDamaged() override;

 private:
  Result<> WriteFamily(const RuleSet& rules, const States& all, ExistingRules& existing);
  net::Iptables& iptables_;
  std::vector<RuleSet> families_;
};

}  // namespace skiff::agent::proxy

// The nftables mode of ServiceProxy: writes the rules of states over netlink.
#pragma once

#include <memory>
#include <vector>

#include "agent/proxy/nft_plan.h"
#include "agent/proxy/rule_writer.h"
#include "base/net/nft.h"

namespace skiff::agent::proxy {

// Whether the kernel can do all that the mode needs in the family; tried without effect.
Result<> ProbeNftables(net::Nft& nft, const PlanContext& context);

class NftWriter : public RuleWriter {
 public:
  // The families that the kernel can do. Unimplemented: none.
  static Result<std::unique_ptr<NftWriter>> Make(std::vector<PlanContext> contexts, net::Nft& nft);

  Result<ExistingRules> WriteAll(const States& all) override;
  Result<> WriteChanges(std::span<const Change> changes, States& applied) override;
  size_t CountRules(const ObjectKey& key, const ServiceState* state) const override;
  bool IsDamaged() override;

 private:
  struct Family {
    NftRules rules;
    uint64_t handle = 0;  // of the table that was written
  };
  explicit NftWriter(net::Nft& nft) : nft_(nft) {}
  Result<> ReadExisting(const NftRules& rules, ExistingRules& existing) const;

  net::Nft& nft_;
  std::vector<Family> families_;
};

}  // namespace skiff::agent::proxy

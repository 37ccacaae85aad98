// FakeNft: a model of the kernel's nftables, for unit tests.
//
// Transactional as the kernel is: a commit is carried out on a copy, which takes the place of the
// state only where every operation succeeded. It keeps to what trips writers of rules: names that
// are referred to exist, what is in use cannot be deleted (EBUSY), elements are there once
// (EBUSY with other data, ENOENT when deleted twice), keys have the declared size (EINVAL), and no
// chain leads back to itself (ELOOP). Packets it does not know, and of links it takes every name.
#pragma once

#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/net/nft.h"

namespace skiff::net {

class FakeNft : public Nft {
 public:
  using Nft::Commit;
  Result<> Commit(const std::vector<nft::Transaction>& transactions) override;
  Result<nft::TableInfo> List(const nft::Table& table) override;
  Result<std::vector<nft::Element>> ListElements(const nft::Table& table,
                                                 const std::string& set) override;
  Result<uint64_t> TableHandle(const nft::Table& table) override;
  Result<size_t> CountRules(const nft::Table& table, const std::string& chain) override;
  // Told of what FlushRuleset does, in its call.
  Result<std::unique_ptr<NftWatch>> Watch(std::function<void()> changed) override;

  // A chain's rules whole; empty where there is no such chain.
  std::vector<nft::Rule> Rules(const nft::Table& table, const std::string& chain) const;
  // Every commit that succeeded, oldest first; taken out by the call.
  std::vector<std::vector<nft::Transaction>> TakeCommits();
  // What "nft flush ruleset" does.
  void FlushRuleset();
  // The next commits fail with this, without effect.
  void FailNext(Error error, int times = 1);
  // How often something was listed: listing is what costs.
  int listings() const;

 private:
  struct SetState {
    nft::Set declared;
    std::map<nft::Bytes, nft::Element> elements;  // by key; of ranges, by start
  };
  struct ChainState {
    nft::Chain declared;
    std::vector<nft::Rule> rules;
  };
  struct TableState {
    uint64_t handle = 0;
    std::map<std::string, ChainState> chains;
    std::map<std::string, SetState> sets;
  };
  using Tables = std::map<nft::Table, TableState>;
  class Applier;

  Result<const TableState*> Find(const nft::Table& table) const;

  mutable std::mutex mutex_;
  Tables tables_;
  uint64_t last_handle_ = 0;
  std::vector<std::vector<nft::Transaction>> commits_;
  std::optional<Error> failure_;
  int failures_left_ = 0;
  int listings_ = 0;
  class FakeWatch;
  std::set<const FakeWatch*> watches_;
};

}  // namespace skiff::net

// FakeIptables: a model of iptables-restore --noflush and iptables-save, for unit tests.
//
// It keeps to the rules that trip writers of rules: a table's part is applied completely or not at
// all, jumps need their chain, a chain with rules or with jumps to it cannot be deleted, and "-D"
// wants exactly the rule that was added.
#pragma once

#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/net/iptables.h"

namespace skiff::net {

class FakeIptables : public Iptables {
 public:
  FakeIptables();

  Result<> Restore(IpFamily family, std::string_view payload) override;
  Result<std::string> Save(IpFamily family, std::string_view table) override;
  Result<bool> ChainExists(IpFamily family, std::string_view table,
                           std::string_view chain) override;
  Result<std::vector<std::string>> ListChain(IpFamily family, std::string_view table,
                                             std::string_view chain) override;
  bool Supports(IpFamily family) const override;

  // A chain's rules without "-A CHAIN"; nothing when there is no such chain.
  std::optional<std::vector<std::string>> Rules(IpFamily family, const std::string& table,
                                                const std::string& chain) const;
  // Names of the chains that are not built in.
  std::vector<std::string> Chains(IpFamily family, const std::string& table) const;
  // Every payload that was accepted, oldest first; taken out by the call.
  std::vector<std::string> TakePayloads();

  // What another program does: empties everything ("iptables -F; iptables -X").
  void Flush();
  // The next Restore calls fail with this, without effect.
  void FailNext(Error error, int times = 1);
  void SetSupported(IpFamily family, bool supported);

 private:
  using Chain = std::vector<std::string>;
  using Table = std::map<std::string, Chain>;
  struct Family {
    std::map<std::string, Table> tables;
    bool supported = true;
  };
  static Result<> ApplyLine(Table& table, std::string_view line);
  static Result<> CheckJumps(const Table& table);
  Family& For(IpFamily family) { return families_[family == IpFamily::kV4 ? 0 : 1]; }
  const Family& For(IpFamily family) const { return families_[family == IpFamily::kV4 ? 0 : 1]; }

  mutable std::mutex mutex_;
  Family families_[2];
  std::vector<std::string> payloads_;
  std::optional<Error> failure_;
  int failures_left_ = 0;
};

}  // namespace skiff::net

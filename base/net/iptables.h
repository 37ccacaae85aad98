// Iptables: packet filter rules, written as iptables-restore reads them.
//
// One writer module for all of Skiff. Rules go in as whole transactions (a table's part of a
// payload is applied completely or not at all) and only the chains named in it are touched.
// SystemIptables runs the machine's iptables programs; FakeIptables (base/net/fake_iptables.h) is a
// model of them.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/net/ip.h"
#include "base/result.h"

namespace skiff::net {

// Thread-safe; calls block for as long as the program runs (some ms, more with many rules).
class Iptables {
 public:
  virtual ~Iptables() = default;

  // iptables-restore --noflush. A ":CHAIN - [0:0]" line makes the chain or empties it, "-A", "-I"
  // and
  // "-D" change single rules, "-X" deletes an empty chain that nothing jumps to.
  // Unavailable: another writer holds the lock, or the program is missing; Internal: refused, with
  // the program's own words and the line it names.
  virtual Result<> Restore(IpFamily family, std::string_view payload) = 0;

  // iptables-save of one table ("nat"), in the form Restore reads.
  virtual Result<std::string> Save(IpFamily family, std::string_view table) = 0;

  // Whether the chain exists; cheap, also with very many rules.
  virtual Result<bool> ChainExists(IpFamily family, std::string_view table,
                                   std::string_view chain) = 0;

  // The rules of one chain, as "-A CHAIN ..." lines in the order of the chain, without its policy.
  // NotFound when there is no such chain.
  virtual Result<std::vector<std::string>> ListChain(IpFamily family, std::string_view table,
                                                     std::string_view chain) = 0;

  // Whether the kernel and the programs can do this family at all.
  virtual bool Supports(IpFamily family) const = 0;
};

class SystemIptables : public Iptables {
 public:
  enum class Variant { kDetect, kNft, kLegacy };
  // Finds the programs and tries them; one that could not be run this time is an error. kDetect
  // takes what the machine's "iptables" is, or the other variant where that one does not work with
  // the running kernel. NotFound: no program works; the text says which were tried. The calls act
  // in the network namespace of the calling thread.
  static Result<std::unique_ptr<SystemIptables>> Open(Variant variant = Variant::kDetect);

  Result<> Restore(IpFamily family, std::string_view payload) override;
  Result<std::string> Save(IpFamily family, std::string_view table) override;
  Result<bool> ChainExists(IpFamily family, std::string_view table,
                           std::string_view chain) override;
  Result<std::vector<std::string>> ListChain(IpFamily family, std::string_view table,
                                             std::string_view chain) override;
  bool Supports(IpFamily family) const override;
  // "iptables v1.8.9 (nf_tables)", for logs.
  const std::string& version() const { return version_; }

 private:
  struct Programs {
    std::string control, restore, save;  // paths; empty where the family cannot be used
  };
  SystemIptables(Programs v4, Programs v6, std::string version)
      : v4_(std::move(v4)), v6_(std::move(v6)), version_(std::move(version)) {}
  const Programs& For(IpFamily family) const { return family == IpFamily::kV4 ? v4_ : v6_; }

  Programs v4_, v6_;
  std::string version_;
};

// Which of the jumps ("POSTROUTING -m comment ... -j KUBE-POSTROUTING": chain, then rule, the
// target last) are not in force: no rule of that chain has this target.
Result<std::vector<std::string>> MissingJumps(Iptables& iptables, IpFamily family,
                                              std::string_view table,
                                              const std::vector<std::string>& jumps);

// Deletes the table's chains that are ours, and the jumps to them from other chains. Succeeds when
// there are none.
Result<> RemoveChains(Iptables& iptables, IpFamily family, std::string_view table,
                      const std::function<bool(std::string_view chain)>& ours);

// A text as it may stand between the quotes of --comment "": without quotes, controls and what
// exceeds 200 bytes (xt_comment holds 255).
std::string CommentText(std::string_view text);

}  // namespace skiff::net

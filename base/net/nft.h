// Nft: the kernel's nftables, written in whole transactions over netlink; no program is run.
//
//   nft::Transaction change(table);
//   change.AddTable().AddSet(set).AddChain(chain).AddRule(rule).AddElement(ports, element);
//   TRY(nft->Commit(change));   // all of it or nothing, at one moment for every packet
//
// SystemNft speaks to the kernel; FakeNft (base/net/fake_nft.h) is a model of it that passes the
// same tests (tests/integration/proxy/nft_test.cc).
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/net/nft_rule.h"
#include "base/net/nft_types.h"
#include "base/result.h"

namespace skiff::net::nft {

namespace op {
// The steps of a transaction, carried out in this order. An object that is added twice is there
// once, if both are the same.
struct AddTable {};
// With all that is in it, or Sys EBUSY where something is. NotFound where there is none.
struct DeleteTable {
  bool if_empty = false;
};
struct AddChain {
  Chain chain;
};
// Its rules go first. Sys EBUSY: another rule or a verdict map still leads to it, or there are
// rules.
struct DeleteChain {
  std::string name;
  bool if_empty = false;
};
// Empties a chain, or all chains of the table ("").
struct FlushRules {
  std::string chain;
};
struct AddRule {  // behind the others of its chain
  Rule rule;
};
struct AddSet {
  Set set;
};
// Sys EBUSY: a rule uses it.
struct DeleteSet {
  std::string name;
};
struct FlushSet {
  std::string name;
};
// Elements of one set. Adding one that is there with other data is EEXIST or EBUSY (delete it
// first, in the same transaction), deleting one that is not there ENOENT.
struct AddElements {
  Set set;
  std::vector<Element> elements;
};
struct DeleteElements {
  Set set;
  std::vector<Element> elements;  // key and key_end count
};
}  // namespace op

// A value: what is to be done in one table.
class Transaction {
 public:
  using Operation = std::variant<op::AddTable, op::DeleteTable, op::AddChain, op::DeleteChain,
                                 op::FlushRules, op::AddRule, op::AddSet, op::DeleteSet,
                                 op::FlushSet, op::AddElements, op::DeleteElements>;

  explicit Transaction(Table table) : table_(std::move(table)) {}

  Transaction& AddTable() { return Then(op::AddTable()); }
  Transaction& DeleteTable() { return Then(op::DeleteTable()); }
  Transaction& DeleteEmptyTable() { return Then(op::DeleteTable{.if_empty = true}); }
  Transaction& AddChain(Chain chain) { return Then(op::AddChain{std::move(chain)}); }
  Transaction& DeleteChain(std::string name) {
    return Then(op::DeleteChain{.name = std::move(name)});
  }
  Transaction& DeleteEmptyChain(std::string name) {
    return Then(op::DeleteChain{std::move(name), /*if_empty=*/true});
  }
  Transaction& FlushChain(std::string name) { return Then(op::FlushRules{std::move(name)}); }
  Transaction& FlushAllRules() { return Then(op::FlushRules{""}); }
  Transaction& AddRule(Rule rule) { return Then(op::AddRule{std::move(rule)}); }
  Transaction& AddSet(Set set) { return Then(op::AddSet{std::move(set)}); }
  Transaction& DeleteSet(std::string name) { return Then(op::DeleteSet{std::move(name)}); }
  Transaction& FlushSet(std::string name) { return Then(op::FlushSet{std::move(name)}); }
  // Those for one set that follow each other travel together.
  Transaction& AddElement(const Set& set, Element element);
  Transaction& DeleteElement(const Set& set, Element element);

  // What the other does, behind what this one does; both of one table.
  Transaction& Append(Transaction other);

  const Table& table() const { return table_; }
  const std::vector<Operation>& operations() const { return operations_; }
  bool empty() const { return operations_.empty(); }

 private:
  Transaction& Then(Operation operation) {
    operations_.push_back(std::move(operation));
    return *this;
  }
  Table table_;
  std::vector<Operation> operations_;
};

// "add chain ip t services", for errors. first_element: of those that the error is about.
std::string Describe(const Table& table, const Transaction::Operation& operation,
                     size_t first_element = 0);

// InvalidArgument: a name is too long for the kernel.
Result<> CheckNames(const Transaction& transaction);

// What a rule of the kernel's says of itself.
struct RuleInfo {
  std::string chain;
  std::string comment;
  std::vector<std::string> expressions;  // as ExpressionNames
  bool operator==(const RuleInfo&) const = default;
};

// A table without the elements of its sets. Sets are sorted by name, chains too; rules by chain, in
// the order of each.
struct TableInfo {
  std::vector<Chain> chains;
  std::vector<Set> sets;
  std::vector<RuleInfo> rules;
  bool operator==(const TableInfo&) const = default;
};

}  // namespace skiff::net::nft

namespace skiff::net {

// As long as it lives, `changed` of Nft::Watch may be called; its end waits for a call under way.
class NftWatch {
 public:
  virtual ~NftWatch() = default;
};

// Thread-safe. Errors name the object and carry the kernel's errno.
class Nft {
 public:
  virtual ~Nft() = default;

  // One atomic change, of one table or of several together. Nothing is done where it fails.
  virtual Result<> Commit(const std::vector<nft::Transaction>& transactions) = 0;
  Result<> Commit(nft::Transaction transaction);

  // NotFound where there is no such table. A listing that others change meanwhile is read again.
  virtual Result<nft::TableInfo> List(const nft::Table& table) = 0;
  // Ranges as they were added; sorted by key. Of timeouts, what they were at first.
  virtual Result<std::vector<nft::Element>> ListElements(const nft::Table& table,
                                                         const std::string& set) = 0;
  // A number that another table of this name does not have again: tells whether somebody deleted
  // and made it anew. NotFound.
  virtual Result<uint64_t> TableHandle(const nft::Table& table) = 0;
  // How many rules a chain has; cheap, also beside very many others. NotFound.
  virtual Result<size_t> CountRules(const nft::Table& table, const std::string& chain) = 0;
  // Calls `changed`, from a thread of its own, within moments of a change of any table that was not
  // made by this process; at times also without one.
  virtual Result<std::unique_ptr<NftWatch>> Watch(std::function<void()> changed) = 0;
};

// Whether an error of a commit or a listing says that there is no such table, perhaps as the kernel
// has no nftables at all, or none of the family.
bool IsNoTable(const Error& error);

// Deletes a table with all that is in it. Succeeds where there is none.
Result<> RemoveTable(Nft& nft, const nft::Table& table);

// The kernel's, in the network namespace of the calling thread.
class SystemNft : public Nft {
 public:
  SystemNft();
  ~SystemNft() override;
  using Nft::Commit;
  Result<> Commit(const std::vector<nft::Transaction>& transactions) override;
  Result<nft::TableInfo> List(const nft::Table& table) override;
  Result<std::vector<nft::Element>> ListElements(const nft::Table& table,
                                                 const std::string& set) override;
  Result<uint64_t> TableHandle(const nft::Table& table) override;
  Result<size_t> CountRules(const nft::Table& table, const std::string& chain) override;
  Result<std::unique_ptr<NftWatch>> Watch(std::function<void()> changed) override;

 private:
  // The socket of the last commit. Closing one makes the kernel wait, for a grace period of RCU,
  // until what was deleted before is freed.
  struct KeptSocket;
  std::unique_ptr<KeptSocket> kept_;
};

}  // namespace skiff::net

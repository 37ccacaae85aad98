#include "base/net/fake_nft.h"

#include <algorithm>
#include <cerrno>
#include <set>

namespace skiff::net {
namespace {

constexpr size_t kDeepestJump = 16;  // NFT_JUMP_STACK_SIZE

bool SameEntry(const nft::Element& a, const nft::Element& b) {
  return a.data == b.data && a.verdict == b.verdict;
}

const nft::Bytes& EndOf(const nft::Element& element) {
  return element.key_end.empty() ? element.key : element.key_end;
}

// Whether two ranges of keys meet in every field.
bool Overlap(const nft::Set& set, const nft::Element& a, const nft::Element& b) {
  size_t at = 0;
  for (nft::Type field : set.key) {
    size_t size = nft::SizeOf(field);
    auto part = [&](const nft::Bytes& key) { return key.substr(at, size); };
    if (part(EndOf(a)) < part(b.key) || part(EndOf(b)) < part(a.key)) return false;
    at += (size + 3) / 4 * 4;
  }
  return true;
}

}  // namespace

// Carries out operations on a copy of the tables.
class FakeNft::Applier {
 public:
  Applier(Tables& tables, uint64_t& last_handle) : tables_(tables), last_handle_(last_handle) {}

  Result<> Apply(const nft::Transaction& transaction) {
    TRY(nft::CheckNames(transaction));
    table_ = &transaction.table();
    touched_.insert(*table_);
    for (const auto& operation : transaction.operations()) {
      element_ = 0;
      int error = std::visit(*this, operation);
      if (error != 0) return Error::Sys(error, nft::Describe(*table_, operation, element_));
    }
    return {};
  }
  // What holds between objects when all is done: no loops.
  Result<> CheckTouched() {
    for (const nft::Table& table : touched_) {
      auto found = tables_.find(table);
      if (found == tables_.end()) continue;
      for (const auto& [name, chain] : found->second.chains) {
        if (chain.declared.base && !Walk(found->second, name, 0)) {
          return Error::Sys(ELOOP, "nftables: table " + table.ToString(), name);
        }
      }
    }
    return {};
  }

  int operator()(const nft::op::AddTable&) {
    auto [entry, added] = tables_.try_emplace(*table_);
    if (added) entry->second.handle = ++last_handle_;
    return 0;
  }
  int operator()(const nft::op::DeleteTable& gone) {
    return In([&](TableState& table) {
      if (gone.if_empty && !(table.chains.empty() && table.sets.empty())) return EBUSY;
      tables_.erase(*table_);
      return 0;
    });
  }
  int operator()(const nft::op::AddChain& add) {
    return In([&](TableState& table) {
      auto [entry, added] = table.chains.try_emplace(add.chain.name, ChainState{add.chain, {}});
      if (added) return 0;
      const auto& before = entry->second.declared.base;
      if (before.has_value() != add.chain.base.has_value()) return before ? 0 : EEXIST;
      if (!before) return 0;
      bool same_place = before->type == add.chain.base->type &&
                        before->hook == add.chain.base->hook &&
                        before->priority == add.chain.base->priority;
      if (!same_place) return EEXIST;
      entry->second.declared.base->drop = add.chain.base->drop;
      return 0;
    });
  }
  int operator()(const nft::op::DeleteChain& gone) {
    return In([&](TableState& table) {
      auto found = table.chains.find(gone.name);
      if (found == table.chains.end()) return ENOENT;
      if (gone.if_empty && !found->second.rules.empty()) return EBUSY;
      found->second.rules.clear();
      if (IsReached(table, gone.name)) return EBUSY;
      table.chains.erase(found);
      return 0;
    });
  }
  int operator()(const nft::op::FlushRules& flush) {
    return In([&](TableState& table) {
      if (!flush.chain.empty() && !table.chains.contains(flush.chain)) return ENOENT;
      for (auto& [name, chain] : table.chains) {
        if (flush.chain.empty() || flush.chain == name) chain.rules.clear();
      }
      return 0;
    });
  }
  int operator()(const nft::op::AddRule& add) {
    return In([&](TableState& table) {
      auto found = table.chains.find(add.rule.chain);
      if (found == table.chains.end()) return ENOENT;
      for (const std::string& chain : nft::ChainsOf(add.rule)) {
        if (int error = CheckTarget(table, chain)) return error;
      }
      for (const std::string& set : nft::SetsOf(add.rule)) {
        if (!table.sets.contains(set)) return ENOENT;
      }
      found->second.rules.push_back(add.rule);
      return 0;
    });
  }
  int operator()(const nft::op::AddSet& add) {
    return In([&](TableState& table) {
      auto [entry, added] = table.sets.try_emplace(add.set.name, SetState{add.set, {}});
      return added || entry->second.declared == add.set ? 0 : EEXIST;
    });
  }
  int operator()(const nft::op::DeleteSet& gone) {
    return In([&](TableState& table) {
      if (!table.sets.contains(gone.name)) return ENOENT;
      for (const auto& [name, chain] : table.chains) {
        for (const nft::Rule& rule : chain.rules) {
          auto sets = nft::SetsOf(rule);
          if (std::find(sets.begin(), sets.end(), gone.name) != sets.end()) return EBUSY;
        }
      }
      table.sets.erase(gone.name);
      return 0;
    });
  }
  int operator()(const nft::op::FlushSet& flush) {
    return InSet(flush.name, [](TableState&, SetState& set) {
      set.elements.clear();
      return 0;
    });
  }
  int operator()(const nft::op::AddElements& add) {
    return InSet(add.set.name, [&](TableState& table, SetState& set) {
      for (element_ = 0; element_ < add.elements.size(); ++element_) {
        if (int error = AddElement(table, set, add.elements[element_])) return error;
      }
      return 0;
    });
  }
  int operator()(const nft::op::DeleteElements& gone) {
    return InSet(gone.set.name, [&](TableState&, SetState& set) {
      for (element_ = 0; element_ < gone.elements.size(); ++element_) {
        const nft::Element& element = gone.elements[element_];
        auto found = set.elements.find(element.key);
        if (found == set.elements.end() || EndOf(found->second) != EndOf(element)) return ENOENT;
        set.elements.erase(found);
      }
      return 0;
    });
  }

 private:
  template <class Work>
  int In(Work work) {
    auto found = tables_.find(*table_);
    return found == tables_.end() ? ENOENT : work(found->second);
  }
  template <class Work>
  int InSet(const std::string& name, Work work) {
    return In([&](TableState& table) {
      auto found = table.sets.find(name);
      return found == table.sets.end() ? ENOENT : work(table, found->second);
    });
  }

  static int CheckTarget(const TableState& table, const std::string& chain) {
    auto found = table.chains.find(chain);
    if (found == table.chains.end()) return ENOENT;
    return found->second.declared.base ? EOPNOTSUPP : 0;
  }

  static int AddElement(const TableState& table, SetState& set, const nft::Element& element) {
    const nft::Set& declared = set.declared;
    if (element.key.size() != declared.key_size() || element.data.size() != declared.data_size() ||
        element.verdict.has_value() != declared.is_verdict_map() ||
        (!element.key_end.empty() &&
         (!declared.interval || element.key_end.size() != declared.key_size())) ||
        (element.timeout.count() != 0 && !declared.timeouts)) {
      return EINVAL;
    }
    if (element.verdict && !element.verdict->chain.empty()) {
      if (int error = CheckTarget(table, element.verdict->chain)) return error;
    }
    if (auto found = set.elements.find(element.key); found != set.elements.end()) {
      if (EndOf(found->second) != EndOf(element)) return EEXIST;
      return SameEntry(found->second, element) ? 0 : EEXIST;
    }
    if (declared.interval) {
      for (const auto& [key, other] : set.elements) {
        if (Overlap(declared, other, element)) return EEXIST;
      }
    }
    if (declared.size != 0 && set.elements.size() >= declared.size) return ENFILE;
    nft::Element kept = element;
    if (declared.interval) kept.key_end = EndOf(element);
    set.elements.emplace(element.key, std::move(kept));
    return 0;
  }

  static bool IsReached(const TableState& table, const std::string& name) {
    for (const auto& [from, chain] : table.chains) {
      for (const nft::Rule& rule : chain.rules) {
        auto targets = nft::ChainsOf(rule);
        if (std::find(targets.begin(), targets.end(), name) != targets.end()) return true;
      }
    }
    for (const auto& [set_name, set] : table.sets) {
      for (const auto& [key, element] : set.elements) {
        if (element.verdict && element.verdict->chain == name) return true;
      }
    }
    return false;
  }

  static bool Walk(const TableState& table, const std::string& name, size_t depth) {
    if (depth > kDeepestJump) return false;
    for (const nft::Rule& rule : table.chains.at(name).rules) {
      for (const std::string& target : nft::ChainsOf(rule)) {
        if (!Walk(table, target, depth + 1)) return false;
      }
      for (const std::string& set : nft::SetsOf(rule)) {
        if (!WalkSet(table, set, depth)) return false;
      }
    }
    return true;
  }
  static bool WalkSet(const TableState& table, const std::string& set, size_t depth) {
    std::set<std::string> targets;
    for (const auto& [key, element] : table.sets.at(set).elements) {
      if (element.verdict && !element.verdict->chain.empty())
        targets.insert(element.verdict->chain);
    }
    return std::all_of(targets.begin(), targets.end(),
                       [&](const std::string& target) { return Walk(table, target, depth + 1); });
  }

  Tables& tables_;
  uint64_t& last_handle_;
  const nft::Table* table_ = nullptr;
  std::set<nft::Table> touched_;
  size_t element_ = 0;
};

Result<> FakeNft::Commit(const std::vector<nft::Transaction>& transactions) {
  std::lock_guard lock(mutex_);
  if (failures_left_ > 0) {
    --failures_left_;
    return *failure_;
  }
  Tables changed = tables_;
  uint64_t last_handle = last_handle_;
  Applier applier(changed, last_handle);
  for (const nft::Transaction& transaction : transactions) TRY(applier.Apply(transaction));
  TRY(applier.CheckTouched());
  tables_ = std::move(changed);
  last_handle_ = last_handle;
  commits_.push_back(transactions);
  return {};
}

Result<const FakeNft::TableState*> FakeNft::Find(const nft::Table& table) const {
  auto found = tables_.find(table);
  if (found == tables_.end()) return Error::Sys(ENOENT, "nftables table " + table.ToString());
  return &found->second;
}

Result<nft::TableInfo> FakeNft::List(const nft::Table& table) {
  std::lock_guard lock(mutex_);
  ++listings_;
  const TableState* state = TRY(Find(table));
  nft::TableInfo info;
  for (const auto& [name, chain] : state->chains) {
    info.chains.push_back(chain.declared);
    for (const nft::Rule& rule : chain.rules) {
      info.rules.push_back({rule.chain, rule.comment, nft::ExpressionNames(rule)});
    }
  }
  for (const auto& [name, set] : state->sets) info.sets.push_back(set.declared);
  return info;
}

Result<std::vector<nft::Element>> FakeNft::ListElements(const nft::Table& table,
                                                        const std::string& set) {
  std::lock_guard lock(mutex_);
  ++listings_;
  const TableState* state = TRY(Find(table));
  auto found = state->sets.find(set);
  if (found == state->sets.end()) return Error::Sys(ENOENT, "nftables set", set);
  std::vector<nft::Element> elements;
  for (const auto& [key, element] : found->second.elements) elements.push_back(element);
  return elements;
}

Result<uint64_t> FakeNft::TableHandle(const nft::Table& table) {
  std::lock_guard lock(mutex_);
  return TRY(Find(table))->handle;
}

Result<size_t> FakeNft::CountRules(const nft::Table& table, const std::string& chain) {
  std::lock_guard lock(mutex_);
  const TableState* state = TRY(Find(table));
  auto found = state->chains.find(chain);
  if (found == state->chains.end()) return Error::Sys(ENOENT, "nftables chain", chain);
  return found->second.rules.size();
}

std::vector<nft::Rule> FakeNft::Rules(const nft::Table& table, const std::string& chain) const {
  std::lock_guard lock(mutex_);
  auto state = Find(table);
  if (!state.ok() || !(*state)->chains.contains(chain)) return {};
  return (*state)->chains.at(chain).rules;
}

std::vector<std::vector<nft::Transaction>> FakeNft::TakeCommits() {
  std::lock_guard lock(mutex_);
  return std::exchange(commits_, {});
}

class FakeNft::FakeWatch : public NftWatch {
 public:
  FakeWatch(FakeNft& nft, std::function<void()> told) : changed(std::move(told)), nft_(nft) {
    std::lock_guard lock(nft_.mutex_);
    nft_.watches_.insert(this);
  }
  ~FakeWatch() override {
    std::lock_guard lock(nft_.mutex_);
    nft_.watches_.erase(this);
  }
  const std::function<void()> changed;

 private:
  FakeNft& nft_;
};

Result<std::unique_ptr<NftWatch>> FakeNft::Watch(std::function<void()> changed) {
  return std::make_unique<FakeWatch>(*this, std::move(changed));
}

void FakeNft::FlushRuleset() {
  std::lock_guard lock(mutex_);
  tables_.clear();
  for (const FakeWatch* watch : watches_) watch->changed();
}

void FakeNft::FailNext(Error error, int times) {
  std::lock_guard lock(mutex_);
  failure_ = std::move(error);
  failures_left_ = times;
}

int FakeNft::listings() const {
  std::lock_guard lock(mutex_);
  return listings_;
}

}  // namespace skiff::net

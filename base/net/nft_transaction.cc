#include <linux/netfilter/nf_tables.h>

#include <algorithm>
#include <iterator>

#include "base/net/nft.h"

namespace skiff::net::nft {
namespace {

constexpr size_t kLongestName = NFT_NAME_MAXLEN - 1;

std::string Hex(const Bytes& bytes) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (char byte : bytes) {
    text += kDigits[static_cast<uint8_t>(byte) >> 4];
    text += kDigits[static_cast<uint8_t>(byte) & 15];
  }
  return text;
}

template <class Elements>
Transaction::Operation* LastOf(std::vector<Transaction::Operation>& operations, const Set& set) {
  if (operations.empty()) return nullptr;
  const auto* last = std::get_if<Elements>(&operations.back());
  return last != nullptr && last->set.name == set.name ? &operations.back() : nullptr;
}

struct Describer {
  std::string table;
  size_t first_element;

  std::string Elements(const Set& set, const std::vector<Element>& elements) const {
    std::string text = set.name;
    if (first_element >= elements.size()) return text;
    const Element& element = elements[first_element];
    text += " (from key " + Hex(element.key);
    if (!element.comment.empty()) text += ", " + element.comment;
    return text + ")";
  }
  std::string operator()(const op::AddTable&) { return "add table " + table; }
  std::string operator()(const op::DeleteTable&) { return "delete table " + table; }
  std::string operator()(const op::AddChain& add) { return "add chain " + table + add.chain.name; }
  std::string operator()(const op::DeleteChain& gone) {
    return "delete chain " + table + gone.name;
  }
  std::string operator()(const op::FlushRules& flush) {
    return "flush chain " + table + flush.chain;
  }
  std::string operator()(const op::AddRule& add) {
    std::string text = "add rule " + table + add.rule.chain;
    return add.rule.comment.empty() ? text : text + " (" + add.rule.comment + ")";
  }
  std::string operator()(const op::AddSet& add) { return "add set " + table + add.set.name; }
  std::string operator()(const op::DeleteSet& gone) { return "delete set " + table + gone.name; }
  std::string operator()(const op::FlushSet& flush) { return "flush set " + table + flush.name; }
  std::string operator()(const op::AddElements& add) {
    return "add elements to " + table + Elements(add.set, add.elements);
  }
  std::string operator()(const op::DeleteElements& gone) {
    return "delete elements of " + table + Elements(gone.set, gone.elements);
  }
};

bool TooLong(const Transaction::Operation& operation) {
  struct Checker {
    bool Long(const std::string& name) { return name.size() > kLongestName; }
    bool operator()(const op::AddTable&) { return false; }
    bool operator()(const op::DeleteTable&) { return false; }
    bool operator()(const op::AddChain& add) { return Long(add.chain.name); }
    bool operator()(const op::DeleteChain& gone) { return Long(gone.name); }
    bool operator()(const op::FlushRules& flush) { return Long(flush.chain); }
    bool operator()(const op::AddRule& add) {
      auto names = ChainsOf(add.rule), sets = SetsOf(add.rule);
      names.insert(names.end(), sets.begin(), sets.end());
      names.push_back(add.rule.chain);
      return std::any_of(names.begin(), names.end(), [&](const auto& name) { return Long(name); });
    }
    bool operator()(const op::AddSet& add) { return Long(add.set.name); }
    bool operator()(const op::DeleteSet& gone) { return Long(gone.name); }
    bool operator()(const op::FlushSet& flush) { return Long(flush.name); }
    bool operator()(const op::AddElements& add) {
      return Long(add.set.name) ||
             std::any_of(add.elements.begin(), add.elements.end(), [&](const Element& element) {
               return element.verdict && Long(element.verdict->chain);
             });
    }
    bool operator()(const op::DeleteElements& gone) { return Long(gone.set.name); }
  };
  return std::visit(Checker(), operation);
}

}  // namespace

Transaction& Transaction::AddElement(const Set& set, Element element) {
  auto* last = LastOf<op::AddElements>(operations_, set);
  if (last == nullptr) last = &operations_.emplace_back(op::AddElements{set, {}});
  std::get<op::AddElements>(*last).elements.push_back(std::move(element));
  return *this;
}

Transaction& Transaction::DeleteElement(const Set& set, Element element) {
  auto* last = LastOf<op::DeleteElements>(operations_, set);
  if (last == nullptr) last = &operations_.emplace_back(op::DeleteElements{set, {}});
  std::get<op::DeleteElements>(*last).elements.push_back(std::move(element));
  return *this;
}

Transaction& Transaction::Append(Transaction other) {
  CHECK(other.table_ == table_);
  if (operations_.empty()) {
    operations_ = std::move(other.operations_);
  } else {
    operations_.insert(operations_.end(), std::make_move_iterator(other.operations_.begin()),
                       std::make_move_iterator(other.operations_.end()));
  }
  return *this;
}

Result<> CheckNames(const Transaction& transaction) {
  const Table& table = transaction.table();
  if (table.name.size() > kLongestName) {
    return Error(Code::kInvalidArgument, "nftables: a table's name is longer than 255 characters");
  }
  for (const Transaction::Operation& operation : transaction.operations()) {
    if (!TooLong(operation)) continue;
    return Error(Code::kInvalidArgument,
                 Describe(table, operation) + ": a name is longer than 255 characters");
  }
  return {};
}

std::string Describe(const Table& table, const Transaction::Operation& operation,
                     size_t first_element) {
  return "nftables: " + std::visit(Describer{table.ToString() + " ", first_element}, operation);
}

}  // namespace skiff::net::nft

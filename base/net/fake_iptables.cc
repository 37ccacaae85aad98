#include "base/net/fake_iptables.h"

#include <algorithm>
#include <set>

namespace skiff::net {
namespace {

const std::map<std::string, std::vector<std::string>>& BuiltinChains() {
  static const std::map<std::string, std::vector<std::string>> chains{
      {"filter", {"INPUT", "FORWARD", "OUTPUT"}},
      {"nat", {"PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"}},
      {"mangle", {"PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"}},
      {"raw", {"PREROUTING", "OUTPUT"}}};
  return chains;
}

bool IsBuiltin(const std::string& chain) {
  return chain == "INPUT" || chain == "OUTPUT" || chain == "FORWARD" || chain == "PREROUTING" ||
         chain == "POSTROUTING";
}

// Targets of the kernel; every other name after -j is a chain.
bool IsTarget(const std::string& name) {
  static const std::set<std::string> targets{"ACCEPT", "DROP",       "REJECT", "RETURN",  "MARK",
                                             "DNAT",   "MASQUERADE", "SNAT",   "NOTRACK", "CT",
                                             "LOG",    "REDIRECT",   "TCPMSS"};
  return targets.contains(name);
}

Error Refused(const std::string& text, std::string_view line) {
  return Error(Code::kInternal, "fake iptables-restore: " + text + ": " + std::string(line));
}

std::string TakeWord(std::string_view& text) {
  size_t start = text.find_first_not_of(' ');
  if (start == std::string_view::npos) return text = {}, "";
  size_t end = std::min(text.find(' ', start), text.size());
  std::string word(text.substr(start, end - start));
  text.remove_prefix(std::min(end + 1, text.size()));
  return word;
}

// The word after "-j", or "".
std::string JumpTarget(std::string_view rule) {
  size_t at = rule.starts_with("-j ") ? 0 : rule.find(" -j ");
  if (at == std::string_view::npos) return "";
  std::string_view rest = rule.substr(at == 0 ? 3 : at + 4);
  return TakeWord(rest);
}

}  // namespace

FakeIptables::FakeIptables() { Flush(); }

void FakeIptables::Flush() {
  std::lock_guard lock(mutex_);
  for (Family& family : families_) {
    family.tables.clear();
    for (const auto& [table, chains] : BuiltinChains()) {
      for (const std::string& chain : chains) family.tables[table][chain] = {};
    }
  }
}

Result<> FakeIptables::ApplyLine(Table& table, std::string_view line) {
  std::string_view rest = line;
  if (line.starts_with(':')) {
    rest.remove_prefix(1);
    std::string chain = TakeWord(rest);
    // Under --noflush a built-in chain keeps its rules.
    if (!IsBuiltin(chain)) table[chain].clear();
    return {};
  }
  std::string command = TakeWord(rest), chain = TakeWord(rest), rule(rest);
  auto found = table.find(chain);
  if (found == table.end()) return Refused("no such chain", line);
  Chain& rules = found->second;
  if (command == "-A") {
    rules.push_back(rule);
  } else if (command == "-I") {
    if (!rule.empty() && isdigit(static_cast<unsigned char>(rule[0]))) TakeWord(rest), rule = rest;
    rules.insert(rules.begin(), rule);
  } else if (command == "-D") {
    auto position = std::find(rules.begin(), rules.end(), rule);
    if (position == rules.end()) return Refused("no such rule", line);
    rules.erase(position);
  } else if (command == "-F") {
    rules.clear();
  } else if (command == "-X") {
    if (IsBuiltin(chain) || !rules.empty()) return Refused("chain cannot be deleted", line);
    for (const auto& [name, others] : table) {
      for (const std::string& other : others) {
        if (JumpTarget(other) == chain) return Refused("chain " + name + " jumps to it", line);
      }
    }
    table.erase(found);
  } else {
    return Refused("unknown command", line);
  }
  return {};
}

Result<> FakeIptables::CheckJumps(const Table& table) {
  for (const auto& [chain, rules] : table) {
    for (const std::string& rule : rules) {
      std::string target = JumpTarget(rule);
      if (!target.empty() && !IsTarget(target) && !table.contains(target)) {
        return Refused("jump to a chain that does not exist", "-A " + chain + " " + rule);
      }
    }
  }
  return {};
}

Result<> FakeIptables::Restore(IpFamily family, std::string_view payload) {
  std::lock_guard lock(mutex_);
  if (failures_left_ > 0) {
    --failures_left_;
    return *failure_;
  }
  std::map<std::string, Table>& tables = For(family).tables;
  std::string name;
  Table table;
  for (std::string_view rest = payload; !rest.empty();) {
    size_t end = std::min(rest.find('\n'), rest.size());
    std::string_view line = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    if (line.empty() || line.starts_with('#')) continue;
    if (line.starts_with('*')) {
      name = line.substr(1);
      if (!tables.contains(name)) return Refused("no such table", line);
      table = tables[name];
    } else if (line == "COMMIT") {
      if (name.empty()) return Refused("COMMIT outside a table", line);
      TRY(CheckJumps(table));
      tables[name] = std::move(table);
      name.clear();
    } else if (name.empty()) {
      return Refused("outside a table", line);
    } else {
      TRY(ApplyLine(table, line));
    }
  }
  if (!name.empty()) return Refused("no COMMIT", name);
  payloads_.emplace_back(payload);
  return {};
}

Result<std::string> FakeIptables::Save(IpFamily family, std::string_view table) {
  std::lock_guard lock(mutex_);
  auto found = For(family).tables.find(std::string(table));
  if (found == For(family).tables.end()) return Error(Code::kNotFound, "no such table");
  std::string text = "*" + std::string(table) + "\n";
  for (const auto& [chain, rules] : found->second) {
    text += ":" + chain + (IsBuiltin(chain) ? " ACCEPT" : " -") + " [0:0]\n";
  }
  for (const auto& [chain, rules] : found->second) {
    for (const std::string& rule : rules) text += "-A " + chain + " " + rule + "\n";
  }
  return text + "COMMIT\n";
}

Result<bool> FakeIptables::ChainExists(IpFamily family, std::string_view table,
                                       std::string_view chain) {
  return Rules(family, std::string(table), std::string(chain)).has_value();
}

Result<std::vector<std::string>> FakeIptables::ListChain(IpFamily family, std::string_view table,
                                                         std::string_view chain) {
  auto rules = Rules(family, std::string(table), std::string(chain));
  if (!rules) return Error(Code::kNotFound, "no chain " + std::string(chain));
  for (std::string& rule : *rules) rule = "-A " + std::string(chain) + " " + rule;
  return *std::move(rules);
}

bool FakeIptables::Supports(IpFamily family) const {
  std::lock_guard lock(mutex_);
  return For(family).supported;
}

std::optional<std::vector<std::string>> FakeIptables::Rules(IpFamily family,
                                                            const std::string& table,
                                                            const std::string& chain) const {
  std::lock_guard lock(mutex_);
  auto found = For(family).tables.find(table);
  if (found == For(family).tables.end()) return std::nullopt;
  auto rules = found->second.find(chain);
  if (rules == found->second.end()) return std::nullopt;
  return rules->second;
}

std::vector<std::string> FakeIptables::Chains(IpFamily family, const std::string& table) const {
  std::lock_guard lock(mutex_);
  std::vector<std::string> names;
  auto found = For(family).tables.find(table);
  if (found == For(family).tables.end()) return names;
  for (const auto& [chain, rules] : found->second) {
    if (!IsBuiltin(chain)) names.push_back(chain);
  }
  return names;
}

std::vector<std::string> FakeIptables::TakePayloads() {
  std::lock_guard lock(mutex_);
  return std::exchange(payloads_, {});
}

void FakeIptables::FailNext(Error error, int times) {
  std::lock_guard lock(mutex_);
  failure_ = std::move(error);
  failures_left_ = times;
}

void FakeIptables::SetSupported(IpFamily family, bool supported) {
  std::lock_guard lock(mutex_);
  For(family).supported = supported;
}

}  // namespace skiff::net

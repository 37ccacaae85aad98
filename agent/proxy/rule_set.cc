#include "agent/proxy/rule_set.h"

#include <algorithm>
#include <array>
#include <charconv>

namespace skiff::agent::proxy {
namespace {

// Deleting a rule makes iptables read and compare its whole chain. Beyond this many, and this share
// of the services, writing the chain anew is cheaper.
constexpr size_t kFewDeletions = 16;
constexpr size_t kDeletionShare = 16;

void Declare(std::string& out, std::string_view chain) {
  out.append(":").append(chain).append(" - [0:0]\n");
}

void Append(std::string& out, std::string_view command, std::string_view chain,
            std::string_view rule) {
  out.append(command).append(" ").append(chain).append(" ").append(rule).append("\n");
}

void AppendAll(std::string& out, std::string_view chain, const std::vector<std::string>& rules) {
  for (const std::string& rule : rules) Append(out, "-A", chain, rule);
}

void AppendTable(std::string& out, std::string_view table, const std::string& lines) {
  if (lines.empty()) return;
  out.append("*").append(table).append("\n").append(lines).append("COMMIT\n");
}

// What is in a and not in b, with multiplicity.
std::vector<std::string> Minus(std::vector<std::string> a, std::vector<std::string> b) {
  std::sort(a.begin(), a.end());
  std::sort(b.begin(), b.end());
  std::vector<std::string> difference;
  std::set_difference(a.begin(), a.end(), b.begin(), b.end(), std::back_inserter(difference));
  return difference;
}

// The word after an option of a rule, "" where there is none.
std::string_view OptionOf(std::string_view rule, std::string_view option) {
  std::string wanted = " " + std::string(option) + " ";
  size_t at = rule.find(wanted);
  if (at == std::string_view::npos) return "";
  std::string_view rest = rule.substr(at + wanted.size());
  return rest.substr(0, rest.find(' '));
}

}  // namespace

ExistingRules ParseExisting(std::string_view saved_nat) {
  ExistingRules existing;
  for (std::string_view rest = saved_nat; !rest.empty();) {
    size_t end = std::min(rest.find('\n'), rest.size());
    std::string_view line = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    if (line.starts_with(':')) {
      std::string chain(line.substr(1, line.find(' ') - 1));
      if (IsServiceChain(chain)) existing.service_chains.insert(chain);
    }
    bool services = line.starts_with("-A KUBE-SERVICES ");
    bool node_ports = line.starts_with("-A KUBE-NODEPORTS ");
    if ((!services && !node_ports) || OptionOf(line, "-p") != "udp") continue;
    std::string_view text = OptionOf(line, "--dport");
    uint16_t port = 0;
    std::from_chars(text.data(), text.data() + text.size(), port);
    if (port == 0) continue;
    if (node_ports) {
      existing.udp_node_ports.push_back(port);
      continue;
    }
    std::string_view destination = OptionOf(line, "-d");
    auto address = net::IpAddress::Parse(destination.substr(0, destination.find('/')));
    if (address.ok()) existing.udp_frontends.emplace_back(*address, port);
  }
  return existing;
}

void RuleSet::AppendWholeShared(SharedChain chain, const States& all, std::string& out) const {
  std::string name(SharedChainName(chain));
  Declare(out, name);
  for (const auto& [key, state] : all) {
    AppendAll(out, name, PlanService(context_, key, state.get()).in(chain));
  }
  Chains base = IsNat(chain) ? BaseNatChains(context_) : BaseFilterChains(context_);
  AppendAll(out, name, base.at(name));
}

// Three steps, so that at no time traffic to a service finds neither a translation nor a refusal:
// refusals are added first (translated packets do not meet them), then translations change, then
// refusals that are not needed any more go.
std::string RuleSet::PlanChanges(std::span<const Change> changes, const States& all) const {
  std::array<SharedChange, kSharedChains> shared;
  std::string declared, rules, deleted;
  for (const Change& change : changes) {
    ServicePlan before = PlanService(context_, change.key, change.before.get());
    ServicePlan after = PlanService(context_, change.key, change.after.get());
    for (SharedChain chain : kAllSharedChains) {
      SharedChange& both = shared[static_cast<size_t>(chain)];
      auto added = Minus(after.in(chain), before.in(chain));
      auto removed = Minus(before.in(chain), after.in(chain));
      both.added.insert(both.added.end(), added.begin(), added.end());
      both.removed.insert(both.removed.end(), removed.begin(), removed.end());
    }
    for (const auto& [name, chain] : after.chains) {
      auto found = before.chains.find(name);
      if (found != before.chains.end() && found->second == chain) continue;
      Declare(declared, name);
      AppendAll(rules, name, chain);
    }
    for (const auto& [name, chain] : before.chains) {
      if (after.chains.contains(name)) continue;
      Declare(declared, name);
      deleted += "-X " + name + "\n";
    }
  }

  std::string filter_first, nat_shared, filter_last;
  for (SharedChain chain : kAllSharedChains) {
    const SharedChange& change = shared[static_cast<size_t>(chain)];
    std::string_view name = SharedChainName(chain);
    std::string& added = IsNat(chain) ? nat_shared : filter_first;
    std::string& removed = IsNat(chain) ? nat_shared : filter_last;
    if (change.removed.size() > kFewDeletions &&
        change.removed.size() > all.size() / kDeletionShare) {
      AppendWholeShared(chain, all, added);
      continue;
    }
    for (const std::string& rule : change.removed) Append(removed, "-D", name, rule);
    // In front: the last rule of KUBE-SERVICES must stay the last.
    for (const std::string& rule : change.added) Append(added, "-I", name, rule);
  }
  std::string out;
  AppendTable(out, "filter", filter_first);
  AppendTable(out, "nat", declared + rules + nat_shared + deleted);
  AppendTable(out, "filter", filter_last);
  return out;
}

// The services' own chains. Each piece also makes the chain that all of them jump to. Takes the
// names out of stale.
std::vector<std::string> RuleSet::PlanServiceChains(const States& all,
                                                    std::set<std::string>& stale) const {
  const std::string mark = "KUBE-MARK-MASQ";
  const Chains base = BaseNatChains(context_);
  std::vector<std::string> payloads;
  std::string declared, rules;
  auto finish = [&] {
    if (declared.empty()) return;
    std::string lines;
    Declare(lines, mark);
    lines += declared;
    AppendAll(lines, mark, base.at(mark));
    lines += rules;
    AppendTable(payloads.emplace_back(), "nat", lines);
    declared.clear();
    rules.clear();
  };
  size_t services = 0;
  for (const auto& [key, state] : all) {
    for (const auto& [name, chain] : PlanService(context_, key, state.get()).chains) {
      Declare(declared, name);
      AppendAll(rules, name, chain);
      stale.erase(name);
    }
    if (++services % kServicesPerPayload == 0) finish();
  }
  finish();
  return payloads;
}

std::vector<std::string> RuleSet::PlanAll(
    const States& all, const ExistingRules& existing,
    const std::vector<std::string>& missing_nat_jumps,
    const std::vector<std::string>& missing_filter_jumps) const {
  std::set<std::string> stale = existing.service_chains;
  std::vector<std::string> payloads = PlanServiceChains(all, stale);

  std::string nat_shared, filter_shared;
  for (const auto& [key, state] : all) {
    ServicePlan plan = PlanService(context_, key, state.get());
    for (SharedChain chain : kAllSharedChains) {
      AppendAll(IsNat(chain) ? nat_shared : filter_shared, SharedChainName(chain), plan.in(chain));
    }
  }
  auto table = [](std::string& out, std::string_view name, const Chains& base,
                  const std::string& shared, const std::vector<std::string>& jumps) {
    std::string lines;
    for (const auto& [chain, rules] : base) Declare(lines, chain);
    lines += shared;
    for (const auto& [chain, rules] : base) AppendAll(lines, chain, rules);
    for (const std::string& jump : jumps) lines += "-I " + jump + "\n";
    AppendTable(out, name, lines);
  };
  std::string& switch_over = payloads.emplace_back();
  table(switch_over, "nat", BaseNatChains(context_), nat_shared, missing_nat_jumps);
  table(switch_over, "filter", BaseFilterChains(context_), filter_shared, missing_filter_jumps);

  // Emptied first, as they jump to each other, then deleted.
  for (bool deleting : {false, true}) {
    std::string lines;
    size_t chains = 0;
    for (const std::string& chain : stale) {
      Declare(lines, chain);
      if (deleting) lines += "-X " + chain + "\n";
      if (++chains % (3 * kServicesPerPayload) != 0 && chains != stale.size()) continue;
      AppendTable(payloads.emplace_back(), "nat", lines);
      lines.clear();
    }
  }
  return payloads;
}

}  // namespace skiff::agent::proxy

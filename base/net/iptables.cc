#include "base/net/iptables.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <map>
#include <vector>

#include "base/os/spawn.h"

namespace skiff::net {
namespace {

// The lock of the legacy programs (iptables(8), -w); the nft ones accept and ignore it.
constexpr const char* kLockSeconds = "5";
constexpr auto kDeadline = std::chrono::seconds(60);
// iptables(8): "4" is a resource problem: the lock, or a concurrent change.
constexpr int kExitResourceProblem = 4;

std::string FindProgram(const std::string& name) {
  for (const char* directory : {"/usr/sbin/", "/sbin/", "/usr/local/sbin/", "/usr/bin/"}) {
    std::string path = directory + name;
    if (access(path.c_str(), X_OK) == 0) return path;
  }
  return "";
}

Result<ProgramOutput> Run(const std::string& path, std::vector<std::string> arguments,
                          std::string_view input = {}) {
  SpawnRequest request{.path = path, .argv = {path}, .env = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}};
  for (std::string& argument : arguments) request.argv.push_back(std::move(argument));
  return RunProgram(std::move(request), input, kDeadline);
}

Error Failure(const std::string& path, const ProgramOutput& output) {
  std::string text = output.err.substr(0, 2000);
  while (!text.empty() && text.back() == '\n') text.pop_back();
  Code code = output.status.code == kExitResourceProblem ? Code::kUnavailable : Code::kInternal;
  return Error(code,
               path + ": exit code " + std::to_string(output.status.ShellCode()) + ": " + text);
}

bool IsNoProgram(const Error& error) {
  const int cause = error.sys_errno();
  return cause == ENOENT || cause == ENOEXEC || cause == EACCES;
}

Error NotSupported(IpFamily family) {
  return Error(Code::kUnimplemented,
               "iptables: " + std::string(FamilyName(family)) + " does not work on this machine");
}

}  // namespace

Result<std::unique_ptr<SystemIptables>> SystemIptables::Open(Variant variant) {
  std::vector<std::string> suffixes;
  switch (variant) {
    case Variant::kDetect: suffixes = {"", "-nft", "-legacy"}; break;
    case Variant::kNft: suffixes = {"-nft"}; break;
    case Variant::kLegacy: suffixes = {"-legacy"}; break;
  }
  std::string tried;
  for (const std::string& suffix : suffixes) {
    std::array<Programs, 2> families;
    for (size_t i = 0; i < 2; ++i) {
      std::string name = (i == 0 ? "iptables" : "ip6tables") + suffix;
      Programs programs{FindProgram(name), FindProgram(name + "-restore"),
                        FindProgram(name + "-save")};
      if (programs.control.empty() || programs.restore.empty() || programs.save.empty()) {
        tried += name + ": not installed; ";
        continue;
      }
      // Looks the nat table up, which fails where program and kernel do not fit.
      auto probe = Run(programs.control, {"-w", kLockSeconds, "-t", "nat", "-S", "PREROUTING"});
      // That it could not be run this time says nothing about the program.
      if (!probe.ok() && !IsNoProgram(probe.error())) return std::move(probe).error();
      if (!probe.ok() || !probe->status.Success()) {
        tried += (probe.ok() ? Failure(programs.control, *probe) : probe.error()).message() + "; ";
        continue;
      }
      families[i] = std::move(programs);
    }
    if (families[0].restore.empty()) continue;
    ProgramOutput version = TRY(Run(families[0].control, {"--version"}));
    std::string text = version.out.substr(0, version.out.find('\n'));
    return std::unique_ptr<SystemIptables>(
        new SystemIptables(std::move(families[0]), std::move(families[1]), std::move(text)));
  }
  return Error(Code::kNotFound, "no working iptables: " + tried);
}

bool SystemIptables::Supports(IpFamily family) const { return !For(family).restore.empty(); }

Result<> SystemIptables::Restore(IpFamily family, std::string_view payload) {
  if (!Supports(family)) return NotSupported(family);
  const std::string& program = For(family).restore;
  ProgramOutput output = TRY(Run(program, {"-w", kLockSeconds, "--noflush"}, payload));
  if (!output.status.Success()) return Failure(program, output);
  return {};
}

Result<std::string> SystemIptables::Save(IpFamily family, std::string_view table) {
  if (!Supports(family)) return NotSupported(family);
  const std::string& program = For(family).save;
  ProgramOutput output = TRY(Run(program, {"-t", std::string(table)}));
  if (!output.status.Success()) return Failure(program, output);
  return std::move(output.out);
}

Result<bool> SystemIptables::ChainExists(IpFamily family, std::string_view table,
                                         std::string_view chain) {
  if (!Supports(family)) return NotSupported(family);
  const std::string& program = For(family).control;
  ProgramOutput output = TRY(
      Run(program, {"-w", kLockSeconds, "-t", std::string(table), "-S", std::string(chain), "1"}));
  if (output.status.Success()) return true;
  // "-S CHAIN 1" succeeds for a chain without rules too; 1 is what a missing chain gives.
  if (output.status.code != 1 || output.status.signal != 0) return Failure(program, output);
  return false;
}

Result<std::vector<std::string>> SystemIptables::ListChain(IpFamily family, std::string_view table,
                                                           std::string_view chain) {
  if (!Supports(family)) return NotSupported(family);
  const std::string& program = For(family).control;
  ProgramOutput output =
      TRY(Run(program, {"-w", kLockSeconds, "-t", std::string(table), "-S", std::string(chain)}));
  if (output.status.code == 1) return Error(Code::kNotFound, "no chain " + std::string(chain));
  if (!output.status.Success()) return Failure(program, output);
  std::vector<std::string> rules;
  for (std::string_view rest = output.out; !rest.empty();) {
    size_t end = std::min(rest.find('\n'), rest.size());
    if (rest.starts_with("-A ")) rules.emplace_back(rest.substr(0, end));
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  return rules;
}

Result<std::vector<std::string>> MissingJumps(Iptables& iptables, IpFamily family,
                                              std::string_view table,
                                              const std::vector<std::string>& jumps) {
  std::map<std::string, std::vector<std::string>> chains;
  std::vector<std::string> missing;
  for (const std::string& jump : jumps) {
    std::string chain = jump.substr(0, jump.find(' '));
    std::string target = jump.substr(jump.rfind(" -j "));
    if (!chains.contains(chain)) {
      chains[chain] = TRY(iptables.ListChain(family, table, chain));
    }
    const std::vector<std::string>& rules = chains[chain];
    if (std::none_of(rules.begin(), rules.end(),
                     [&](const std::string& rule) { return rule.ends_with(target); })) {
      missing.push_back(jump);
    }
  }
  return missing;
}

Result<> RemoveChains(Iptables& iptables, IpFamily family, std::string_view table,
                      const std::function<bool(std::string_view chain)>& ours) {
  std::string saved = TRY(iptables.Save(family, table));
  std::string jumps, flushes, deletes;
  for (std::string_view rest = saved; !rest.empty();) {
    size_t end = std::min(rest.find('\n'), rest.size());
    std::string_view line = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    if (line.starts_with(':')) {
      std::string chain(line.substr(1, line.find(' ') - 1));
      if (!ours(chain)) continue;
      flushes += ":" + chain + " - [0:0]\n";
      deletes += "-X " + chain + "\n";
    } else if (line.starts_with("-A ")) {
      std::string_view chain = line.substr(3, line.find(' ', 3) - 3);
      size_t jump = line.rfind(" -j ");
      if (jump == std::string_view::npos || ours(chain)) continue;
      std::string_view target = line.substr(jump + 4);
      if (ours(target.substr(0, target.find(' '))))
        jumps += "-D" + std::string(line.substr(2)) + "\n";
    }
  }
  if (deletes.empty()) return {};
  return iptables.Restore(family,
                          "*" + std::string(table) + "\n" + jumps + flushes + deletes + "COMMIT\n");
}

std::string CommentText(std::string_view text) {
  std::string clean;
  for (char c : text.substr(0, 200)) {
    bool plain = c >= ' ' && c < 127 && c != '"' && c != '\\' && c != '\'';
    clean += plain ? c : '_';
  }
  return clean;
}

}  // namespace skiff::net

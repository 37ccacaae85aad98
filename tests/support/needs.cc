#include "tests/support/needs.h"

#include <linux/bpf.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <functional>
#include <iterator>
#include <map>
#include <mutex>
#include <string_view>
#include <thread>

#include "base/net/conntrack.h"
#include "base/net/iptables.h"
#include "base/net/nft.h"
#include "base/net/rtnl.h"
#include "base/net/traffic_control.h"
#include "base/os/files.h"
#include "base/os/unique_fd.h"
#include "base/result.h"

namespace skiff::test {
namespace {

std::string NameOf(Need need) {
  switch (need) {
    case Need::kRoot: return "root";
    case Need::kIptables: return "iptables";
    case Need::kNftables: return "nftables";
    case Need::kBrNetfilter: return "br_netfilter";
    case Need::kIpv6: return "IPv6";
    case Need::kConntrack: return "conntrack";
    case Need::kSctp: return "SCTP";
    case Need::kShaping: return "traffic shaping";
    case Need::kWireguard: return "WireGuard";
    case Need::kLinkPrograms: return "BPF programs on links";
    case Need::kOverlayfs: return "overlayfs";
    case Need::kCgroupV2: return "cgroup v2";
    case Need::kCgroupV1: return "cgroup v1";
    case Need::kCrun: return "crun";
    case Need::kCniPlugins: return "containernetworking-plugins";
  }
  return "?";
}

// Runs the probe on a thread in a network namespace of its own.
std::string InFreshNetns(const std::function<std::string()>& probe) {
  std::string why;
  std::thread([&] {
    why = unshare(CLONE_NEWNET) == 0 ? probe() : "unshare: " + ErrnoText(errno);
  }).join();
  return why;
}

std::string ProbeIptables() {
  auto iptables = net::SystemIptables::Open();
  if (!iptables.ok()) return iptables.error().message();
  for (net::IpFamily family : {net::IpFamily::kV4, net::IpFamily::kV6}) {
    if (!(*iptables)->Supports(family))
      return std::string(net::FamilyName(family)) + " unsupported";
    auto written = (*iptables)->Restore(
        family,
        "*nat\n:SKIFF-PROBE - [0:0]\n-A SKIFF-PROBE -j MASQUERADE --random-fully\nCOMMIT\n");
    if (!written.ok()) return written.error().message();
  }
  return "";
}

std::string ProbeNftables() {
  net::nft::Transaction change(net::nft::Table{net::nft::Family::kInet, "skiff-probe"});
  change.AddTable().AddChain(
      {.name = "c",
       .base = net::nft::BaseChain{net::nft::ChainType::kNat, net::nft::Hook::kOutput}});
  auto committed = net::SystemNft().Commit(change);
  return committed.ok() ? "" : committed.error().message();
}

std::string ProbeLinkPrograms() {
  const bpf_insn accept[] = {{.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0},
                             {.code = BPF_JMP | BPF_EXIT}};
  bpf_attr load{};
  load.prog_type = BPF_PROG_TYPE_SCHED_CLS;
  load.insns = reinterpret_cast<uint64_t>(accept);
  load.insn_cnt = std::size(accept);
  load.license = reinterpret_cast<uint64_t>("Apache-2.0");
  UniqueFd program(static_cast<int>(syscall(SYS_bpf, BPF_PROG_LOAD, &load, sizeof load)));
  if (!program) return "bpf: " + ErrnoText(errno);
  auto rtnl = net::Rtnl::Open();
  if (!rtnl.ok()) return rtnl.error().message();
  std::vector<net::NetlinkMessage> changes;
  changes.push_back(net::rtnl::AddProgramPlace(1));  // the loopback link
  changes.push_back(
      net::rtnl::RunProgram(1, net::rtnl::Way::kIncoming, program.get(), "skiff-probe"));
  auto applied = rtnl->Apply(std::move(changes));
  return applied.ok() ? "" : applied.error().message();
}

std::string ProbeConntrack() {
  auto flows = net::SystemConntrack().List(net::IpFamily::kV4, net::kProtocolUdp,
                                           [](const net::Flow&) { return true; });
  return flows.ok() ? "" : flows.error().message();
}

std::string ProbeSctp() {
  UniqueFd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_SCTP));
  return fd.valid() ? "" : ErrnoText(errno);
}

std::string ProbeWireguard() {
  auto rtnl = net::Rtnl::Open();
  if (!rtnl.ok()) return rtnl.error().message();
  auto made = rtnl->Apply(net::rtnl::CreateWireguard("probe", 1420));
  return made.ok() ? "" : made.error().message();
}

std::string ProbeShaping() {
  auto probe = []() -> Result<> {
    net::Rtnl rtnl = TRY(net::Rtnl::Open());
    TRY(rtnl.Apply(net::rtnl::CreateIfb("ifb-probe", 1500)));
    int index = TRY(rtnl.LinkIndex("ifb-probe"));
    TRY(rtnl.Apply(net::rtnl::LimitRate(index, {1'000'000, 100'000, 100'000})));
    return rtnl.Apply(net::rtnl::AddIngress(index));
  };
  auto probed = probe();
  return probed.ok() ? "" : probed.error().message();
}

std::string FileSystem(std::string_view name) {
  auto known = ReadFile("/proc/filesystems");
  if (known.ok() && known->find("\t" + std::string(name) + "\n") != std::string::npos) return "";
  return "not in /proc/filesystems";
}

std::string ProbeCgroupV1() {
  for (const char* controller : {"memory", "cpu", "pids"}) {
    if (!PathExists("/sys/fs/cgroup/" + std::string(controller) + "/tasks")) {
      return std::string(controller) + " is not mounted";
    }
  }
  return "";
}

std::string ProbeCgroupV2() {
  for (const char* root : {"/sys/fs/cgroup", "/sys/fs/cgroup/unified"}) {
    auto controllers = ReadFile(std::string(root) + "/cgroup.controllers");
    if (controllers.ok() && controllers->find("memory") != std::string::npos) return "";
  }
  return "no controllers in the unified hierarchy";
}

std::string ProbeCrun() {
  if (!PathExists("/usr/bin/crun")) return "no /usr/bin/crun";
  auto beside_v1 = ReadFile("/sys/fs/cgroup/unified/cgroup.controllers");
  if (std::move(beside_v1).value_or("").find_first_not_of(" \n") == std::string::npos) return "";
  return "it refuses a machine whose v2 tree carries controllers beside v1";
}

std::string Probe(Need need) {
  switch (need) {
    case Need::kRoot:
      if (geteuid() != 0) return "not root";
      return InFreshNetns([] { return std::string(); });
    case Need::kIptables: return InFreshNetns(ProbeIptables);
    case Need::kNftables: return InFreshNetns(ProbeNftables);
    case Need::kBrNetfilter:
      return PathExists("/proc/sys/net/bridge/bridge-nf-call-iptables") ? "" : "module not loaded";
    case Need::kIpv6: return PathExists("/proc/sys/net/ipv6") ? "" : "disabled in the kernel";
    case Need::kConntrack: return InFreshNetns(ProbeConntrack);
    case Need::kSctp: return ProbeSctp();
    case Need::kShaping: return InFreshNetns(ProbeShaping);
    case Need::kWireguard: return InFreshNetns(ProbeWireguard);
    case Need::kLinkPrograms: return InFreshNetns(ProbeLinkPrograms);
    case Need::kOverlayfs: return FileSystem("overlay");
    case Need::kCgroupV2: return ProbeCgroupV2();
    case Need::kCgroupV1: return ProbeCgroupV1();
    case Need::kCrun: return ProbeCrun();
    case Need::kCniPlugins: return PathExists("/usr/lib/cni/bridge") ? "" : "not installed";
  }
  return "unknown need";
}

}  // namespace

std::string Missing(Need need) {
  static std::mutex mutex;
  static std::map<Need, std::string> known;
  std::lock_guard lock(mutex);
  auto found = known.find(need);
  if (found == known.end()) found = known.emplace(need, Probe(need)).first;
  return found->second;
}

std::string FirstMissing(std::initializer_list<Need> needs) {
  for (Need need : needs) {
    std::string why = Missing(need);
    if (!why.empty()) return NameOf(need) + ": " + why;
  }
  return "";
}

bool NeedsAreStrict() {
  const char* value = std::getenv("NEEDS_STRICT");
  return value != nullptr && std::string_view(value) == "1";
}

}  // namespace skiff::test

// LeaseTable: which sandbox has which address and host port.
//
// One file a lease, state_dir/leases/BOOT_ID/SANDBOX_ID.json, written before the address is used
// and removed after it is not. Nothing in the kernel survives a reboot, so the leases of an earlier
// boot are void, and a file need not survive a power cut.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/net/ip.h"
#include "base/result.h"
#include "cni/network.h"

namespace skiff::cni {

// All that is needed to take a sandbox off the network.
struct Lease {
  std::string sandbox_id;
  std::string netns_path;
  std::string pod_namespace;
  std::string pod_name;
  std::string pod_uid;
  std::vector<PortMapping> ports;
  Bandwidth bandwidth;
  Attachment attachment;
};

std::string RenderLease(const Lease& lease);
// DataLoss when the text is not a lease.
Result<Lease> ParseLease(std::string_view text);

// [A-Za-z0-9_.@-]{1,128}, not starting with a dot: safe as a file name.
bool IsValidSandboxId(std::string_view id);
// Names the boot that runs (/proc/sys/kernel/random/boot_id).
Result<std::string> RunningBootId();

// Thread-safe.
class LeaseTable {
 public:
  // Reads the leases of this boot and removes those of others. DataLoss names a file that cannot
  // be read as a lease.
  static Result<std::unique_ptr<LeaseTable>> Open(const std::string& state_dir,
                                                  const std::string& boot_id);

  // Gives draft an address of each CIDR (those requested, or the next free ones; never the
  // network's, the gateway's or the broadcast address), writes it down and returns it.
  //   AlreadyExists      the sandbox has a lease, or a port or requested address is taken
  //   ResourceExhausted  a CIDR has no free address
  //   InvalidArgument    a requested address is outside the CIDRs or reserved
  Result<Lease> Acquire(Lease draft, const std::vector<net::IpAddress>& requested,
                        const std::vector<net::IpPrefix>& cidrs);
  // Frees addresses and ports of the lease; one that is not there is a success. That its interface
  // may be left stays written down until Forget, through restarts.
  Result<> Retire(const std::string& sandbox_id);
  // The interface of a retired lease is gone.
  Result<> Forget(const std::string& sandbox_id);

  std::optional<Lease> Find(const std::string& sandbox_id) const;
  std::vector<Lease> All() const;
  // Sandbox ids of the leases that were retired, and not forgotten, when the table was opened.
  const std::vector<std::string>& RetiredBefore() const { return retired_before_; }

 private:
  LeaseTable(std::string directory) : directory_(std::move(directory)) {}
  std::string FileOf(const std::string& sandbox_id) const;
  std::string RetiredFileOf(const std::string& sandbox_id) const;
  Result<> CheckPorts(const Lease& draft) const;
  Result<net::IpAddress> Pick(const net::IpPrefix& cidr,
                              const std::vector<net::IpAddress>& requested);
  const Lease* Holder(const net::IpAddress& address) const;

  const std::string directory_;
  std::vector<std::string> retired_before_;
  mutable std::mutex mutex_;
  std::map<std::string, Lease> leases_;
  std::map<net::IpAddress, std::string> holders_;  // address -> sandbox id
  // Where to look next in each CIDR: an address is not handed out again soon after it was freed,
  // while peers may still send to its last holder.
  std::map<net::IpPrefix, uint64_t> cursors_;
};

// The address of the node on the pods' side: the first of the CIDR.
net::IpAddress GatewayOf(const net::IpPrefix& cidr);
// Made from the address, so that an address always has the same one and no neighbour cache goes
// stale.
std::string MacOf(const net::IpAddress& address);
// "veth" and ten hexadecimal digits of the id's hash.
std::string HostInterfaceOf(const std::string& sandbox_id);

}  // namespace skiff::cni

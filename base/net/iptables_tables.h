// The tables that iptables makes in nftables and never takes away.
#pragma once

#include "base/net/nft.h"
#include "base/result.h"

namespace skiff::net {

// Deletes, in both families, iptables' tables (raw, mangle, nat, filter, security) that hold
// nothing but empty built-in chains which let everything pass: they do nothing, and iptables makes
// them anew when it needs them. One that somebody puts a rule into meanwhile stays. Succeeds where
// the kernel has no nftables.
Result<> RemoveBareIptablesTables(Nft& nft);

}  // namespace skiff::net

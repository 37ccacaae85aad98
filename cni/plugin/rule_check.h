// Whether packet filter rules are in force, asked of the kernel without running a program.
#pragma once

#include <string>

#include "base/net/ip.h"
#include "base/result.h"

namespace skiff::cni {

// Whether a rule of the chain names `target`. Sees what iptables-nft and nft made; false where
// there is no such chain, and for the rules of iptables-legacy.
Result<bool> ChainMentions(net::IpFamily family, const std::string& table, const std::string& chain,
                           const std::string& target);

}  // namespace skiff::cni

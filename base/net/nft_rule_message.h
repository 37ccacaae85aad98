// A rule's steps as the kernel's expressions. For base/net/nft_messages.cc.
#pragma once

#include "base/net/nft_rule.h"

struct nftnl_rule;

namespace skiff::net::nft {

void AppendSteps(nftnl_rule* rule, Family family, const Body& body);

}  // namespace skiff::net::nft

// Shaper: how fast a pod may send and receive, by traffic control on the node's end of its pair.
//
// What goes to the pod leaves the node's end of the pair: a token bucket there. What comes from the
// pod comes in there, where the kernel has no queue: it is redirected through a link made for it
// (ifb), which has one. The ifb does not go with the pair, so the lease says whether there is one.
#pragma once

#include <string>

#include "base/net/rtnl.h"
#include "base/result.h"
#include "cni/network.h"

namespace skiff::cni {

// "ifb" and the digits of the host interface ("veth0123456789").
std::string IfbOf(const std::string& host_interface);

// Limits what the attachment's pod sends and receives; without limits, nothing is done.
// owner: the bridge, by which stray links are found. Unimplemented: the kernel lacks what it takes;
// the text says what.
Result<> ShapePod(net::Rtnl& node, const Attachment& attachment, const Bandwidth& bandwidth,
                  const std::string& owner);

// What ShapePod made beside the pair. Succeeds when it is gone.
Result<> RemoveShaping(net::Rtnl& node, const std::string& host_interface,
                       const Bandwidth& bandwidth);

}  // namespace skiff::cni

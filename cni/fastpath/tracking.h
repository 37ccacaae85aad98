// How connection tracking is to judge while it sees some packets of a connection only.
//
// Its idea of TCP's sequence numbers grows old: what is out of them must be taken for part of its
// connection still (nf_conntrack_tcp_be_liberal, and nf_conntrack_tcp_ignore_invalid_rst for the
// packet that ends it). And it may miss the last acknowledgement before a silence, upon which it
// would forget a connection in minutes that has days (nf_conntrack_tcp_timeout_unacknowledged).
#pragma once

#include <string>

#include "base/result.h"

namespace skiff::cni {

// Sets it so; what was there before is written to the file first, unless an earlier process did.
// Unimplemented: the kernel has no such settings.
Result<> LoosenTracking(const std::string& record, const std::string& sysctl_root);
// Makes it what the file says and removes that. Succeeds where there is none. Connections that were
// on the fast path are invalid to tracking afterwards.
Result<> RestoreTracking(const std::string& record, const std::string& sysctl_root);

}  // namespace skiff::cni

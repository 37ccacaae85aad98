// Transmit checksum offload of a link: whether the kernel leaves checksums of packets that it sends
// there to the device (ethtool -K LINK tx on|off).
#pragma once

#include <string>

#include "base/result.h"

namespace skiff::net {

// Of the calling thread's network namespace. NotFound: no such link.
Result<bool> TxChecksumOffload(const std::string& link);
// Segmentation offload, which needs it, goes with it. Unimplemented: the link cannot change it.
Result<> SetTxChecksumOffload(const std::string& link, bool on);

}  // namespace skiff::net

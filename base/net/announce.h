// Telling neighbours that an address is at this machine now, so that they do not go on sending to
// the machine that had it before: a gratuitous ARP request (RFC 5227, section 3) or an unsolicited
// neighbour advertisement (RFC 4861, section 7.2.6).
#pragma once

#include <string>

#include "base/net/ip.h"
#include "base/result.h"

namespace skiff::net {

// Sends one such message out of the link (in the calling thread's namespace), whose MAC is given as
// "0a:58:0a:f4:00:01". Nobody answers.
Result<> AnnounceAddress(int link, const std::string& mac, const IpAddress& address);

// Pure: the message, without Ethernet or IPv6 header. InvalidArgument for a MAC that is none.
Result<std::string> BuildAnnouncement(const std::string& mac, const IpAddress& address);

}  // namespace skiff::net

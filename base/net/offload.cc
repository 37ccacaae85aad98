#include "base/net/offload.h"

#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>

#include "base/os/unique_fd.h"

namespace skiff::net {
namespace {

Result<uint32_t> Ethtool(const std::string& link, uint32_t command, uint32_t value) {
  if (link.size() >= IFNAMSIZ) {
    return Error(Code::kInvalidArgument, "\"" + link + "\" is too long for an interface");
  }
  UniqueFd fd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!fd) return Error::Sys(errno, "socket");
  ethtool_value request{command, value};
  ifreq named{};
  link.copy(named.ifr_name, IFNAMSIZ - 1);
  named.ifr_data = reinterpret_cast<char*>(&request);
  if (::ioctl(fd.get(), SIOCETHTOOL, &named) == 0) return request.data;
  if (errno == ENODEV) return Error(Code::kNotFound, "no interface " + link);
  if (errno == EOPNOTSUPP) {
    return Error(Code::kUnimplemented, "interface " + link + " has no such offload");
  }
  return Error::Sys(errno, "ethtool", link);
}

}  // namespace

Result<bool> TxChecksumOffload(const std::string& link) {
  return TRY(Ethtool(link, ETHTOOL_GTXCSUM, 0)) != 0;
}

Result<> SetTxChecksumOffload(const std::string& link, bool on) {
  TRY(Ethtool(link, ETHTOOL_STXCSUM, on ? 1 : 0));
  return {};
}

}  // namespace skiff::net

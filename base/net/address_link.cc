#include "base/net/address_link.h"

#include "base/net/families.h"

namespace skiff::net {

Result<std::vector<IpAddress>> EnsureAddressLink(Rtnl& rtnl, const std::string& name,
                                                 const std::vector<IpAddress>& addresses) {
  auto found = rtnl.LinkIndex(name);
  if (!found.ok() && found.error().code() == Code::kNotFound) {
    TRY(rtnl.Apply(rtnl::CreateBridge(name, "", 0)));
    found = rtnl.LinkIndex(name);
  }
  const int index = TRY(std::move(found));
  std::vector<NetlinkMessage> changes;
  std::vector<IpAddress> missing = addresses;
  for (IpFamily family : kIpFamilies) {
    for (const LinkAddress& present : TRY(rtnl.ListAddresses(family))) {
      if (present.link != index || present.address.is_link_local()) continue;
      if (std::erase(missing, present.address) == 0) {
        changes.push_back(rtnl::DeleteAddress(present));
      }
    }
  }
  for (const IpAddress& address : missing) {
    changes.push_back(rtnl::AddAddress(index, address, address.bits()));
  }
  if (!changes.empty()) TRY(rtnl.Apply(std::move(changes)));
  return missing;
}

}  // namespace skiff::net

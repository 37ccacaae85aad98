#include "base/net/families.h"

namespace skiff::net {

Result<std::vector<IpPrefix>> ParseNetworks(const std::vector<std::string>& texts) {
  if (texts.empty()) return Error(Code::kInvalidArgument, "want a network");
  std::vector<IpPrefix> networks;
  for (const std::string& text : texts) {
    IpPrefix network = TRY(IpPrefix::Parse(text));
    if (FirstOfFamily(networks, network.family()) != nullptr) {
      return Error(Code::kInvalidArgument, text + " is a second network of " +
                                               std::string(FamilyName(network.family())) +
                                               "; want at most one a family");
    }
    networks.push_back(network);
  }
  return networks;
}

}  // namespace skiff::net

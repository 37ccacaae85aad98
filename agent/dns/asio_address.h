// Our addresses as Asio's. For this folder's sources that speak to the network.
#pragma once

#include <algorithm>
#include <boost/asio/ip/address.hpp>

#include "base/net/ip.h"

namespace skiff::agent::dns {

inline boost::asio::ip::address ToAsio(const net::IpAddress& address) {
  if (address.is_v4()) {
    boost::asio::ip::address_v4::bytes_type bytes;
    std::copy_n(address.bytes(), bytes.size(), bytes.begin());
    return boost::asio::ip::address_v4(bytes);
  }
  boost::asio::ip::address_v6::bytes_type bytes;
  std::copy_n(address.bytes(), bytes.size(), bytes.begin());
  return boost::asio::ip::address_v6(bytes);
}

}  // namespace skiff::agent::dns

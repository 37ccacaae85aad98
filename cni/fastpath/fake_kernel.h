// FakeFastPathKernel: a FastPathKernel of maps, for tests of FastPath.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "cni/fastpath/kernel.h"

namespace skiff::cni {

class FakeFastPathKernel : public FastPathKernel {
 public:
  // Links come and go by these.
  std::map<std::string, int> links;
  std::set<std::string> ports;  // those on the bridge
  // What Load, or Attach, says instead of doing it.
  std::optional<Error> load_error, attach_error;

  // What it holds.
  bool loaded = false;
  int attachments = 0;  // calls that attached
  std::map<int, Role> attached;
  std::map<net::IpAddress, int> pods;

  Result<> Load() override {
    if (load_error) return *load_error;
    if (!std::exchange(loaded, true)) pods.clear();
    return {};
  }
  void Unload() override { loaded = false; }
  Result<> SetPod(const net::IpAddress& address, int link) override {
    pods[address] = link;
    return {};
  }
  Result<> ForgetPod(const net::IpAddress& address) override {
    pods.erase(address);
    return {};
  }
  Result<uint64_t> Taken() const override { return 7; }
  Result<int> Find(const std::string& link) override {
    auto found = links.find(link);
    if (found == links.end()) return Error(Code::kNotFound, "no link " + link);
    return found->second;
  }
  Result<> Attach(int link, Role role) override {
    if (attach_error) return *attach_error;
    ++attachments;
    attached[link] = role;
    return {};
  }
  Result<std::set<int>> Attached() override {
    std::set<int> running;
    for (const auto& [link, role] : attached) running.insert(link);
    return running;
  }
  Result<> DetachAll(const std::string&, const std::vector<std::string>& others) override {
    std::set<std::string> names = ports;
    names.insert(others.begin(), others.end());
    for (const std::string& name : names) {
      if (links.contains(name)) attached.erase(links[name]);
    }
    return {};
  }
};

}  // namespace skiff::cni

// FastPathKernel: the fast path's programs in the kernel: loaded, fed with pods' addresses, and run
// on links. SystemFastPathKernel is the real one, FakeFastPathKernel (fake_kernel.h) stands in for
// it in tests.
#pragma once

#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "base/net/ip.h"
#include "base/result.h"

namespace skiff::cni {

// One user at a time, but for SetPod, ForgetPod and Taken, which may come at any time between Load
// and Unload.
class FastPathKernel {
 public:
  virtual ~FastPathKernel() = default;

  // The programs, checked by the kernel, with empty memories. Nothing where they are loaded.
  // Unimplemented: the kernel cannot, and the text says what it said.
  virtual Result<> Load() = 0;
  // Links that run them keep them.
  virtual void Unload() = 0;

  virtual Result<> SetPod(const net::IpAddress& address, int link) = 0;
  // Succeeds where it is not there.
  virtual Result<> ForgetPod(const net::IpAddress& address) = 0;
  // Packets that took the fast path since Load.
  virtual Result<uint64_t> Taken() const = 0;

  // The link's index. NotFound.
  virtual Result<int> Find(const std::string& link) = 0;
  // The programs run on the link from here on, in the place of those of another process. NotFound:
  // there is no such link any more. Unimplemented: as Load.
  enum class Role : uint8_t { kPod, kOverlay };
  virtual Result<> Attach(int link, Role role) = 0;
  // Links that run programs.
  virtual Result<std::set<int>> Attached() = 0;
  // No programs run on the ports of the bridge and on the other links any more, whoever put them
  // there.
  virtual Result<> DetachAll(const std::string& bridge, const std::vector<std::string>& others) = 0;
};

// In the network namespace of the calling thread.
std::unique_ptr<FastPathKernel> MakeSystemFastPathKernel();

}  // namespace skiff::cni

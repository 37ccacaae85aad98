// Lease files: any bytes are a lease or an error, and a lease survives being written and read.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "cni/leases.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace skiff::cni;
  auto lease = ParseLease({reinterpret_cast<const char*>(data), size});
  if (!lease.ok()) return 0;
  std::string text = RenderLease(*lease);
  CHECK(RenderLease(ParseLease(text).value()) == text);
  return 0;
}

// Records and messages of the runtime (runtime/wire/archive.h) from arbitrary bytes.
#include <cstdint>

#include "runtime/state/records.h"
#include "runtime/wire/messages.h"

namespace {

template <class T>
void Try(std::string_view bytes) {
  auto value = skiff::runtime::Decode<T>(bytes);
  // What was understood is written the same way again.
  if (value.ok()) CHECK(skiff::runtime::Decode<T>(skiff::runtime::Encode(*value)).ok());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace skiff::runtime;
  std::string_view bytes(reinterpret_cast<const char*>(data), size);
  Try<SandboxRecord>(bytes);
  Try<ContainerRecord>(bytes);
  Try<LaunchSpec>(bytes);
  Try<CreateContainerRequest>(bytes);
  Try<ContainerReport>(bytes);
  Try<ShimFailure>(bytes);
  return 0;
}

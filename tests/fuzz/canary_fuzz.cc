// Crashes on an input that is one mutation away from its corpus: proves that a crash is reported.
#include <cstdint>
#include <cstdlib>
#include <string_view>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view input(reinterpret_cast<const char*>(data), size);
  if (input.find("canary{") != std::string_view::npos) std::abort();
  return 0;
}

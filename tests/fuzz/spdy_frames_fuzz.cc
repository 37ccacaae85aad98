// SPDY frames from a client: any bytes, cut anywhere, end in frames or in an error.
#include <cstddef>
#include <cstdint>

#include "base/streaming/spdy_frames.h"

namespace {

class Sink : public skiff::streaming::SpdySink {
 public:
  skiff::Result<> OnSynStream(uint32_t, skiff::streaming::SpdyHeaders, bool) override { return {}; }
  skiff::Result<> OnSynReply(uint32_t, skiff::streaming::SpdyHeaders, bool) override { return {}; }
  void OnData(uint32_t, std::string_view data, bool) override { bytes += data.size(); }
  void OnReset(uint32_t) override {}
  void OnPing(uint32_t) override {}
  void OnGoAway() override {}
  void OnWindowUpdate(uint32_t, uint32_t) override {}
  void OnInitialWindow(uint32_t) override {}
  size_t bytes = 0;
};

}  // namespace

// The first byte says how the rest is cut.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  size_t cut = data[0] + 1u;
  std::string_view input(reinterpret_cast<const char*>(data) + 1, size - 1);
  Sink sink;
  skiff::streaming::SpdyParser parser(sink);
  for (size_t at = 0; at < input.size(); at += cut) {
    if (!parser.Feed(input.substr(at, cut)).ok()) break;
  }
  CHECK(sink.bytes <= input.size());
  return 0;
}

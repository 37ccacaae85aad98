// What streaming clients and servers say in text: the upgrade request's headers, the status that
// ends a command, terminal sizes.
#include <cstdint>
#include <string>
#include <string_view>

#include "base/streaming/exec_session.h"
#include "base/streaming/upgrade.h"

namespace {

using namespace skiff::streaming;

// "Name: value" lines.
HeaderList Headers(std::string_view text) {
  HeaderList headers;
  while (!text.empty()) {
    std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(text.size(), line.size() + 1));
    size_t colon = line.find(": ");
    if (colon == std::string_view::npos) continue;
    headers.emplace_back(line.substr(0, colon), line.substr(colon + 2));
  }
  return headers;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view text(reinterpret_cast<const char*>(data), size);
  if (const auto status = ExecStatus::FromJson(text); status.ok()) {
    CHECK(ExecStatus::FromJson(status->ToJson()).ok());
  }
  if (const auto terminal = ParseTerminalSize(text); terminal.ok()) {
    CHECK(ParseTerminalSize(FormatTerminalSize(*terminal)).ok());
  }
  const HeaderList headers = Headers(text);
  for (const auto& upgrade : {NegotiateExec(headers), NegotiatePortForward(headers)}) {
    if (!upgrade.ok()) continue;
    CHECK(IsUpgrade(headers));
    // Nothing of the request breaks out of a header line.
    std::string head = ResponseHead(*upgrade);
    CHECK(head.find("\r\n\r\n") == head.size() - 4);
  }
  return 0;
}

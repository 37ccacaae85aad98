// What clients put into a request line and its headers: escapes, queries, Accept, paths.

#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "base/http/message.h"
#include "control-plane/api/rest/negotiation.h"
#include "control-plane/api/rest/request_info.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace skiff;
  std::string text(reinterpret_cast<const char*>(data), size);
  // Escaping is undone by unescaping, but for NUL, which is refused.
  auto round = http::PercentDecode(http::PercentEncode(text), false);
  if (text.find('\0') == text.npos && (!round.ok() || *round != text)) std::abort();
  http::Request request;
  request.method = "GET";
  request.raw_path = text.substr(0, text.find('?'));
  if (auto path = http::PercentDecode(request.raw_path, false); path.ok()) request.path = *path;
  size_t mark = text.find('?');
  if (mark != text.npos) {
    if (auto query = http::Query::Parse(text.substr(mark + 1)); query.ok()) request.query = *query;
  }
  request.headers.Set("Accept", text);
  request.headers.Set("Content-Type", text);
  (void)cp::ParseRequestInfo(request);
  (void)cp::NegotiateAnswer(request, true);
  (void)cp::BodyFormat(request);
  return 0;
}

// DNS questions and other servers' answers: what is read can be written again.
#include <cstdint>
#include <cstdlib>

#include "agent/dns/message.h"

using namespace skiff::agent::dns;  // NOLINT

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view message(reinterpret_cast<const char*>(data), size);
  if (auto parsed = ParseQuery(message); parsed && parsed->rcode == Rcode::kNoError) {
    Answer answer;
    answer.answers = {TextRecord(parsed->query.name, "x", 1)};
    if (WriteResponse(parsed->query, answer, kMaxUdpBytes).size() > kMaxUdpBytes) abort();
    (void)NameText(parsed->query.name);
    (void)ParseReverse(parsed->query.name);
  }
  if (auto response = ParseResponse(message)) {
    Query query;
    query.name = response->name;
    Answer answer{response->rcode, false, response->answers, response->authority,
                  response->additional};
    if (WriteResponse(query, answer, 512).size() > 512) abort();
  }
  return 0;
}

// DNS messages on the wire (RFC 1035, RFC 2782, RFC 3596, RFC 6891): questions in, responses out.
//
// A Name is a domain name in wire form, lower case, without compression and without the root's
// byte: "\3web\7default". Names compare and hash as strings; a suffix of a name that starts at a
// label is a name. Pure functions and values, usable from any thread; no input makes them fail
// otherwise than by their result.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/net/ip.h"

namespace skiff::agent::dns {

using Name = std::string;
using NameView = std::string_view;

// "Web.default.svc" or "web.default.svc."; nothing where a label or the whole is empty or too long.
std::optional<Name> ParseName(std::string_view text);
// "web.default.svc", with bytes that are no letters, digits, '-' or '_' as \DDD; "." for the root.
std::string NameText(NameView name);
// Joins two names; nothing when the result is longer than a name may be (255 bytes with the root).
std::optional<Name> Join(NameView front, NameView back);
// The labels, outermost last. The views are into the name.
std::vector<std::string_view> Labels(NameView name);
// Whether the name is the zone or below it.
bool IsWithin(NameView name, NameView zone);
// "4.3.2.1.in-addr.arpa" and the like; nothing for other names.
std::optional<net::IpAddress> ParseReverse(NameView name);

enum Type : uint16_t {
  kA = 1,
  kNs = 2,
  kCname = 5,
  kSoa = 6,
  kPtr = 12,
  kMx = 15,
  kTxt = 16,
  kAaaa = 28,
  kSrv = 33,
  kOpt = 41,
  kIxfr = 251,
  kAxfr = 252,
  kAny = 255,
};
constexpr uint16_t kClassIn = 1;

enum class Rcode : uint8_t {
  kNoError = 0,
  kFormErr = 1,
  kServFail = 2,
  kNxDomain = 3,
  kNotImp = 4,
  kRefused = 5,
  kBadVers = 16,
};

constexpr size_t kHeaderBytes = 12;
constexpr size_t kMaxMessageBytes = 65535;
// Without EDNS a response over UDP holds 512 bytes; with it, no more than what passes every path
// in one piece (https://www.dnsflagday.net/2020/).
constexpr size_t kPlainUdpBytes = 512;
constexpr size_t kMaxUdpBytes = 1232;

struct Query {
  uint16_t id = 0;
  bool recursion_desired = false;
  bool checking_disabled = false;
  Name name;
  uint16_t type = 0;
  uint16_t qclass = 0;
  bool edns = false;
  bool dnssec_ok = false;
  uint16_t udp_bytes = kPlainUdpBytes;  // what the client takes over UDP
  std::string question;                 // the question section as it came, for the response
};

// A message that is a query with one question. What is to be answered otherwise is in rcode;
// without a value there is nothing to be answered at all (shorter than a header, or itself a
// response).
struct ParsedQuery {
  Query query;
  Rcode rcode = Rcode::kNoError;
};
std::optional<ParsedQuery> ParseQuery(std::string_view message);

struct Record {
  Name name;
  uint16_t type = 0;
  uint32_t ttl = 0;
  std::string data;  // names in it are not compressed
};
Record AddressRecord(NameView name, const net::IpAddress& address, uint32_t ttl);
// CNAME, PTR, NS.
Record NameRecord(NameView name, uint16_t type, NameView target, uint32_t ttl);
Record SrvRecord(NameView name, uint16_t port, uint16_t weight, NameView target, uint32_t ttl);
Record TextRecord(NameView name, std::string_view text, uint32_t ttl);
Record SoaRecord(NameView zone, uint32_t serial, uint32_t ttl);

struct Answer {
  Rcode rcode = Rcode::kNoError;
  bool authoritative = true;
  std::vector<Record> answers, authority, additional;
  // The first so many answers are addresses that take turns in being first.
  size_t in_turn = 0;
};

// The response to a query, of at most max_bytes. Names of records are compressed against the
// question and one another. What does not fit is left out: additional records in silence, others
// with the TC bit, after which the client asks again over TCP.
std::string WriteResponse(const Query& query, const Answer& answer, size_t max_bytes);
// The same for messages of which no more than the header is understood.
std::string WriteError(std::string_view message, Rcode rcode);

// A response of another server.
struct Response {
  uint16_t id = 0;
  Rcode rcode = Rcode::kNoError;
  bool truncated = false;
  Name name;  // of its question
  uint16_t type = 0;
  std::vector<Record> answers, authority, additional;  // without OPT
};
// Nothing for what is no well-formed response to one question of class IN.
std::optional<Response> ParseResponse(std::string_view message);
// A query for another server, with EDNS.
std::string WriteQuery(uint16_t id, NameView name, uint16_t type, bool dnssec_ok,
                       bool checking_disabled);

}  // namespace skiff::agent::dns

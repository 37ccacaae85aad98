// Rules of nftables, written as a body of typed steps:
//
//   Rule{"prerouting", Body().In(Source::Address(kV4, End::kSource), pods)
//                            .InSet({Source::L4Protocol(), Source::Port()}, "open-ports")
//                            .Decide(Verdict::Accept())}
//
// The kernel gives a rule sixteen registers of four bytes ("slots" here), which are empty at its
// start. Matches that need no slot afterwards use the upper ones; steps that hand a value on name
// the slot where it lies. A match that does not hold ends the rule, and the next one is tried.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "base/net/nft_types.h"

namespace skiff::net::nft {

using Slot = uint8_t;
inline constexpr Slot kSlots = 16;

enum class End : uint8_t { kSource, kDestination };
enum class PacketFact : uint8_t { kProtocolFamily, kL4Protocol, kMark, kInName, kOutName };

// The states of a connection, to be or-ed.
inline constexpr uint32_t kStateInvalid = 1, kStateEstablished = 2, kStateRelated = 4,
                          kStateNew = 8, kStateUntracked = 64;
inline constexpr uint32_t kStatusSnat = 16;   // IPS_SRC_NAT
inline constexpr uint32_t kStatusDnat = 32;   // IPS_DST_NAT
inline constexpr uint32_t kAddressLocal = 2;  // RTN_LOCAL

// Where a value comes from.
struct Source {
  struct Payload {  // of the packet, behind the start of a header
    bool transport = false;
    uint8_t offset = 0, length = 0;
    bool operator==(const Payload&) const = default;
  };
  struct Meta {
    PacketFact fact{};
    bool operator==(const Meta&) const = default;
  };
  struct CtState {  // of the packet's connection: kState...
    bool operator==(const CtState&) const = default;
  };
  struct CtStatus {  // kStatus...
    bool operator==(const CtStatus&) const = default;
  };
  struct CtOriginal {  // of the connection's first packet, before any translation
    End end{};
    IpFamily family{};
    bool port = false;
    bool operator==(const CtOriginal&) const = default;
  };
  struct RouteType {  // of an address of the packet: kAddressLocal
    End end{};
    bool operator==(const RouteType&) const = default;
  };
  struct Random {  // offset .. offset + modulus - 1, each as likely
    uint32_t modulus = 1, offset = 0;
    bool operator==(const Random&) const = default;
  };
  struct Constant {
    Bytes value;
    bool operator==(const Constant&) const = default;
  };
  std::variant<Payload, Meta, CtState, CtStatus, CtOriginal, RouteType, Random, Constant> value;
  bool operator==(const Source&) const = default;

  static Source Address(IpFamily family, End end);
  // Of TCP, UDP and SCTP alike.
  static Source Port(End end = End::kDestination) {
    return {Payload{true, uint8_t(end == End::kSource ? 0 : 2), 2}};
  }
  static Source L4Protocol() { return {Meta{PacketFact::kL4Protocol}}; }
  // kNfIp4 or kNfIp6: what the packet is, in tables of Family::kInet.
  static Source ProtocolFamily() { return {Meta{PacketFact::kProtocolFamily}}; }
  static Source Mark() { return {Meta{PacketFact::kMark}}; }
  static Source InName() { return {Meta{PacketFact::kInName}}; }
  static Source OutName() { return {Meta{PacketFact::kOutName}}; }
  static Source Of(Bytes value) { return {Constant{std::move(value)}}; }
  size_t size() const;  // in bytes
  Slot slots() const { return static_cast<Slot>((size() + 3) / 4); }
};
inline constexpr uint8_t kNfIp4 = 2, kNfIp6 = 10;  // NFPROTO_IPV4, NFPROTO_IPV6

// The steps. Body writes them; the encoder and FakeNft read them.
struct Load {
  Slot slot = 0;
  Source source;
  bool operator==(const Load&) const = default;
};
struct Bitwise {  // in place: (value & mask) ^ flip
  Slot slot = 0;
  Bytes mask, flip;
  bool operator==(const Bitwise&) const = default;
};
struct Compare {
  Slot slot = 0;
  bool equal = true;
  Bytes value;
  bool operator==(const Compare&) const = default;
};
struct Between {  // from <= value <= to, as bytes in network order
  Slot slot = 0;
  bool inside = true;
  Bytes from, to;
  bool operator==(const Between&) const = default;
};
struct Lookup {
  Slot key = 0;
  std::string set;
  bool invert = false;
  std::optional<Slot> into;  // a map's data
  bool dispatch = false;     // a verdict map: carries its verdict out
  bool operator==(const Lookup&) const = default;
};
struct UpdateSet {
  enum class Operation : uint8_t { kAdd, kUpdate, kDelete };  // kUpdate: renews the timeout too
  Operation operation = Operation::kUpdate;
  std::string set;
  Slot key = 0;
  std::optional<Slot> data;
  std::chrono::milliseconds timeout{0};
  bool operator==(const UpdateSet&) const = default;
};
struct StoreMark {
  Slot slot = 0;
  bool operator==(const StoreMark&) const = default;
};
struct Decision {
  Verdict verdict;
  bool operator==(const Decision&) const = default;
};
struct Dnat {
  IpFamily family{};
  Slot address = 0;
  std::optional<Slot> port;
  bool operator==(const Dnat&) const = default;
};
struct Masquerade {  // with a random port, so that two nodes' choices do not collide
  bool operator==(const Masquerade&) const = default;
};
struct Reject {  // with "port unreachable" of the packet's family, or a TCP reset
  bool tcp_reset = false;
  bool operator==(const Reject&) const = default;
};
struct Counter {
  bool operator==(const Counter&) const = default;
};
struct Notrack {
  bool operator==(const Notrack&) const = default;
};
using Step = std::variant<Load, Bitwise, Compare, Between, Lookup, UpdateSet, StoreMark, Decision,
                          Dnat, Masquerade, Reject, Counter, Notrack>;

class Body {
 public:
  // Matches; they use the slots from kScratch on.
  static constexpr Slot kScratch = 10;
  Body& Is(const Source& source, Bytes value) { return Match(source, true, std::move(value)); }
  Body& IsNot(const Source& source, Bytes value) { return Match(source, false, std::move(value)); }
  // Some of the bits are set (of four-byte values: CtState, CtStatus, Mark).
  Body& HasAny(const Source& source, uint32_t bits);
  Body& HasNone(const Source& source, uint32_t bits);
  // The packet's address is in the prefix, or not.
  Body& In(End end, const IpPrefix& prefix, bool inside = true);
  // Network order: ports, addresses.
  Body& InRange(const Source& source, Bytes from, Bytes to, bool inside = true);
  // The fields together are in the set. first: the slot of the first field.
  Body& InSet(const std::vector<Source>& fields, std::string set, bool inside = true,
              Slot first = 0);

  // Loads the fields into slots, one behind the other.
  Body& Load(Slot first, const std::vector<Source>& fields);
  Body& Mask(Slot slot, Bytes mask);
  // A key that was loaded: its data goes to a slot; its verdict is carried out; it is in the set.
  // The rule ends where the key is not there.
  Body& Map(Slot key, std::string map, Slot into);
  Body& Dispatch(Slot key, std::string verdict_map);
  Body& Find(Slot key, std::string set, bool inside = true);
  Body& Update(UpdateSet update) { return Then(std::move(update)); }

  Body& SetMarkBits(uint32_t bits);
  Body& ClearMarkBits(uint32_t bits);
  Body& Decide(Verdict verdict) { return Then(Decision{std::move(verdict)}); }
  Body& Then(Step step) {
    steps_.push_back(std::move(step));
    return *this;
  }

  const std::vector<Step>& steps() const { return steps_; }
  bool operator==(const Body&) const = default;

 private:
  Body& Match(const Source& source, bool equal, Bytes value);
  std::vector<Step> steps_;
};

struct Rule {
  std::string chain;
  Body body;
  std::string comment;  // for readers of "nft list"; at most 127 bytes are kept
  bool operator==(const Rule&) const = default;
};

// The bits of an address that a prefix fixes.
Bytes PrefixMask(const IpPrefix& prefix);

// The names that the rule refers to: chains of its verdict, sets of its steps.
std::vector<std::string> ChainsOf(const Rule& rule);
std::vector<std::string> SetsOf(const Rule& rule);
// "payload", "lookup": what the kernel calls each step, in order.
std::vector<std::string> ExpressionNames(const Rule& rule);

}  // namespace skiff::net::nft

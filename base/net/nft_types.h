// What an nftables ruleset is made of, besides rules (base/net/nft_rule.h): values without I/O.
//
// Names follow nft(8). Keys and data of sets are concatenations of typed fields, each padded to
// four bytes, as the kernel's registers hold them; Key writes them.
#pragma once

#include <chrono>
#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/net/ip.h"

namespace skiff::net::nft {

// Bytes in the kernel's order; std::string because most fit without an allocation.
using Bytes = std::string;

enum class Family : uint8_t { kIp4, kIp6, kInet };
constexpr Family FamilyOf(IpFamily family) {
  return family == IpFamily::kV4 ? Family::kIp4 : Family::kIp6;
}

// A table is named by both.
struct Table {
  Family family = Family::kInet;
  std::string name;
  auto operator<=>(const Table&) const = default;
  // "ip skiff-proxy".
  std::string ToString() const;
};

enum class Hook : uint8_t { kPrerouting, kInput, kForward, kOutput, kPostrouting };
enum class ChainType : uint8_t { kFilter, kNat };

// Priorities of the kernel's own (linux/netfilter_ipv4.h); chains of one hook run in their order.
inline constexpr int kPriorityRaw = -300;
inline constexpr int kPriorityMangle = -150;
inline constexpr int kPriorityDstNat = -100;
inline constexpr int kPriorityFilter = 0;
inline constexpr int kPrioritySrcNat = 100;

struct BaseChain {
  ChainType type = ChainType::kFilter;
  Hook hook = Hook::kForward;
  int priority = kPriorityFilter;
  bool drop = false;  // the policy: what happens to packets that no rule decides
  bool operator==(const BaseChain&) const = default;
};

struct Chain {
  std::string name;
  std::optional<BaseChain> base;  // none: rules get here by jump, goto or a verdict map only
  bool operator==(const Chain&) const = default;
};

struct Verdict {
  enum class Kind : uint8_t { kAccept, kDrop, kContinue, kReturn, kJump, kGoto };
  Kind kind = Kind::kContinue;
  std::string chain;  // of kJump and kGoto

  static Verdict Accept() { return {Kind::kAccept, ""}; }
  static Verdict Drop() { return {Kind::kDrop, ""}; }
  static Verdict Return() { return {Kind::kReturn, ""}; }
  static Verdict Jump(std::string chain) { return {Kind::kJump, std::move(chain)}; }
  static Verdict Goto(std::string chain) { return {Kind::kGoto, std::move(chain)}; }
  bool operator==(const Verdict&) const = default;
  // "goto services".
  std::string ToString() const;
};

// The types of fields, for their sizes and so that "nft list" prints them.
enum class Type : uint8_t { kIp4, kIp6, kProtocol, kPort, kMark, kInterface, kVerdict };
constexpr Type AddressType(IpFamily family) {
  return family == IpFamily::kV4 ? Type::kIp4 : Type::kIp6;
}
size_t SizeOf(Type type);  // in bytes, unpadded

// Writes concatenated fields.
class Key {
 public:
  Key& Add(const IpAddress& address);
  Key& Protocol(uint8_t protocol);  // IP protocol number
  Key& Port(uint16_t port);         // host order
  Key& Mark(uint32_t mark);         // and every other number of four bytes
  Key& Interface(std::string_view name);
  const Bytes& bytes() const { return bytes_; }
  operator const Bytes&() const { return bytes_; }  // NOLINT implicit: a Key is its bytes

 private:
  void Pad();
  Bytes bytes_;
};

// A set, a map (data is not empty) or a verdict map (data is {kVerdict}).
struct Set {
  std::string name;
  std::vector<Type> key;  // at most 5 fields if nft(8) is to list it
  std::vector<Type> data;
  bool interval = false;  // elements are ranges, Element::key_end included
  bool dynamic = false;   // rules may add to it (Body::Update)
  bool timeouts = false;  // elements may have timeouts
  uint32_t size = 0;      // most elements; 0: no bound, which is faster to grow than a bound

  bool is_map() const { return !data.empty(); }
  bool is_verdict_map() const { return data.size() == 1 && data[0] == Type::kVerdict; }
  size_t key_size() const;   // padded
  size_t data_size() const;  // padded; 0 for sets and verdict maps
  bool operator==(const Set&) const = default;
};

struct Element {
  Bytes key;
  Bytes key_end;  // of interval sets: the last key, field by field; empty: just the key
  Bytes data;     // of maps
  std::optional<Verdict> verdict;        // of verdict maps
  std::chrono::milliseconds timeout{0};  // 0: stays
  std::string comment;                   // for readers of "nft list"; at most 127 bytes are kept
  bool operator==(const Element&) const = default;
};

}  // namespace skiff::net::nft

#include "base/net/nft_rule.h"

#include <algorithm>
#include <cstring>

#include "base/result.h"

namespace skiff::net::nft {
namespace {

constexpr size_t kInterfaceNameSize = 16;  // IFNAMSIZ

Bytes MarkBytes(uint32_t value) { return Key().Mark(value).bytes(); }

size_t Padded(const std::vector<Type>& fields) {
  size_t size = 0;
  for (Type field : fields) size += (SizeOf(field) + 3) / 4 * 4;
  return size;
}

const char* NameOfStep(const Step& step) {
  struct Namer {
    const char* operator()(const Load& load) {
      struct SourceNamer {
        const char* operator()(const Source::Payload&) { return "payload"; }
        const char* operator()(const Source::Meta&) { return "meta"; }
        const char* operator()(const Source::CtState&) { return "ct"; }
        const char* operator()(const Source::CtStatus&) { return "ct"; }
        const char* operator()(const Source::CtOriginal&) { return "ct"; }
        const char* operator()(const Source::RouteType&) { return "fib"; }
        const char* operator()(const Source::Random&) { return "numgen"; }
        const char* operator()(const Source::Constant&) { return "immediate"; }
      };
      return std::visit(SourceNamer(), load.source.value);
    }
    const char* operator()(const Bitwise&) { return "bitwise"; }
    const char* operator()(const Compare&) { return "cmp"; }
    const char* operator()(const Between&) { return "range"; }
    const char* operator()(const Lookup&) { return "lookup"; }
    const char* operator()(const UpdateSet&) { return "dynset"; }
    const char* operator()(const StoreMark&) { return "meta"; }
    const char* operator()(const Decision&) { return "immediate"; }
    const char* operator()(const Dnat&) { return "nat"; }
    const char* operator()(const Masquerade&) { return "masq"; }
    const char* operator()(const Reject&) { return "reject"; }
    const char* operator()(const Counter&) { return "counter"; }
    const char* operator()(const Notrack&) { return "notrack"; }
  };
  return std::visit(Namer(), step);
}

}  // namespace

std::string Table::ToString() const {
  return (family == Family::kIp4 ? "ip " : family == Family::kIp6 ? "ip6 " : "inet ") + name;
}

std::string Verdict::ToString() const {
  switch (kind) {
    case Kind::kAccept: return "accept";
    case Kind::kDrop: return "drop";
    case Kind::kContinue: return "continue";
    case Kind::kReturn: return "return";
    case Kind::kJump: return "jump " + chain;
    case Kind::kGoto: return "goto " + chain;
  }
  return "";
}

size_t SizeOf(Type type) {
  switch (type) {
    case Type::kIp4: return 4;
    case Type::kIp6: return 16;
    case Type::kProtocol: return 1;
    case Type::kPort: return 2;
    case Type::kMark: return 4;
    case Type::kInterface: return kInterfaceNameSize;
    case Type::kVerdict: return 0;
  }
  return 0;
}

void Key::Pad() { bytes_.resize((bytes_.size() + 3) / 4 * 4); }

Key& Key::Add(const IpAddress& address) {
  bytes_.append(reinterpret_cast<const char*>(address.bytes()), address.size());
  return *this;
}

Key& Key::Protocol(uint8_t protocol) {
  bytes_.push_back(static_cast<char>(protocol));
  Pad();
  return *this;
}

Key& Key::Port(uint16_t port) {
  bytes_.push_back(static_cast<char>(port >> 8));
  bytes_.push_back(static_cast<char>(port));
  Pad();
  return *this;
}

Key& Key::Mark(uint32_t mark) {
  bytes_.append(reinterpret_cast<const char*>(&mark), sizeof mark);
  return *this;
}

Key& Key::Interface(std::string_view name) {
  CHECK(name.size() < kInterfaceNameSize);
  bytes_.append(name).append(kInterfaceNameSize - name.size(), '\0');
  return *this;
}

size_t Set::key_size() const { return Padded(key); }
size_t Set::data_size() const { return Padded(data); }

Source Source::Address(IpFamily family, End end) {
  bool source = end == End::kSource;
  // struct iphdr and struct ip6_hdr.
  if (family == IpFamily::kV4) return {Payload{false, uint8_t(source ? 12 : 16), 4}};
  return {Payload{false, uint8_t(source ? 8 : 24), 16}};
}

size_t Source::size() const {
  struct Sizer {
    size_t operator()(const Payload& payload) { return payload.length; }
    size_t operator()(const Meta& meta) {
      switch (meta.fact) {
        case PacketFact::kProtocolFamily:
        case PacketFact::kL4Protocol: return 1;
        case PacketFact::kMark: return 4;
        case PacketFact::kInName:
        case PacketFact::kOutName: return kInterfaceNameSize;
      }
      return 0;
    }
    size_t operator()(const CtState&) { return 4; }
    size_t operator()(const CtStatus&) { return 4; }
    size_t operator()(const CtOriginal& from) {
      return from.port ? 2 : from.family == IpFamily::kV4 ? 4 : 16;
    }
    size_t operator()(const RouteType&) { return 4; }
    size_t operator()(const Random&) { return 4; }
    size_t operator()(const Constant& constant) { return constant.value.size(); }
  };
  return std::visit(Sizer(), value);
}

Body& Body::Load(Slot first, const std::vector<Source>& fields) {
  for (const Source& field : fields) {
    CHECK(first + field.slots() <= kSlots);
    Then(nft::Load{first, field});
    first = static_cast<Slot>(first + field.slots());
  }
  return *this;
}

Body& Body::Match(const Source& source, bool equal, Bytes value) {
  // A key's padding is no part of a single value.
  value.resize(source.size());
  return Load(kScratch, {source}).Then(Compare{kScratch, equal, std::move(value)});
}

Body& Body::HasAny(const Source& source, uint32_t bits) {
  return Load(kScratch, {source})
      .Mask(kScratch, MarkBytes(bits))
      .Then(Compare{kScratch, false, MarkBytes(0)});
}

Body& Body::HasNone(const Source& source, uint32_t bits) {
  return Load(kScratch, {source})
      .Mask(kScratch, MarkBytes(bits))
      .Then(Compare{kScratch, true, MarkBytes(0)});
}

Body& Body::In(End end, const IpPrefix& prefix, bool inside) {
  Load(kScratch, {Source::Address(prefix.family(), end)});
  Bytes value = Key().Add(prefix.first()).bytes();
  if (prefix.length() < prefix.first().bits()) Mask(kScratch, PrefixMask(prefix));
  return Then(Compare{kScratch, inside, std::move(value)});
}

Body& Body::InRange(const Source& source, Bytes from, Bytes to, bool inside) {
  from.resize(source.size());
  to.resize(source.size());
  return Load(kScratch, {source}).Then(Between{kScratch, inside, std::move(from), std::move(to)});
}

Body& Body::InSet(const std::vector<Source>& fields, std::string set, bool inside, Slot first) {
  return Load(first, fields).Find(first, std::move(set), inside);
}

Body& Body::Mask(Slot slot, Bytes mask) {
  Bytes flip(mask.size(), '\0');
  return Then(Bitwise{slot, std::move(mask), std::move(flip)});
}

Body& Body::Map(Slot key, std::string map, Slot into) {
  return Then(Lookup{.key = key, .set = std::move(map), .into = into});
}

Body& Body::Dispatch(Slot key, std::string verdict_map) {
  return Then(Lookup{.key = key, .set = std::move(verdict_map), .dispatch = true});
}

Body& Body::Find(Slot key, std::string set, bool inside) {
  return Then(Lookup{.key = key, .set = std::move(set), .invert = !inside});
}

Body& Body::SetMarkBits(uint32_t bits) {
  return Load(kScratch, {Source::Mark()})
      .Then(Bitwise{kScratch, MarkBytes(~bits), MarkBytes(bits)})
      .Then(StoreMark{kScratch});
}

Body& Body::ClearMarkBits(uint32_t bits) {
  return Load(kScratch, {Source::Mark()})
      .Mask(kScratch, MarkBytes(~bits))
      .Then(StoreMark{kScratch});
}

Bytes PrefixMask(const IpPrefix& prefix) {
  Bytes mask(prefix.first().size(), '\0');
  for (int bit = 0; bit < prefix.length(); ++bit) {
    auto& byte = mask[static_cast<size_t>(bit) / 8];
    byte = static_cast<char>(byte | (0x80 >> bit % 8));
  }
  return mask;
}

std::vector<std::string> ChainsOf(const Rule& rule) {
  std::vector<std::string> chains;
  for (const Step& step : rule.body.steps()) {
    const auto* decision = std::get_if<Decision>(&step);
    if (decision != nullptr && !decision->verdict.chain.empty()) {
      chains.push_back(decision->verdict.chain);
    }
  }
  return chains;
}

std::vector<std::string> SetsOf(const Rule& rule) {
  std::vector<std::string> sets;
  for (const Step& step : rule.body.steps()) {
    if (const auto* lookup = std::get_if<Lookup>(&step)) sets.push_back(lookup->set);
    if (const auto* update = std::get_if<UpdateSet>(&step)) sets.push_back(update->set);
  }
  return sets;
}

std::vector<std::string> ExpressionNames(const Rule& rule) {
  std::vector<std::string> names;
  for (const Step& step : rule.body.steps()) names.push_back(NameOfStep(step));
  return names;
}

}  // namespace skiff::net::nft

// A packet's way through the rules as FakeNft holds them, for unit tests: the few steps that
// policies are made of, carried out as the kernel does.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "agent/policy/plan.h"
#include "base/net/fake_nft.h"

namespace skiff::agent::policy {

struct Packet {
  net::IpAddress source, destination;
  uint8_t protocol = 6;
  uint16_t port = 0;
  bool established = false;
  uint8_t icmp_type = 0;
};

class PacketWalk {
 public:
  PacketWalk(net::FakeNft& nft, const Packet& packet)
      : nft_(nft), packet_(packet), table_(TableOf(packet.source.family())) {}

  // Whether all base chains of the hook let the packet pass.
  bool Passes(net::nft::Hook hook) {
    for (const net::nft::Chain& chain : BaseChains()) {
      if (chain.base->hook != hook) continue;
      if (Run(chain.name) == Outcome::kDrop) return false;
    }
    return true;
  }

 private:
  enum class Outcome { kAccept, kDrop, kReturn };

  Outcome Run(const std::string& chain) {
    for (const net::nft::Rule& rule : nft_.Rules(table_, chain)) {
      std::map<net::nft::Slot, net::nft::Bytes> slots;
      std::optional<net::nft::Verdict> verdict;
      bool goes_on = true;
      for (const net::nft::Step& step : rule.body.steps()) {
        goes_on = std::visit([&](const auto& s) { return Do(s, &slots, &verdict); }, step);
        if (!goes_on || verdict) break;
      }
      if (!goes_on || !verdict) continue;
      if (verdict->kind == net::nft::Verdict::Kind::kAccept) return Outcome::kAccept;
      if (verdict->kind == net::nft::Verdict::Kind::kDrop) return Outcome::kDrop;
      Outcome outcome = Run(verdict->chain);
      if (outcome != Outcome::kReturn) return outcome;
    }
    return Outcome::kReturn;
  }

  using Slots = std::map<net::nft::Slot, net::nft::Bytes>;
  using Decided = std::optional<net::nft::Verdict>;

  net::nft::Bytes Value(const net::nft::Source& source) const {
    using S = net::nft::Source;
    auto bytes_of = [](const net::IpAddress& address) {
      return net::nft::Bytes(reinterpret_cast<const char*>(address.bytes()), address.size());
    };
    if (const auto* payload = std::get_if<S::Payload>(&source.value)) {
      if (payload->transport && payload->length == 1) return {static_cast<char>(packet_.icmp_type)};
      if (payload->transport) {
        return {static_cast<char>(packet_.port >> 8), static_cast<char>(packet_.port)};
      }
      bool is_source = payload->offset == (packet_.source.is_v4() ? 12 : 8);
      return bytes_of(is_source ? packet_.source : packet_.destination);
    }
    if (std::holds_alternative<S::CtState>(source.value)) {
      uint32_t state = packet_.established ? net::nft::kStateEstablished : net::nft::kStateNew;
      return net::nft::Key().Mark(state);
    }
    return {static_cast<char>(packet_.protocol)};  // the only other fact that policies ask for
  }

  bool Do(const net::nft::Load& load, Slots* slots, Decided*) {
    net::nft::Bytes value = Value(load.source);
    value.resize((value.size() + 3) / 4 * 4);
    // Fields that lie behind one another are read as one key.
    (*slots)[load.slot] = value;
    return true;
  }
  static net::nft::Bytes From(const Slots& slots, net::nft::Slot first) {
    net::nft::Bytes all;
    for (auto it = slots.lower_bound(first); it != slots.end(); ++it) {
      if (it->first != first + all.size() / 4) break;
      all += it->second;
    }
    return all;
  }
  bool Do(const net::nft::Bitwise& step, Slots* slots, Decided*) {
    net::nft::Bytes& value = (*slots)[step.slot];
    for (size_t i = 0; i < step.mask.size() && i < value.size(); ++i) {
      char flip = i < step.flip.size() ? step.flip[i] : '\0';
      value[i] = static_cast<char>((value[i] & step.mask[i]) ^ flip);
    }
    return true;
  }
  bool Do(const net::nft::Compare& step, Slots* slots, Decided*) {
    return ((*slots)[step.slot].substr(0, step.value.size()) == step.value) == step.equal;
  }
  bool Do(const net::nft::Between& step, Slots* slots, Decided*) {
    net::nft::Bytes value = (*slots)[step.slot].substr(0, step.from.size());
    auto less = [](const net::nft::Bytes& a, const net::nft::Bytes& b) {
      return std::lexicographical_compare(
          a.begin(), a.end(), b.begin(), b.end(),
          [](char x, char y) { return static_cast<uint8_t>(x) < static_cast<uint8_t>(y); });
    };
    return (!less(value, step.from) && !less(step.to, value)) == step.inside;
  }
  bool Do(const net::nft::Lookup& step, Slots* slots, Decided* verdict) {
    auto elements = nft_.ListElements(table_, step.set);
    EXPECT_TRUE(elements.ok()) << step.set;
    net::nft::Bytes wanted = From(*slots, step.key);
    for (const net::nft::Element& element : *elements) {
      net::nft::Bytes key = wanted.substr(0, element.key.size());
      // std::string compares characters as unsigned.
      bool found = element.key_end.empty() ? key == element.key
                                           : element.key <= key && key <= element.key_end;
      if (!found) continue;
      if (step.dispatch) *verdict = element.verdict;
      return !step.invert;
    }
    return step.invert;
  }
  bool Do(const net::nft::Decision& step, Slots*, Decided* verdict) {
    *verdict = step.verdict;
    return true;
  }
  bool Do(const net::nft::Counter&, Slots*, Decided*) { return true; }
  template <class Other>
  bool Do(const Other&, Slots*, Decided*) {
    ADD_FAILURE() << "a step that policies do not use";
    return false;
  }

  net::FakeNft& nft_;
  const Packet packet_;
  const net::nft::Table table_;
};

}  // namespace skiff::agent::policy

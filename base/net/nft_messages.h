// Nftables transactions as netlink messages, and messages as values. For base/net/nft.cc.
#pragma once

#include <linux/netlink.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/net/nft.h"

namespace skiff::net::nft {

uint16_t FamilyNumber(Family family);  // NFPROTO_...

// A batch: everything between NFNL_MSG_BATCH_BEGIN and NFNL_MSG_BATCH_END.
class BatchWriter {
 public:
  explicit BatchWriter(uint32_t first_sequence);
  // InvalidArgument: a name that is too long. The transaction must live as long as the writer.
  Result<> Add(const Transaction& transaction);
  void Finish();

  const std::string& bytes() const { return bytes_; }
  // What the message with this sequence number was about: "add chain ip t services".
  std::string Describe(uint32_t sequence) const;

 private:
  struct Sent {
    uint32_t sequence = 0;
    const Table* table = nullptr;
    const Transaction::Operation* operation = nullptr;
    size_t first_element = 0;
  };
  struct Writer;
  nlmsghdr* Start(uint16_t type, uint16_t flags, size_t first_element = 0);
  void Send(nlmsghdr* header);
  void WriteSet(const Set& set);
  void WriteElements(const Set& set, const std::vector<Element>& elements, bool add);

  std::vector<char> staging_;  // one message
  std::string bytes_;
  std::vector<Sent> sent_;
  uint32_t sequence_;
  uint32_t set_ids_ = 0;
  const Table* table_ = nullptr;
  const Transaction::Operation* operation_ = nullptr;
};

// What an answer says; nothing where it is about another table or of a kind that is not ours.
std::optional<Chain> ParseChain(const nlmsghdr* header, const Table& table);
std::optional<Set> ParseSet(const nlmsghdr* header, const Table& table);
std::optional<RuleInfo> ParseRule(const nlmsghdr* header, const Table& table);
// As they lie in the kernel: a range of single fields is two elements there.
struct KernelElement {
  Element element;
  bool interval_end = false;
};
void ParseElements(const nlmsghdr* header, std::vector<KernelElement>& elements);
// The elements of a set as they were added, sorted.
std::vector<Element> JoinElements(const Set& set, std::vector<KernelElement> elements);

}  // namespace skiff::net::nft

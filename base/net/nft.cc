#include "base/net/nft.h"

#include <libmnl/libmnl.h>
#include <libnftnl/chain.h>
#include <libnftnl/common.h>
#include <libnftnl/rule.h>
#include <libnftnl/set.h>
#include <libnftnl/table.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <functional>
#include <mutex>
#include <optional>

#include "base/net/netlink.h"
#include "base/net/netns.h"
#include "base/net/nft_messages.h"
#include "base/net/nft_watch.h"
#include "base/net/nft_wire.h"

namespace skiff::net {
namespace nft {
namespace {

constexpr size_t kAnswerSize = 64 * 1024;  // the kernel fills up to 32 KiB a datagram
constexpr int kNftListingTries = 10;
constexpr int kDeadlineSeconds = 10;
constexpr uint32_t kSequence = 1;  // no answer is left over when the next request is sent

struct SocketCloser {
  void operator()(mnl_socket* socket) const { mnl_socket_close(socket); }
};
using Socket = std::unique_ptr<mnl_socket, SocketCloser>;

Result<Socket> OpenSocket() {
  Socket socket(mnl_socket_open2(NETLINK_NETFILTER, SOCK_CLOEXEC));
  if (socket == nullptr) return Error::Sys(errno, "open netlink socket", "nftables");
  if (mnl_socket_bind(socket.get(), 0, MNL_SOCKET_AUTOPID) != 0) {
    return Error::Sys(errno, "bind netlink socket", "nftables");
  }
  timeval timeout{.tv_sec = kDeadlineSeconds, .tv_usec = 0};
  (void)setsockopt(mnl_socket_get_fd(socket.get()), SOL_SOCKET, SO_RCVTIMEO, &timeout,
                   sizeof timeout);
  int on = 1;
  // Errors without a copy of the request, and with words.
  (void)mnl_socket_setsockopt(socket.get(), NETLINK_CAP_ACK, &on, sizeof on);
  (void)mnl_socket_setsockopt(socket.get(), NETLINK_EXT_ACK, &on, sizeof on);
  return socket;
}

// The words beside an errno, or "".
std::string Explanation(const nlmsghdr* header) {
  std::string text;
  if ((header->nlmsg_flags & NLM_F_ACK_TLVS) == 0) return text;
  mnl_attr_parse(
      header, sizeof(nlmsgerr),
      [](const nlattr* attribute, void* into) {
        if (mnl_attr_get_type(attribute) == NLMSGERR_ATTR_MSG) {
          *static_cast<std::string*>(into) = mnl_attr_get_str(attribute);
        }
        return MNL_CB_OK;
      },
      &text);
  return text;
}

// The kernel has carried the batch out, or not, when sendto returns; answers are there already, and
// there are none where all went well.
Result<> ReadVerdict(const Socket& socket, const BatchWriter& batch) {
  std::vector<char> buffer(kAnswerSize);
  Result<> first;
  for (;;) {
    ssize_t size =
        recv(mnl_socket_get_fd(socket.get()), buffer.data(), buffer.size(), MSG_DONTWAIT);
    if (size < 0 && errno == EINTR) continue;
    if (size < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return first;
    if (size < 0) {
      // ENOBUFS: more errors than fit, of which the first are here.
      if (first.ok()) first = Error::Sys(errno, "nftables", "receive");
      if (errno == ENOBUFS) continue;
      return first;
    }
    int left = static_cast<int>(size);
    for (auto* header = reinterpret_cast<const nlmsghdr*>(buffer.data());
         mnl_nlmsg_ok(header, left); header = mnl_nlmsg_next(header, &left)) {
      if (header->nlmsg_type != NLMSG_ERROR ||
          mnl_nlmsg_get_payload_len(header) < sizeof(nlmsgerr)) {
        continue;
      }
      const auto* error = static_cast<const nlmsgerr*>(mnl_nlmsg_get_payload(header));
      if (error->error == 0 || !first.ok()) continue;
      first = Error::Sys(-error->error, batch.Describe(header->nlmsg_seq), Explanation(header));
    }
  }
}

Result<> Send(const Socket& socket, const BatchWriter& batch) {
  TRY(ReachNetlink("nftables"));
  int fd = mnl_socket_get_fd(socket.get());
  // A batch is one datagram; the bound on the sender's buffer is what limits its size.
  int wanted = static_cast<int>(std::min<size_t>(batch.bytes().size() + 4096, 1 << 30));
  if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &wanted, sizeof wanted) != 0) {
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &wanted, sizeof wanted);
  }
  while (mnl_socket_sendto(socket.get(), batch.bytes().data(), batch.bytes().size()) < 0) {
    if (errno == EINTR) continue;
    return Error::Sys(
        errno, "nftables: send a batch of " + std::to_string(batch.bytes().size()) + " bytes");
  }
  return ReadVerdict(socket, batch);
}

// False: the listing was interrupted by a change, or did not fit.
Result<bool> AskOnce(const nlmsghdr* request, const std::string& what,
                     const std::function<void(const nlmsghdr*)>& each) {
  Socket socket = TRY(OpenSocket());
  if (mnl_socket_sendto(socket.get(), request, request->nlmsg_len) < 0) {
    return Error::Sys(errno, what, "send");
  }
  std::vector<char> buffer(kAnswerSize);
  bool consistent = true;
  for (;;) {
    ssize_t size = mnl_socket_recvfrom(socket.get(), buffer.data(), buffer.size());
    if (size < 0 && errno == EINTR) continue;
    if (size < 0 && errno == ENOBUFS) return false;
    if (size < 0) return Error::Sys(errno, what, "receive");
    int left = static_cast<int>(size);
    for (auto* header = reinterpret_cast<const nlmsghdr*>(buffer.data());
         mnl_nlmsg_ok(header, left); header = mnl_nlmsg_next(header, &left)) {
      if (header->nlmsg_seq != kSequence) continue;
      if ((header->nlmsg_flags & NLM_F_DUMP_INTR) != 0) consistent = false;
      if (header->nlmsg_type == NLMSG_DONE || header->nlmsg_type == NLMSG_ERROR) {
        int error = mnl_nlmsg_get_payload_len(header) >= sizeof(int)
                        ? -*static_cast<const int*>(mnl_nlmsg_get_payload(header))
                        : 0;
        if (error == EINTR) return false;
        if (error > 0) return Error::Sys(error, what);
        return consistent;
      }
      each(header);
    }
  }
}

Result<> Ask(const nlmsghdr* request, const std::string& what, const std::function<void()>& reset,
             const std::function<void(const nlmsghdr*)>& each) {
  for (int attempt = 0; attempt < kNftListingTries; ++attempt) {
    reset();
    if (TRY(AskOnce(request, what, each))) return {};
  }
  return Error(Code::kUnavailable, what + ": the listing keeps changing");
}

// A request about a table, or about something in it.
class Request {
 public:
  Request(uint16_t type, bool listing, const Table& table) : buffer_(kAnswerSize) {
    header_ = nftnl_nlmsg_build_hdr(buffer_.data(), type, FamilyNumber(table.family),
                                    listing ? NLM_F_DUMP : NLM_F_ACK, kSequence);
  }
  Request& Put(uint16_t attribute, const std::string& value) {
    mnl_attr_put_strz(header_, attribute, value.c_str());
    return *this;
  }
  const nlmsghdr* header() const { return header_; }

 private:
  std::vector<char> buffer_;
  nlmsghdr* header_;
};

template <class T, class Parse>
Result<std::vector<T>> ListAll(const Request& request, const std::string& what, const Table& table,
                               Parse parse) {
  std::vector<T> found;
  TRY(Ask(
      request.header(), what, [&] { found.clear(); },
      [&](const nlmsghdr* header) {
        if (auto parsed = parse(header, table)) found.push_back(*std::move(parsed));
      }));
  return found;
}

}  // namespace
}  // namespace nft

namespace {
constexpr size_t kLargeBatch = 256 << 10;  // bytes: a few thousand elements
}  // namespace

struct SystemNft::KeptSocket {
  std::mutex mutex;
  nft::Socket socket;
  uint64_t netns = 0;  // where it was opened

  // Null: there is none of this namespace, or another thread has it.
  nft::Socket Take(uint64_t wanted) {
    std::lock_guard lock(mutex);
    return netns == wanted ? std::move(socket) : nullptr;
  }
  void Put(uint64_t where, nft::Socket used) {
    std::lock_guard lock(mutex);
    std::swap(socket, used);
    netns = where;
  }
};

SystemNft::SystemNft() : kept_(std::make_unique<KeptSocket>()) {}
SystemNft::~SystemNft() = default;

Result<> Nft::Commit(nft::Transaction transaction) {
  std::vector<nft::Transaction> one;
  one.push_back(std::move(transaction));
  return Commit(one);
}

bool IsNoTable(const Error& error) {
  const int number = error.sys_errno();
  return error.code() == Code::kNotFound || number == ENOENT || number == EOPNOTSUPP ||
         number == EAFNOSUPPORT || number == EPROTONOSUPPORT;
}

Result<> RemoveTable(Nft& nft, const nft::Table& table) {
  Result<> removed = nft.Commit(nft::Transaction(table).DeleteTable());
  if (removed.ok() || IsNoTable(removed.error())) return {};
  return removed;
}

Result<> SystemNft::Commit(const std::vector<nft::Transaction>& transactions) {
  bool empty = true;
  nft::BatchWriter batch(nft::kSequence);
  for (const nft::Transaction& transaction : transactions) {
    empty &= transaction.empty();
    TRY(batch.Add(transaction));
  }
  if (empty) return {};
  batch.Finish();
  const uint64_t netns = TRY(Netns::Current()).id();
  nft::Socket socket = kept_->Take(netns);
  if (socket == nullptr) socket = TRY(nft::OpenSocket());
  std::optional<nft::PausedWatches> paused;
  if (batch.bytes().size() >= kLargeBatch) paused.emplace(netns);
  Result<> committed = nft::Send(socket, batch);
  kept_->Put(netns, std::move(socket));
  return committed;
}

Result<uint64_t> SystemNft::TableHandle(const nft::Table& table) {
  nft::Request request(NFT_MSG_GETTABLE, /*listing=*/false, table);
  request.Put(NFTA_TABLE_NAME, table.name);
  uint64_t handle = 0;
  TRY(nft::Ask(
      request.header(), "nftables table " + table.ToString(), [] {},
      [&](const nlmsghdr* header) {
        auto parsed = nft::Checked(nftnl_table_alloc());
        if (nftnl_table_nlmsg_parse(header, parsed.get()) == 0) {
          handle = nftnl_table_get_u64(parsed.get(), NFTNL_TABLE_HANDLE);
        }
      }));
  return handle;
}

Result<nft::TableInfo> SystemNft::List(const nft::Table& table) {
  const std::string what = "list nftables table " + table.ToString();
  TRY(TableHandle(table));
  nft::TableInfo info;
  nft::Request chains(NFT_MSG_GETCHAIN, /*listing=*/true, table);
  info.chains = TRY(nft::ListAll<nft::Chain>(chains, what, table, nft::ParseChain));
  nft::Request sets(NFT_MSG_GETSET, /*listing=*/true, table);
  sets.Put(NFTA_SET_TABLE, table.name);
  info.sets = TRY(nft::ListAll<nft::Set>(sets, what, table, nft::ParseSet));
  nft::Request rules(NFT_MSG_GETRULE, /*listing=*/true, table);
  rules.Put(NFTA_RULE_TABLE, table.name);
  info.rules = TRY(nft::ListAll<nft::RuleInfo>(rules, what, table, nft::ParseRule));
  auto by_name = [](const auto& a, const auto& b) { return a.name < b.name; };
  std::sort(info.chains.begin(), info.chains.end(), by_name);
  std::sort(info.sets.begin(), info.sets.end(), by_name);
  std::stable_sort(info.rules.begin(), info.rules.end(),
                   [](const auto& a, const auto& b) { return a.chain < b.chain; });
  return info;
}

Result<std::vector<nft::Element>> SystemNft::ListElements(const nft::Table& table,
                                                          const std::string& set) {
  const std::string what = "list elements of nftables set " + table.ToString() + " " + set;
  nft::Request about(NFT_MSG_GETSET, /*listing=*/false, table);
  about.Put(NFTA_SET_TABLE, table.name).Put(NFTA_SET_NAME, set);
  auto declared = TRY(nft::ListAll<nft::Set>(about, what, table, nft::ParseSet));
  if (declared.empty()) return Error(Code::kNotFound, what + ": no such set");
  nft::Request elements(NFT_MSG_GETSETELEM, /*listing=*/true, table);
  elements.Put(NFTA_SET_ELEM_LIST_TABLE, table.name).Put(NFTA_SET_ELEM_LIST_SET, set);
  std::vector<nft::KernelElement> found;
  TRY(nft::Ask(
      elements.header(), what, [&] { found.clear(); },
      [&](const nlmsghdr* header) { nft::ParseElements(header, found); }));
  return nft::JoinElements(declared[0], std::move(found));
}

Result<size_t> SystemNft::CountRules(const nft::Table& table, const std::string& chain) {
  const std::string what = "list nftables chain " + table.ToString() + " " + chain;
  nft::Request about(NFT_MSG_GETCHAIN, /*listing=*/false, table);
  about.Put(NFTA_CHAIN_TABLE, table.name).Put(NFTA_CHAIN_NAME, chain);
  TRY(nft::ListAll<nft::Chain>(about, what, table, nft::ParseChain));
  nft::Request rules(NFT_MSG_GETRULE, /*listing=*/true, table);
  rules.Put(NFTA_RULE_TABLE, table.name).Put(NFTA_RULE_CHAIN, chain);
  auto found = TRY(nft::ListAll<nft::RuleInfo>(rules, what, table, nft::ParseRule));
  return std::count_if(found.begin(), found.end(),
                       [&](const nft::RuleInfo& rule) { return rule.chain == chain; });
}

}  // namespace skiff::net

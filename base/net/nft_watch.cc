// SystemNft's watch: the kernel's word that a transaction was carried out, and by whom.
#include "base/net/nft_watch.h"

#include <arpa/inet.h>
#include <libmnl/libmnl.h>
#include <linux/filter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstddef>
#include <iterator>
#include <mutex>
#include <set>
#include <thread>

#include "base/net/netns.h"
#include "base/net/nft.h"
#include "base/os/unique_fd.h"

namespace skiff::net {
namespace nft {
namespace {

constexpr int kSettleMilliseconds = 100;

// Of all that a transaction makes the kernel say, only the last message is let in: that there is a
// new generation of rules. It is a datagram of its own.
Result<> TakeGenerationsOnly(int fd) {
  constexpr uint16_t kNewGeneration = NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWGEN;
  sock_filter program[] = {
      BPF_STMT(BPF_LD | BPF_H | BPF_ABS, offsetof(nlmsghdr, nlmsg_type)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, htons(kNewGeneration), 0, 1),
      BPF_STMT(BPF_RET | BPF_K, 0xffffffff),
      BPF_STMT(BPF_RET | BPF_K, 0),
  };
  sock_fprog filter{.len = std::size(program), .filter = program};
  if (::setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof filter) != 0) {
    return Error::Sys(errno, "filter the events of nftables");
  }
  return {};
}

// The kernel names the thread as the first PID namespace does. In another one it is nobody here,
// but for a coincidence.
bool IsOfThisProcess(const nlmsghdr* header) {
  uint32_t thread = 0;
  mnl_attr_parse(
      header, sizeof(nfgenmsg),
      [](const nlattr* attribute, void* into) {
        if (mnl_attr_get_type(attribute) == NFTA_GEN_PROC_PID &&
            mnl_attr_validate(attribute, MNL_TYPE_U32) == 0) {
          *static_cast<uint32_t*>(into) = ntohl(mnl_attr_get_u32(attribute));
        }
        return MNL_CB_OK;
      },
      &thread);
  return thread != 0 && ::syscall(SYS_tgkill, ::getpid(), thread, 0) == 0;
}

class SystemWatch : public NftWatch {
 public:
  // Where it listens.
  const uint64_t netns;

  static Result<std::unique_ptr<NftWatch>> Start(std::function<void()> changed);
  ~SystemWatch() override;

  // One at a time.
  Result<> Listen();
  void Pause();
  void Resume();

 private:
  SystemWatch(uint64_t where, std::function<void()> changed, UniqueFd events, UniqueFd stop,
              UniqueFd missed)
      : netns(where),
        changed_(std::move(changed)),
        events_(std::move(events)),
        stop_(std::move(stop)),
        missed_(std::move(missed)) {}
  void Run();
  bool ReadEvents();

  const std::function<void()> changed_;
  // missed: it was paused.
  const UniqueFd events_, stop_, missed_;
  int pauses_ = 0;
  std::thread thread_;
};

// All of the process; the mutex is held around what is done to them from outside.
struct Watches {
  std::mutex mutex;
  std::set<SystemWatch*> all;
};
Watches& AllWatches() {
  static Watches& watches = *new Watches();
  return watches;
}

Result<std::unique_ptr<NftWatch>> SystemWatch::Start(std::function<void()> changed) {
  const uint64_t where = TRY(Netns::Current()).id();
  UniqueFd events(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER));
  if (!events) return Error::Sys(errno, "open netlink socket", "nftables events");
  TRY(TakeGenerationsOnly(events.get()));
  sockaddr_nl address{.nl_family = AF_NETLINK, .nl_pad = 0, .nl_pid = 0, .nl_groups = 0};
  if (::bind(events.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    return Error::Sys(errno, "bind netlink socket", "nftables events");
  }
  UniqueFd stop(::eventfd(0, EFD_CLOEXEC)), missed(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!stop || !missed) return Error::Sys(errno, "eventfd");
  std::unique_ptr<SystemWatch> watch(new SystemWatch(where, std::move(changed), std::move(events),
                                                     std::move(stop), std::move(missed)));
  std::lock_guard lock(AllWatches().mutex);
  TRY(watch->Listen());
  watch->thread_ = std::thread([raw = watch.get()] { raw->Run(); });
  AllWatches().all.insert(watch.get());
  return watch;
}

SystemWatch::~SystemWatch() {
  {
    std::lock_guard lock(AllWatches().mutex);
    AllWatches().all.erase(this);
  }
  ::eventfd_write(stop_.get(), 1);
  if (thread_.joinable()) thread_.join();
}

Result<> SystemWatch::Listen() {
  int group = NFNLGRP_NFTABLES;
  if (::setsockopt(events_.get(), SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof group) != 0) {
    return Error::Sys(errno, "listen to nftables events");
  }
  return {};
}

void SystemWatch::Pause() {
  int group = NFNLGRP_NFTABLES;
  if (pauses_++ > 0) return;
  (void)::setsockopt(events_.get(), SOL_NETLINK, NETLINK_DROP_MEMBERSHIP, &group, sizeof group);
}

void SystemWatch::Resume() {
  if (pauses_ == 0 || --pauses_ > 0) return;  // 0: it was made meanwhile
  (void)Listen();                             // it was possible before
  ::eventfd_write(missed_.get(), 1);
}

// Whether there is one of a stranger among them.
bool SystemWatch::ReadEvents() {
  alignas(nlmsghdr) char buffer[1024];
  bool strange = false;
  for (;;) {
    ssize_t got = ::recv(events_.get(), buffer, sizeof buffer, MSG_DONTWAIT);
    if (got >= 0) {
      const auto* header = reinterpret_cast<const nlmsghdr*>(buffer);
      strange |= !mnl_nlmsg_ok(header, static_cast<int>(got)) || !IsOfThisProcess(header);
    } else if (errno == ENOBUFS) {
      strange = true;  // some are lost
    } else if (errno != EINTR) {
      return strange;
    }
  }
}

void SystemWatch::Run() {
  for (;;) {
    pollfd fds[] = {
        {stop_.get(), POLLIN, 0}, {events_.get(), POLLIN, 0}, {missed_.get(), POLLIN, 0}};
    if (::poll(fds, std::size(fds), -1) < 0) continue;  // EINTR
    // Others may follow.
    while (::poll(fds, 1, kSettleMilliseconds) < 0 && errno == EINTR) {
    }
    if (fds[0].revents != 0) return;
    eventfd_t missed = 0;
    const bool paused = ::eventfd_read(missed_.get(), &missed) == 0;
    if (ReadEvents() || paused) changed_();
  }
}

}  // namespace

PausedWatches::PausedWatches(uint64_t netns) : netns_(netns) {
  std::lock_guard lock(AllWatches().mutex);
  for (SystemWatch* watch : AllWatches().all) {
    if (watch->netns == netns_) watch->Pause();
  }
}

PausedWatches::~PausedWatches() {
  std::lock_guard lock(AllWatches().mutex);
  for (SystemWatch* watch : AllWatches().all) {
    if (watch->netns == netns_) watch->Resume();
  }
}

}  // namespace nft

Result<std::unique_ptr<NftWatch>> SystemNft::Watch(std::function<void()> changed) {
  return nft::SystemWatch::Start(std::move(changed));
}

}  // namespace skiff::net

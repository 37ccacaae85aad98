// SystemNft's watch: the kernel's word that a transaction was carried out, and by whom.
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
#include <thread>

#include "base/net/nft.h"
#include "base/os/unique_fd.h"

namespace skiff::net {
namespace nft {
namespace {

// So long others may follow.
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
  SystemWatch(std::function<void()> changed, UniqueFd events, UniqueFd stop)
      : changed_(std::move(changed)),
        events_(std::move(events)),
        stop_(std::move(stop)),
        thread_([this] { Run(); }) {}
  ~SystemWatch() override {
    ::eventfd_write(stop_.get(), 1);
    thread_.join();
  }

 private:
  void Run();
  bool IsStopped(int timeout_milliseconds, bool events) const;
  bool ReadEvents();

  const std::function<void()> changed_;
  const UniqueFd events_, stop_;
  std::thread thread_;
};

// Waits for an event, or for the time to pass.
bool SystemWatch::IsStopped(int timeout_milliseconds, bool events) const {
  pollfd fds[2] = {{stop_.get(), POLLIN, 0}, {events_.get(), POLLIN, 0}};
  while (::poll(fds, events ? 2 : 1, timeout_milliseconds) < 0 && errno == EINTR) {
  }
  return fds[0].revents != 0;
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
  while (!IsStopped(-1, /*events=*/true)) {
    if (IsStopped(kSettleMilliseconds, /*events=*/false)) return;
    if (ReadEvents()) changed_();
  }
}

}  // namespace
}  // namespace nft

Result<std::unique_ptr<NftWatch>> SystemNft::Watch(std::function<void()> changed) {
  UniqueFd events(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER));
  if (!events) return Error::Sys(errno, "open netlink socket", "nftables events");
  TRY(nft::TakeGenerationsOnly(events.get()));
  sockaddr_nl address{.nl_family = AF_NETLINK, .nl_pad = 0, .nl_pid = 0, .nl_groups = 0};
  int group = NFNLGRP_NFTABLES;
  if (::bind(events.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
      ::setsockopt(events.get(), SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof group) != 0) {
    return Error::Sys(errno, "listen to nftables events");
  }
  UniqueFd stop(::eventfd(0, EFD_CLOEXEC));
  if (!stop) return Error::Sys(errno, "eventfd");
  return std::make_unique<nft::SystemWatch>(std::move(changed), std::move(events), std::move(stop));
}

}  // namespace skiff::net

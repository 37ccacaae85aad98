#include "cni/fastpath/kernel.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include <algorithm>
#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <map>

#include "base/net/rtnl.h"
#include "base/net/traffic_control.h"
#include "cni/fastpath/maps.h"
#include "cni/fastpath/object.h"

namespace skiff::cni {
namespace {

struct BpfObjectDeleter {
  void operator()(bpf_object* object) const { bpf_object__close(object); }
};

// What libbpf said last in this thread: where the kernel's verifier refuses a program, its reason.
thread_local std::string last_complaint;

int KeepComplaint(libbpf_print_level level, const char* format, va_list arguments) {
  if (level != LIBBPF_WARN) return 0;
  char line[512];
  std::vsnprintf(line, sizeof line, format, arguments);
  last_complaint = line;
  while (!last_complaint.empty() && last_complaint.back() == '\n') last_complaint.pop_back();
  return 0;
}

// A kernel that lacks something says so in many ways.
Error LoadError(int sys_errno) {
  const bool transient = sys_errno == ENOMEM || sys_errno == EAGAIN || sys_errno == EINTR ||
                         sys_errno == EMFILE || sys_errno == ENFILE;
  if (transient) return Error::Sys(sys_errno, "bpf load", "fast path");
  std::string text = "the kernel does not take the programs of the fast path: ";
  text += ErrnoText(sys_errno);
  if (!last_complaint.empty()) text += " (" + last_complaint + ")";
  return Error(Code::kUnimplemented, std::move(text));
}

skiff_address ToKey(const net::IpAddress& address) {
  skiff_address key{};
  if (address.is_v6()) {
    std::memcpy(key.words, address.bytes(), sizeof key.words);
  } else {
    auto* bytes = reinterpret_cast<uint8_t*>(key.words);
    bytes[10] = bytes[11] = 0xff;
    std::memcpy(bytes + 12, address.bytes(), 4);
  }
  return key;
}

class SystemFastPathKernel : public FastPathKernel {
 public:
  Result<> Load() override;
  void Unload() override { object_.reset(); }
  Result<> SetPod(const net::IpAddress& address, int link) override;
  Result<> ForgetPod(const net::IpAddress& address) override;
  Result<uint64_t> Taken() const override;
  Result<int> Find(const std::string& link) override {
    net::Rtnl rtnl = TRY(net::Rtnl::Open());
    return rtnl.LinkIndex(link);
  }
  Result<> Attach(int link, Role role) override;
  Result<std::set<int>> Attached() override {
    net::Rtnl rtnl = TRY(net::Rtnl::Open());
    return net::ListProgramPlaces(rtnl);
  }
  Result<> DetachAll(const std::string& bridge, const std::vector<std::string>& others) override;

 private:
  int ProgramOf(const char* name) const {
    return bpf_program__fd(bpf_object__find_program_by_name(object_.get(), name));
  }

  std::unique_ptr<bpf_object, BpfObjectDeleter> object_;
  int pods_ = -1, counts_ = -1;  // maps of object_
};

Result<> SystemFastPathKernel::Load() {
  if (object_ != nullptr) return {};
  libbpf_set_print(KeepComplaint);
  last_complaint.clear();
  const std::string_view bytes = FastPathObject();
  std::unique_ptr<bpf_object, BpfObjectDeleter> object(
      bpf_object__open_mem(bytes.data(), bytes.size(), nullptr));
  if (object == nullptr) return LoadError(errno);
  if (int failed = bpf_object__load(object.get()); failed != 0) return LoadError(-failed);
  pods_ = bpf_object__find_map_fd_by_name(object.get(), "pods");
  counts_ = bpf_object__find_map_fd_by_name(object.get(), "counts");
  object_ = std::move(object);
  return {};
}

Result<> SystemFastPathKernel::SetPod(const net::IpAddress& address, int link) {
  const skiff_address key = ToKey(address);
  const auto value = static_cast<uint32_t>(link);
  if (bpf_map_update_elem(pods_, &key, &value, BPF_ANY) == 0) return {};
  return Error::Sys(errno, "tell the fast path of pod", address.ToString());
}

Result<> SystemFastPathKernel::ForgetPod(const net::IpAddress& address) {
  const skiff_address key = ToKey(address);
  if (bpf_map_delete_elem(pods_, &key) == 0 || errno == ENOENT) return {};
  return Error::Sys(errno, "make the fast path forget pod", address.ToString());
}

Result<uint64_t> SystemFastPathKernel::Taken() const {
  std::vector<uint64_t> of_processor(static_cast<size_t>(std::max(libbpf_num_possible_cpus(), 1)));
  const uint32_t which = SKIFF_FAST_TAKEN;
  if (bpf_map_lookup_elem(counts_, &which, of_processor.data()) != 0) {
    return Error::Sys(errno, "read counters of", "the fast path");
  }
  uint64_t sum = 0;
  for (uint64_t some : of_processor) sum += some;
  return sum;
}

Result<> SystemFastPathKernel::Attach(int link, Role role) {
  const bool pod = role == Role::kPod;
  const char* in = pod ? "leave_pod" : "leave_overlay";
  const char* out = pod ? "reach_pod" : "reach_overlay";
  std::vector<net::NetlinkMessage> changes;
  changes.push_back(net::rtnl::AddProgramPlace(link));
  changes.push_back(net::rtnl::RunProgram(link, net::rtnl::Way::kIncoming, ProgramOf(in), in));
  changes.push_back(net::rtnl::RunProgram(link, net::rtnl::Way::kOutgoing, ProgramOf(out), out));
  net::Rtnl rtnl = TRY(net::Rtnl::Open());
  Result<> attached = rtnl.Apply(std::move(changes));
  if (attached.ok()) return {};
  const Error& error = attached.error();
  if (error.sys_errno() == ENODEV) return Error(Code::kNotFound, error.message());
  if (error.sys_errno() != ENOENT && error.sys_errno() != EOPNOTSUPP) return attached;
  return Error(Code::kUnimplemented,
               "the kernel does not run programs on links (CONFIG_NET_SCH_INGRESS, "
               "CONFIG_NET_CLS_BPF): " +
                   error.message());
}

Result<> SystemFastPathKernel::DetachAll(const std::string& bridge,
                                         const std::vector<std::string>& others) {
  net::Rtnl rtnl = TRY(net::Rtnl::Open());
  const std::set<int> places = TRY(net::ListProgramPlaces(rtnl));
  if (places.empty()) return {};
  const int master = rtnl.LinkIndex(bridge).value_or(0);
  Result<> first;
  for (const net::Link& link : TRY(rtnl.ListLinks())) {
    const bool ours = (master != 0 && link.master == master) ||
                      std::find(others.begin(), others.end(), link.name) != others.end();
    if (!ours || !places.contains(link.index)) continue;
    Result<> deleted = rtnl.Apply(net::rtnl::DeleteProgramPlace(link.index));
    const int code = deleted.ok() ? 0 : deleted.error().sys_errno();
    const bool gone = code == ENODEV || code == ENOENT || code == EINVAL;
    if (!deleted.ok() && !gone && first.ok()) first = std::move(deleted);
  }
  return first;
}

}  // namespace

std::unique_ptr<FastPathKernel> MakeSystemFastPathKernel() {
  return std::make_unique<SystemFastPathKernel>();
}

}  // namespace skiff::cni

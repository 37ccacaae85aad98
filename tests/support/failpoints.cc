#include "tests/support/failpoints.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <map>

#include "base/failpoint.h"
#include "base/os/unique_fd.h"

namespace skiff::test {
namespace {

template <size_t N>
void Put(char (&into)[N], std::string_view text) {
  size_t length = std::min(text.size(), N - 1);
  std::memcpy(into, text.data(), length);
  into[length] = '\0';
}

}  // namespace

void FailpointPlan::Set(const FailpointVisit& visit, FailpointAction action, bool onwards) {
  action_ = FailpointAction::kOff;
  for (uint32_t i = 0; i < std::min<uint32_t>(count_, kMaxVisits); ++i) {
    entries_[i].written = false;
  }
  count_ = passed_ = fired_ = 0;
  index_ = visit.index;
  onwards_ = onwards;
  Put(program_, visit.program);
  Put(point_, visit.point);
  action_ = action;
}

Result<> FailpointPlan::Visit(const char* program, const char* point, std::string_view subject) {
  FailpointAction action = action_;
  if (action == FailpointAction::kOff) return {};
  uint32_t slot = count_++;
  if (slot < kMaxVisits) {
    Entry& entry = entries_[slot];
    Put(entry.program, program);
    Put(entry.point, point);
    Put(entry.subject, subject);
    entry.written = true;
  }
  if (action == FailpointAction::kRecord) return {};
  if (std::string_view(program) != program_ || std::string_view(point) != point_) return {};
  uint32_t passed = passed_++;
  if (passed != index_ && !(onwards_ && passed > index_)) return {};
  ++fired_;
  if (action == FailpointAction::kKill) {
    ::kill(::getpid(), SIGKILL);
    ::_exit(128 + SIGKILL);  // the first process of a pid namespace does not hear itself
  }
  return Error::Sys(EIO, point, subject);
}

std::vector<FailpointVisit> FailpointPlan::Visits() const {
  std::vector<FailpointVisit> visits;
  std::map<std::pair<std::string, std::string>, uint32_t> seen;
  for (uint32_t i = 0; i < std::min<uint32_t>(count_, kMaxVisits); ++i) {
    const Entry& entry = entries_[i];
    if (!entry.written) continue;  // its program was killed in between
    uint32_t index = seen[{entry.program, entry.point}]++;
    visits.push_back({entry.program, entry.point, index, entry.subject});
  }
  return visits;
}

FailpointPlan* MapFailpointPlan(const std::string& path) {
  UniqueFd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  CHECK(fd.valid());
  CHECK(::ftruncate(fd.get(), sizeof(FailpointPlan)) == 0);
  void* memory =
      ::mmap(nullptr, sizeof(FailpointPlan), PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
  CHECK(memory != MAP_FAILED);
  static_assert(std::atomic<FailpointAction>::is_always_lock_free);
  // A file of zeroes is a plan that is off.
  return static_cast<FailpointPlan*>(memory);
}

std::string FailpointVariable(const std::string& path) {
  return std::string(failpoint::kVariable) + "=" + path;
}

}  // namespace skiff::test

// Linked into a program under test, arms its failpoints (base/failpoint.h) before main, where the
// environment names a plan.
#include <errno.h>
#include <sys/prctl.h>

#include <cstdlib>
#include <string>

#include "base/failpoint.h"
#include "tests/support/failpoints.h"

namespace skiff::test {
namespace {

FailpointPlan* plan = nullptr;

// What the thread does that removes interfaces (cni/link_removal.h) counts for itself: in a daemon
// nobody waits for it, so when it comes by a point says nothing about the operation under way.
std::string Program() {
  char thread[16] = {};
  ::prctl(PR_GET_NAME, thread);
  const bool links = std::string_view(thread) == "skiff-links";
  return std::string(program_invocation_short_name) + (links ? "/links" : "");
}

Result<> Visit(const char* point, std::string_view subject) {
  int saved = errno;
  Result<> passed = plan->Visit(Program().c_str(), point, subject);
  errno = saved;
  return passed;
}

[[maybe_unused]] const bool kArmed = [] {
  const char* path = std::getenv(failpoint::kVariable);
  if (path == nullptr) return false;
  plan = MapFailpointPlan(path);
  failpoint::hook = Visit;
  return true;
}();

}  // namespace
}  // namespace skiff::test

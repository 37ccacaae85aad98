// Linked into a program under test, arms its failpoints (base/failpoint.h) before main, where the
// environment names a plan.
#include <errno.h>

#include <cstdlib>

#include "base/failpoint.h"
#include "tests/support/failpoints.h"

namespace skiff::test {
namespace {

FailpointPlan* plan = nullptr;

Result<> Visit(const char* point, std::string_view subject) {
  int saved = errno;
  Result<> passed = plan->Visit(program_invocation_short_name, point, subject);
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

// Failpoints: named places where a test can make a step fail, or the process die.
//
//   TRY(failpoint::Reach("make directory", path));
//
// They stand in the primitives that record, acquire or release something which outlives the
// process (files, cgroups, processes, links, rules, messages to a shim), in front of the system
// call, so that whoever builds on those is covered without a line of its own. Only programs that
// link tests/support/failpoints_armed.cc have a hook; in all others a point costs one load.
// tests/integration/cri/failpoints.txt lists the names, and the loops beside it try every point
// that an operation reaches.
#pragma once

#include <atomic>
#include <string_view>

#include "base/result.h"

namespace skiff::failpoint {

using Hook = Result<> (*)(const char* name, std::string_view subject);
// Set before main, if at all.
inline std::atomic<Hook> hook{nullptr};
// The environment variable by which an armed program arms those that it starts.
inline constexpr const char* kVariable = "SKIFF_FAILPOINTS";

inline bool Armed() { return hook.load(std::memory_order_relaxed) != nullptr; }

// subject: what the step is about, for the test's messages.
inline Result<> Reach(const char* name, std::string_view subject = {}) {
  Hook armed = hook.load(std::memory_order_relaxed);
  return armed == nullptr ? Result<>() : armed(name, subject);
}

}  // namespace skiff::failpoint

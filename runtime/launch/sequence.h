// Sequence: steps that acquire something which outlives the process, each with its undo.
//
// Steps run in order. Where one fails, the undos of those before it, and its own, run backwards;
// an undo must therefore cope with a step that was done in part or not at all.
#pragma once

#include <functional>
#include <vector>

#include "base/result.h"

namespace skiff::runtime {

struct SequenceStep {
  const char* name;  // in front of its error: "make cgroup"
  std::function<Result<>()> apply;
  std::function<Result<>()> undo;  // may be empty
};

// The error of the step that failed. Undos that fail are added to its text; what they leave is
// still named by the record on disk, for the next attempt to remove.
Result<> RunSequence(const std::vector<SequenceStep>& steps);

}  // namespace skiff::runtime

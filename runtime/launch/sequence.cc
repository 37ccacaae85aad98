#include "runtime/launch/sequence.h"

#include <string>

namespace skiff::runtime {

Result<> RunSequence(const std::vector<SequenceStep>& steps) {
  for (size_t i = 0; i < steps.size(); ++i) {
    Result<> done = steps[i].apply();
    if (done.ok()) continue;
    std::string context = steps[i].name;
    for (size_t back = i + 1; back-- > 0;) {
      if (!steps[back].undo) continue;
      Result<> undone = steps[back].undo();
      if (!undone.ok()) {
        context += " (and to undo \"" + std::string(steps[back].name) +
                   "\": " + undone.error().message() + ")";
      }
    }
    return std::move(done).error().With(context);
  }
  return {};
}

}  // namespace skiff::runtime

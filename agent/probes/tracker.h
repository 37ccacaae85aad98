// Thresholds: from single outcomes to the state of one probe. Pure.
#pragma once

#include "agent/probes/runner.h"

namespace skiff::agent {

enum class ProbeKind { kStartup, kLiveness, kReadiness };
enum class ProbeState { kUnknown, kSuccess, kFailure };

class ProbeTracker {
 public:
  // A liveness probe counts as successful, a readiness probe as failed until it has spoken.
  ProbeTracker(ProbeKind kind, int success_threshold, int failure_threshold)
      : state_(kind == ProbeKind::kLiveness    ? ProbeState::kSuccess
               : kind == ProbeKind::kReadiness ? ProbeState::kFailure
                                               : ProbeState::kUnknown),
        success_threshold_(success_threshold),
        failure_threshold_(failure_threshold) {}

  ProbeState state() const { return state_; }
  void Seed(ProbeState state) { state_ = state; }

  // True when the state changed.
  bool Add(ProbeOutcome::Kind outcome) {
    if (outcome == ProbeOutcome::Kind::kUnknown) return false;
    bool success = outcome == ProbeOutcome::Kind::kSuccess;
    run_ = success == last_success_ ? run_ + 1 : 1;
    last_success_ = success;
    if (run_ < (success ? success_threshold_ : failure_threshold_)) return false;
    ProbeState next = success ? ProbeState::kSuccess : ProbeState::kFailure;
    bool changed = next != state_;
    state_ = next;
    return changed;
  }

 private:
  ProbeState state_;
  int success_threshold_;
  int failure_threshold_;
  bool last_success_ = false;
  int run_ = 0;  // equal outcomes in a row
};

}  // namespace skiff::agent

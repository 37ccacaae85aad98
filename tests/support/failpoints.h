// FailpointPlan: which failpoint (base/failpoint.h) fires, and what was reached.
//
//   FailpointFile file = FailpointFile::Make(directory + "/failpoints");
//   environment.push_back(file.variable());   // of the program under test
//   file->Record();                           // ... run the operation ...
//   for (const FailpointVisit& visit : file->Visits()) ...
//   file->Arm({"skiff-shim", "send message", 2}, FailpointAction::kKill);
//
// The plan lies in a file that the test and all programs under test map, so it can be changed while
// they run. A visit is named by its program, its point, and how many times that program has passed
// that point before in the same run: threads that work side by side do not change the names. What a
// program does about interfaces in its own time is a program of its own, "skiff-cni/links".
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"

namespace skiff::test {

enum class FailpointAction : uint32_t { kOff = 0, kRecord = 1, kFail = 2, kKill = 3 };

struct FailpointVisit {
  std::string program;
  std::string point;
  uint32_t index = 0;
  std::string subject;
  std::string Name() const { return program + ": " + point + " #" + std::to_string(index); }
};

// All of it in shared memory: fixed sizes, no pointers.
class FailpointPlan {
 public:
  // Lets everything pass and notes what is reached.
  void Record() { Set({}, FailpointAction::kRecord, false); }
  void Off() { Set({}, FailpointAction::kOff, false); }
  // onwards: all later visits of that point in that program fail too.
  void Arm(const FailpointVisit& visit, FailpointAction action, bool onwards = false) {
    Set(visit, action, onwards);
  }
  // Whether what was armed has happened.
  bool fired() const { return fired_ > 0; }
  // What was reached since Record or Arm.
  std::vector<FailpointVisit> Visits() const;

  // By the programs: the point's hook.
  Result<> Visit(const char* program, const char* point, std::string_view subject);

 private:
  static constexpr uint32_t kMaxVisits = 4096;
  struct Entry {
    std::atomic<bool> written;
    char program[32];
    char point[32];
    char subject[160];
  };
  void Set(const FailpointVisit& visit, FailpointAction action, bool onwards);

  std::atomic<FailpointAction> action_;
  std::atomic<uint32_t> passed_;  // visits of the armed point so far
  std::atomic<uint32_t> fired_;
  std::atomic<uint32_t> count_;  // of entries
  uint32_t index_;
  bool onwards_;
  char program_[32];
  char point_[32];
  Entry entries_[kMaxVisits];
};

// Maps the plan in the file, which is made where it is missing; for the life of the process.
FailpointPlan* MapFailpointPlan(const std::string& path);
// "SKIFF_FAILPOINTS=<path>".
std::string FailpointVariable(const std::string& path);

}  // namespace skiff::test

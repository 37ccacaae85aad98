// WriteLoop: keeps something in force: changes that come together are written together, what fails
// is tried again ever more rarely, and what somebody else damaged is written anew.
//
//   auto keeper = std::make_shared<Keeper>(...);       // has a WriteLoop loop
//   keeper->loop.Start(keeper, {.write = ..., .written = ..., .damaged = ...});
//   keeper->loop.Post([this] { wanted_.insert(...); loop.WriteSoon(); });
//
// All work runs on one strand, and none of it once the owner is gone or Stop has returned.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>

#include "base/async/executor.h"
#include "base/result.h"

namespace skiff {

class WriteLoop {
 public:
  struct Timing {
    // Changes wait for others to go with them, for as long as the last write took, within these
    // bounds: the machine is not busy with writing more than half of the time.
    std::chrono::nanoseconds shortest_batch{0};
    std::chrono::nanoseconds longest_batch = std::chrono::seconds(1);
    // After a failure; twice as long each time.
    std::chrono::nanoseconds first_retry = std::chrono::milliseconds(500);
    std::chrono::nanoseconds longest_retry = std::chrono::seconds(30);
    // How often damage is looked for that nobody told of.
    std::chrono::nanoseconds look = std::chrono::seconds(30);
  };
  struct Work {
    // Brings everything that is wanted into force.
    std::function<Result<>()> write;
    // Behind each write: for the log, and for those who wait. May end the owner.
    std::function<void(const Result<>&)> written;
    // Whether what was written is in force no more; it is written again then.
    std::function<bool()> damaged;
  };
  struct Status {
    uint64_t writes = 0;              // that succeeded
    uint64_t failures = 0;            // of writes
    uint64_t repairs = 0;             // writes after damage
    std::optional<Error> last_error;  // of the last write, until one succeeds
    std::chrono::nanoseconds last_duration{0};
  };

  // below must outlive it.
  WriteLoop(Executor& below, Timing timing) : strand_(below), timing_(timing) {}
  WriteLoop(const WriteLoop&) = delete;

  // Before anything else.
  void Start(std::weak_ptr<void> owner, Work work);
  // Waits for a write, or a look, that is under way; no other work begins afterwards.
  void Stop();

  // Any thread. The owner lives while the work runs.
  void Post(Closure work);
  void PostAfter(std::chrono::nanoseconds delay, Closure work);
  // Any thread: somebody may have damaged what was written.
  void LookSoon();
  Status GetStatus() const;

  // On the strand. Those that changes wait for, or the time of a retry, are over first; or not.
  void WriteSoon();
  void WriteNow();
  const Clock& clock() const { return strand_.clock(); }

 private:
  enum class Due : uint8_t { kNo, kLater, kNow };
  // The work, if it is still wanted when its turn comes.
  Closure Guarded(Closure work) const;
  void Arm(std::chrono::nanoseconds delay);
  void Write();
  void Look();
  void WatchOver();

  Strand strand_;
  const Timing timing_;
  std::weak_ptr<void> owner_;
  Work work_;
  std::mutex running_;  // held by writes and looks, so that Stop can wait for them
  std::atomic<bool> stopped_ = false, look_posted_ = false;

  Due due_ = Due::kNo;
  uint64_t armed_ = 0;                 // which of the writes that were armed is due
  std::chrono::nanoseconds retry_{0};  // of the last write, where that failed

  mutable std::mutex status_mutex_;
  Status status_;
};

}  // namespace skiff

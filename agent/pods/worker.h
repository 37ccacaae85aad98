// PodWorker: the one authority over one pod on this node.
//
// Owns the pod's state on a strand of its own and goes one way through Syncing -> Terminating ->
// Terminated -> Released. Everybody else only says "look again" (Wake) or what is wanted (SetPod,
// Remove); the worker observes the runtime, plans (plan.h) and runs the steps (steps.h) until the
// plan is empty. It never trusts a look that began before its own last change had ended.
#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>

#include "agent/pods/backoff.h"
#include "agent/pods/deps.h"
#include "agent/pods/plan.h"
#include "agent/pods/steps.h"
#include "agent/probes/pod_prober.h"
#include "agent/status/pod_status.h"

namespace skiff::agent {

// What others may know of a pod at a moment; immutable.
struct PodView {
  PodPtr pod;  // null for an orphan
  ObservedPod observed;
  std::string log_directory;  // the name below /var/log/pods
  bool terminating = false;
};

class PodWorker : public std::enable_shared_from_this<PodWorker> {
 public:
  // on_released: called on the strand once nothing of a pod without object is left.
  static std::shared_ptr<PodWorker> Make(const PodDeps& deps, PodIdentity identity,
                                         std::function<void(const std::string& uid)> on_released);
  ~PodWorker();

  // All thread-safe; they post to the strand.
  void SetPod(PodPtr pod);
  // The pod's object is gone: stop what runs and forget it.
  void Remove();
  // Something of the pod may have changed.
  void Wake();
  // A ConfigMap, a Secret or a service that the pod names changed.
  void ObjectsChanged();
  // Reports the status and, if so, the pod's end again: the link may have lost them.
  void Repeat();
  // No more work; steps under way end, their results are dropped.
  void Stop();

  // Any thread; null before the first look.
  std::shared_ptr<const PodView> view() const;

 private:
  enum class Phase { kSyncing, kTerminating, kTerminated, kReleased };
  struct State;

  PodWorker(const PodDeps& deps, PodIdentity identity,
            std::function<void(const std::string&)> on_released);
  void OnStrand(std::function<void(PodWorker&)> work);
  // Runs `step` on the executor, then `done(worker, result)` on the strand.
  template <class Step, class DoneFn>
  void RunStep(Executor& executor, Step step, DoneFn done);

  void Look();
  void Looked(Result<ObservedPod> observed, uint64_t mutations);
  void Reconcile();
  void ReconcileSyncing();
  void ReconcileTerminating();
  void ReconcileTerminated();
  PlanInput MakeInput();
  void BeginTermination();
  bool PastDeadline();

  void ApplyStops(const std::vector<StopAction>& stops);
  void ApplyStop(const StopAction& stop);
  void ApplySandbox(uint32_t attempt, bool changed);
  void SandboxDone(SandboxResult result);
  void ApplyStart(const StartAction& start);
  void Admitted(uint64_t generation, const ContainerStep& step, const Result<>& admitted);
  void ChooseImage(uint64_t generation, const ContainerStep& step);
  void ImageDecided(uint64_t generation, const ContainerStep& step, ImageDecision decision);
  void ImagePulled(uint64_t generation, const ContainerStep& step, Result<ImageInfo> image);
  void StartContainer(const ContainerStep& step, const ImageInfo& image);
  void ContainerDone(const std::string& name, ContainerResult result);
  void StartFailed(const std::string& name, StartFailure failure, std::chrono::seconds retry);
  void ApplyGarbage(const PodPlan& plan);
  void ApplyStopSandboxes(const std::vector<std::string>& ids);
  void Release();

  void NoteBackOff(const std::vector<Wait>& waits);
  void UpdateProbes();
  void RefreshVolumes();
  void ReportStatus();
  void TellAddresses();
  void WakeAt(WallTime time);
  void WakeIn(std::chrono::nanoseconds delay);
  WallTime Now() const;
  std::string PodIp() const;

  const PodDeps& deps_;
  const PodIdentity identity_;
  const std::function<void(const std::string&)> on_released_;
  const std::shared_ptr<Strand> strand_;
  const std::unique_ptr<State> state_;  // of the strand alone
  mutable std::mutex view_mutex_;
  std::shared_ptr<const PodView> view_;
};

}  // namespace skiff::agent

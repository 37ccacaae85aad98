#include "agent/pods/plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "agent/pods/backoff.h"

namespace skiff::agent {
namespace {

using std::chrono::minutes;
using std::chrono::seconds;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

const WallTime kNow = WallTime(seconds(1'000'000));

TEST(BackOffTest, DoublesToFiveMinutesAndForgets) {
  BackOff back_off;
  WallTime now = kNow;
  EXPECT_FALSE(back_off.BlockedUntil("a", now).has_value());
  for (int expected : {10, 20, 40, 80, 160, 300, 300}) {
    back_off.Advance("a", now);
    EXPECT_EQ(back_off.Delay("a"), seconds(expected));
    EXPECT_EQ(back_off.BlockedUntil("a", now), now + seconds(expected));
    now += seconds(expected);
  }
  EXPECT_FALSE(back_off.BlockedUntil("a", now + minutes(11)).has_value());
  back_off.Advance("a", now + minutes(11));
  EXPECT_EQ(back_off.Delay("a"), seconds(10));
  EXPECT_EQ(back_off.Delay("b"), seconds(0));
}

// "name.attempt=state" for containers, newest first, all in the newest sandbox: r running, c
// created, u unknown, a number: exited with that code. "@" before the name: in the sandbox before.
ObservedPod Observed(const std::vector<std::string>& containers, bool ready = true,
                     bool sandbox = true) {
  ObservedPod pod;
  if (sandbox) {
    pod.sandboxes.push_back({"s1", 1, ready, kNow, {}});
    pod.sandboxes.push_back({"s0", 0, false, kNow, {}});
  }
  for (std::string text : containers) {
    ObservedContainer container;
    container.sandbox_id = "s1";
    if (text.starts_with('@')) {
      container.sandbox_id = "s0";
      text.erase(0, 1);
    }
    container.id = text;
    size_t dot = text.find('.');
    size_t equals = text.find('=');
    container.name = text.substr(0, dot);
    container.attempt = static_cast<uint32_t>(std::stoi(text.substr(dot + 1, equals)));
    std::string state = text.substr(equals + 1);
    container.phase = state == "r"   ? ContainerPhase::kRunning
                      : state == "c" ? ContainerPhase::kCreated
                      : state == "u" ? ContainerPhase::kUnknown
                                     : ContainerPhase::kExited;
    if (container.phase == ContainerPhase::kExited) container.exit_code = std::stoi(state);
    container.finished_at = kNow - minutes(1);
    pod.containers.push_back(container);
  }
  return pod;
}

PodShape Shape(RestartPolicy restart, const std::vector<std::string>& init,
               const std::vector<std::string>& main) {
  PodShape shape;
  shape.restart = restart;
  for (std::string name : init) {
    bool sidecar = name.starts_with('+');
    if (sidecar) name.erase(0, 1);
    RestartPolicy policy = sidecar                             ? RestartPolicy::kAlways
                           : restart == RestartPolicy::kAlways ? RestartPolicy::kOnFailure
                                                               : restart;
    shape.init.push_back(
        {name, sidecar ? ContainerKind::kSidecar : ContainerKind::kInit, policy, ""});
  }
  for (const std::string& name : main) {
    shape.main.push_back({name, ContainerKind::kMain, restart, ""});
  }
  return shape;
}

// The plan in words: what is started, stopped, made or concluded.
std::string Words(const PodPlan& plan) {
  std::string words;
  auto add = [&words](const std::string& word) { words += (words.empty() ? "" : " ") + word; };
  for (const StopAction& stop : plan.stop) add("stop:" + stop.name);
  if (plan.create_sandbox) add("sandbox:" + std::to_string(*plan.create_sandbox));
  if (plan.start) add("start:" + plan.start->name + "." + std::to_string(plan.start->attempt));
  if (plan.outcome) add(*plan.outcome == PodOutcome::kSucceeded ? "succeeded" : "failed");
  return words;
}

constexpr auto kAlways = RestartPolicy::kAlways;
constexpr auto kOnFailure = RestartPolicy::kOnFailure;
constexpr auto kNever = RestartPolicy::kNever;

TEST(PlanSyncTest, Table) {
  struct Case {
    const char* what;
    RestartPolicy restart;
    std::vector<std::string> init, main, containers;
    bool ready;
    const char* words;
  };
  const std::vector<Case> kCases = {
      {"first container", kAlways, {}, {"a", "b"}, {}, true, "start:a.0"},
      {"second container", kAlways, {}, {"a", "b"}, {"a.0=r"}, true, "start:b.0"},
      {"all run", kAlways, {}, {"a"}, {"a.0=r"}, true, ""},
      {"restart always", kAlways, {}, {"a"}, {"a.0=0"}, true, "start:a.1"},
      {"restart on failure", kOnFailure, {}, {"a"}, {"a.0=1"}, true, "start:a.1"},
      {"done on success", kOnFailure, {}, {"a"}, {"a.0=0"}, true, "succeeded"},
      {"never again", kNever, {}, {"a"}, {"a.0=1"}, true, "failed"},
      {"one still runs", kNever, {}, {"a", "b"}, {"a.0=1", "b.0=r"}, true, ""},
      {"never started after create", kNever, {}, {"a"}, {"a.0=c"}, true, "start:a.1"},
      {"init first", kAlways, {"i"}, {"a"}, {}, true, "start:i.0"},
      {"init runs", kAlways, {"i"}, {"a"}, {"i.0=r"}, true, ""},
      {"init failed", kAlways, {"i"}, {"a"}, {"i.0=1"}, true, "start:i.1"},
      {"init failed for good", kNever, {"i"}, {"a"}, {"i.0=1"}, true, "failed"},
      {"init lost, never", kNever, {"i"}, {"a"}, {"i.0=u"}, true, "failed"},
      {"init done", kAlways, {"i"}, {"a"}, {"i.0=0"}, true, "start:a.0"},
      {"init is history", kAlways, {"i"}, {"a"}, {"a.0=1"}, true, "start:a.1"},
      {"sidecar first", kAlways, {"+s"}, {"a"}, {}, true, "start:s.0"},
      {"sidecar restarts beside", kNever, {"+s"}, {"a"}, {"s.0=1", "a.0=r"}, true, "start:s.1"},
      {"sidecar does not hold the end",
       kNever,
       {"+s"},
       {"a"},
       {"s.0=r", "a.0=0"},
       true,
       "succeeded"},
      {"dead sandbox", kAlways, {}, {"a"}, {"a.0=255"}, false, "sandbox:2"},
      {"dead sandbox, work done", kOnFailure, {}, {"a"}, {"a.0=0"}, false, "succeeded"},
      {"dead sandbox, never", kNever, {}, {"a"}, {"a.0=255"}, false, "failed"},
      {"dead sandbox, running lost", kNever, {}, {"a"}, {"a.0=r"}, false, "failed"},
      {"new sandbox runs init again",
       kAlways,
       {"i"},
       {"a"},
       {"@a.0=255", "@i.0=0"},
       true,
       "start:i.1"},
      {"done ones stay done in a new sandbox",
       kOnFailure,
       {},
       {"a", "b"},
       {"@a.0=0", "@b.0=255"},
       true,
       "start:b.1"},
  };
  for (const Case& c : kCases) {
    PodShape shape = Shape(c.restart, c.init, c.main);
    ObservedPod observed = Observed(c.containers, c.ready);
    BackOff back_off;
    PlanInput input;
    input.shape = &shape;
    input.observed = &observed;
    input.restart_back_off = &back_off;
    input.now = kNow;
    EXPECT_EQ(Words(PlanSync(input)), c.words) << c.what;
    // While a start is under way there is never a second one.
    input.start_busy = true;
    PodPlan busy = PlanSync(input);
    EXPECT_FALSE(busy.start || busy.create_sandbox) << c.what;
  }
}

TEST(PlanSyncTest, AnEmptyPodGetsASandbox) {
  PodShape shape = Shape(kNever, {}, {"a"});
  ObservedPod observed;
  BackOff back_off;
  PlanInput input{&shape, &observed, {}, &back_off, {}, false, kNow};
  EXPECT_EQ(Words(PlanSync(input)), "sandbox:0");
  input.not_before[""] = kNow + seconds(3);
  PodPlan plan = PlanSync(input);
  EXPECT_EQ(Words(plan), "");
  EXPECT_EQ(plan.wake_at, kNow + seconds(3));
}

TEST(PlanSyncTest, GarbageIsWhatNobodyNeeds) {
  PodShape shape = Shape(kAlways, {}, {"a"});
  ObservedPod observed = Observed({"a.4=r", "a.3=1", "a.2=1", "@a.1=1"});
  BackOff back_off;
  PlanInput input{&shape, &observed, {}, &back_off, {}, false, kNow};
  PodPlan plan = PlanSync(input);
  EXPECT_THAT(plan.remove_containers, ElementsAre("a.2=1", "a.1=1"));
  EXPECT_THAT(plan.remove_sandboxes, ElementsAre("s0"));
  observed = Observed({"a.1=r", "@a.0=1"});
  plan = PlanSync(input);
  EXPECT_THAT(plan.remove_containers, IsEmpty());
  EXPECT_THAT(plan.remove_sandboxes, IsEmpty()) << "the last logs are in it";
}

TEST(PlanTerminationTest, MainFirstThenSidecarsFromTheLast) {
  PodShape shape = Shape(kAlways, {"+s", "i", "+t"}, {"a", "b"});
  BackOff back_off;
  auto plan = [&](const std::vector<std::string>& containers,
                  const std::set<std::string>& stopped = {}) {
    ObservedPod observed = Observed(containers);
    PlanInput input{&shape, &observed, {}, &back_off, {}, false, kNow};
    TerminationPlan termination = PlanTermination(input, stopped);
    std::string words;
    for (const StopAction& stop : termination.stop) words += stop.name + " ";
    for (const std::string& id : termination.stop_sandboxes) words += id + " ";
    return words + (termination.stopped ? "stopped" : "");
  };
  EXPECT_EQ(plan({"a.0=r", "b.0=r", "s.0=r", "t.0=r"}), "a b ");
  EXPECT_EQ(plan({"a.0=0", "b.0=r", "s.0=r", "t.0=r"}), "b ");
  EXPECT_EQ(plan({"a.0=0", "b.0=0", "s.0=r", "t.0=r"}), "t ");
  EXPECT_EQ(plan({"a.0=0", "b.0=0", "s.0=r", "t.0=0"}), "s ");
  EXPECT_EQ(plan({"a.0=0", "b.0=0"}), "s1 s0 ");
  EXPECT_EQ(plan({"a.0=0", "b.0=0"}, {"s1", "s0"}), "stopped");
}

}  // namespace
}  // namespace skiff::agent

#include "agent/testing/world.h"

// After world.h, which says why.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "agent/spec/shape.h"

namespace skiff::agent {
namespace {

namespace cri = ::runtime::v1;
using std::chrono::minutes;
using std::chrono::seconds;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using testing::World;

constexpr char kWeb[] = R"(spec { containers { name: "web" image: "nginx:1" } })";

class PodWorkerTest : public ::testing::Test {
 protected:
  PodWorkerTest() {
    world.cri.AddRemoteImage("nginx:1");
    world.cri.AddRemoteImage("nginx:2");
    world.cri.AddImage("init:1");
  }
  size_t Starts(const std::string& name) const {
    size_t count = 0;
    for (const std::string& call : world.cri.calls()) count += call == "StartContainer " + name;
    return count;
  }
  World world;
};

TEST_F(PodWorkerTest, StartsAPodAndReportsItReady) {
  world.Run({World::MakePod(kWeb)});
  EXPECT_THAT(world.cri.calls(), ElementsAre("RunPodSandbox web", "PullImage nginx:1",
                                             "CreateContainer web", "StartContainer web"));
  EXPECT_EQ(world.status().phase(), "Running");
  EXPECT_EQ(world.condition("Ready"), "True");
  EXPECT_EQ(world.condition("PodReadyToStartContainers"), "True");
  EXPECT_TRUE(world.cgroups.cgroups.contains("/kubepods/besteffort/poduid-web"));
  EXPECT_EQ(world.status().pod_ip(), world.cri.sandboxes()[0].ip);
  EXPECT_EQ(world.status().host_ip(), "192.0.2.1");
  EXPECT_TRUE(world.container().ready());
  EXPECT_EQ(world.container().container_id(), "fake://" + world.cri.Newest("web").id);
  EXPECT_TRUE(world.SawEvent("Pulling", "Pulling image \"nginx:1\""));
  EXPECT_TRUE(world.SawEvent("Pulled", "Successfully pulled image \"nginx:1\" in "));
  EXPECT_TRUE(world.SawEvent("Created", "Created container: web"));
  EXPECT_TRUE(world.SawEvent("Started", "Started container web"));
}

constexpr char kMapped[] =
    R"(spec { host_users: false runtime_class_name: "mapping"
              containers { name: "web" image: "nginx:1" } })";

TEST_F(PodWorkerTest, GivesAPodUsersOfItsOwnAndKeepsToThem) {
  world.objects.runtime_handlers["mapping"] = "mapping";
  auto pod = World::MakePod(std::string(kMapped) + R"(metadata { name: "a" })");
  world.Run({pod});
  EXPECT_EQ(world.status("a").phase(), "Running");
  auto first_id = [](const auto& config) {
    const auto& user = config.linux().security_context().namespace_options().userns_options();
    return user.mode() == cri::POD && user.uids_size() == 1 ? user.uids(0).host_id() : 0;
  };
  EXPECT_EQ(first_id(world.cri.sandboxes()[0].config), 65536u);
  world.RestartAgent();
  auto other = World::MakePod(std::string(kMapped) + R"(metadata { name: "b" })");
  world.Run({pod, other});
  ASSERT_EQ(world.cri.containers().size(), 2u);
  const auto container = world.cri.containers()[1].config;
  EXPECT_EQ(first_id(world.cri.sandboxes()[1].config), 131072u);
  EXPECT_EQ(first_id(container), 131072u);
  EXPECT_GE(container.mounts_size(), 1);
  for (const auto& mount : container.mounts()) {
    EXPECT_EQ(mount.uidmappings(0).host_id(), 131072u);
    EXPECT_EQ(mount.gidmappings(0).host_id(), 131072u);
  }
  world.Run({World::Deleted(*pod, 0), other});
  world.Advance(seconds(1));
  EXPECT_THAT(world.gone, ElementsAre("a"));
  auto third = World::MakePod(std::string(kMapped) + R"(metadata { name: "c" })");
  world.Run({other, third});
  EXPECT_EQ(first_id(world.cri.Newest("web").config), 65536u) << "the range of a, which is gone";
}

TEST_F(PodWorkerTest, AHandlerWithoutUserNamespacesIsNamed) {
  world.Run({World::MakePod(R"(spec { host_users: false containers { name: "a" image: "x" } })")});
  EXPECT_TRUE(world.SawEvent("FailedCreatePodSandBox",
                             "can't set `spec.hostUsers: false`, runtime does not support user "
                             "namespaces"));
  EXPECT_THAT(world.cri.sandboxes(), IsEmpty());
}

TEST_F(PodWorkerTest, TheRuntimeClassNamesTheHandler) {
  auto pod = World::MakePod(
      R"(spec { runtime_class_name: "sandboxed" containers { name: "a" image: "x" } })");
  world.Run({pod});
  EXPECT_TRUE(world.SawEvent(
      "FailedCreatePodSandBox",
      "Failed to create pod sandbox: runtimeclass.node.k8s.io \"sandboxed\" not found"));
  EXPECT_THAT(world.cri.sandboxes(), IsEmpty());
  world.objects.runtime_handlers["sandboxed"] = "crun";
  world.Advance(seconds(60));
  ASSERT_EQ(world.cri.sandboxes().size(), 1u);
  EXPECT_EQ(world.cri.sandboxes()[0].handler, "crun");
}

TEST_F(PodWorkerTest, ContainersWaitForTheRulesOfTheirPod) {
  world.traffic.admits = false;
  auto pod = World::MakePod(kWeb);
  world.Run({pod});
  EXPECT_THAT(world.cri.calls(), ElementsAre("RunPodSandbox web"));
  ASSERT_EQ(world.traffic.waiting.size(), 1u);
  EXPECT_THAT(world.traffic.addresses["uid-web"], ElementsAre(world.cri.sandboxes()[0].ip));
  // The kernel refuses: said, and tried again.
  world.traffic.waiting[0](Error(Code::kUnavailable, "no nftables"));
  world.executor.RunUntilIdle();
  EXPECT_EQ(world.container().state().waiting().reason(), "CreateContainerError");
  EXPECT_THAT(world.container().state().waiting().message(), HasSubstr("no nftables"));
  EXPECT_TRUE(world.SawEvent("Failed", "the network policies of the pod are not in force"));
  world.Advance(seconds(11));
  ASSERT_EQ(world.traffic.waiting.size(), 2u);
  world.traffic.waiting[1](Result<>());
  world.executor.RunUntilIdle();
  EXPECT_EQ(world.status().phase(), "Running");
  // What nothing uses any more is free.
  world.Run({World::Deleted(*pod, 0)});
  world.Run({});
  world.Advance(seconds(5));
  EXPECT_THAT(world.traffic.addresses, Not(Contains(::testing::Key("uid-web"))));
}

TEST_F(PodWorkerTest, APodThatGoesDoesNotWaitForRules) {
  world.traffic.admits = false;
  auto pod = World::MakePod(kWeb);
  world.Run({pod});
  world.Run({World::Deleted(*pod, 0)});
  EXPECT_THAT(world.gone, ElementsAre("web"));
  world.traffic.waiting[0](Result<>());
  world.executor.RunUntilIdle();
  EXPECT_EQ(Starts("web"), 0u);
}

TEST_F(PodWorkerTest, SaysNothingTwice) {
  auto pod = World::MakePod(kWeb);
  world.Run({pod});
  int reports = world.reports;
  // The status comes back from the API; nothing of it is news.
  auto echo = std::make_shared<k8s::core::v1::Pod>(*pod);
  *echo->mutable_status() = world.status();
  world.Run({echo});
  world.Advance(minutes(30));
  EXPECT_EQ(world.reports, reports);
  EXPECT_EQ(world.cri.containers().size(), 1u);
}

TEST_F(PodWorkerTest, RestartsWithDoublingBackOff) {
  world.Run({World::MakePod(kWeb)});
  world.cri.Exit(world.cri.Newest("web").id, 1);
  world.executor.RunUntilIdle();
  EXPECT_EQ(Starts("web"), 2u) << "the first restart is at once";
  EXPECT_EQ(world.container().restart_count(), 1);
  EXPECT_EQ(world.container().last_state().terminated().exit_code(), 1);

  world.cri.Exit(world.cri.Newest("web").id, 1);
  world.executor.RunUntilIdle();
  EXPECT_EQ(Starts("web"), 2u);
  EXPECT_EQ(world.container().state().waiting().reason(), "CrashLoopBackOff");
  EXPECT_EQ(world.container().state().waiting().message(),
            "back-off 10s restarting failed container=web pod=web_default(uid-web)");
  EXPECT_TRUE(world.SawEvent("BackOff", "Back-off restarting failed container web in pod"));
  world.Advance(seconds(9));
  EXPECT_EQ(Starts("web"), 2u);
  world.Advance(seconds(2));
  EXPECT_EQ(Starts("web"), 3u);

  world.cri.Exit(world.cri.Newest("web").id, 1);
  world.Advance(seconds(19));
  EXPECT_EQ(Starts("web"), 3u);
  EXPECT_THAT(world.container().state().waiting().message(), HasSubstr("back-off 20s"));
  world.Advance(seconds(2));
  EXPECT_EQ(Starts("web"), 4u);

  // Ten quiet minutes are forgiven.
  world.Advance(minutes(11));
  world.cri.Exit(world.cri.Newest("web").id, 1);
  world.executor.RunUntilIdle();
  EXPECT_EQ(Starts("web"), 5u);
}

TEST_F(PodWorkerTest, KeepsOneDeadRunOfEachContainer) {
  world.Run({World::MakePod(kWeb)});
  for (int i = 0; i < 5; ++i) {
    world.cri.Exit(world.cri.Newest("web").id, 1);
    world.Advance(minutes(6));
  }
  EXPECT_EQ(world.container().restart_count(), 5);
  EXPECT_EQ(world.cri.containers().size(), 2u);
}

TEST_F(PodWorkerTest, StopsWithGraceAndLeavesNothing) {
  auto pod = World::MakePod(kWeb);
  world.Run({pod});
  world.cri.ClearCalls();
  std::string container = world.cri.Newest("web").id;
  std::string sandbox = world.cri.sandboxes()[0].id;
  world.Run({World::Deleted(*pod, 12)});
  EXPECT_THAT(world.cri.calls(),
              ElementsAre("StopContainer web 12", "StopPodSandbox " + sandbox,
                          "RemoveContainer " + container, "StopPodSandbox " + sandbox,
                          "RemovePodSandbox " + sandbox));
  EXPECT_TRUE(world.SawEvent("Killing", "Stopping container web"));
  EXPECT_THAT(world.gone, ElementsAre("web"));
  EXPECT_THAT(world.cri.containers(), IsEmpty());
  EXPECT_THAT(world.cri.sandboxes(), IsEmpty());
  EXPECT_FALSE(PathExists(world.pod_dir("uid-web")));
  EXPECT_THAT(world.cgroups.cgroups, IsEmpty());
  EXPECT_EQ(world.workers->size(), 1u) << "until the object is gone, nobody may reuse the uid";
  world.Run({});
  EXPECT_EQ(world.workers->size(), 0u);
}

TEST_F(PodWorkerTest, StopsAPodWhoseObjectVanished) {
  world.Run({World::MakePod(kWeb)});
  world.Run({});
  EXPECT_THAT(world.cri.sandboxes(), IsEmpty());
  EXPECT_EQ(world.workers->size(), 0u);
  EXPECT_THAT(world.gone, IsEmpty()) << "there is no object to report on";
}

TEST_F(PodWorkerTest, StopsWhatNobodyWants) {
  world.Run({World::MakePod(kWeb)});
  world.RestartAgent();
  world.Run({});
  EXPECT_THAT(world.cri.sandboxes(), IsEmpty());
  EXPECT_THAT(world.cri.containers(), IsEmpty());
}

TEST_F(PodWorkerTest, RemovesWhatACrashLeftOfForgottenPods) {
  ASSERT_TRUE(MakeDirectories(world.pod_dir("uid-old") + "/volumes").ok());
  world.cgroups.cgroups["/kubepods/poduid-older"] = {};
  world.Run({World::MakePod(kWeb)});
  EXPECT_FALSE(PathExists(world.pod_dir("uid-old")));
  EXPECT_TRUE(PathExists(world.pod_dir("uid-web")));
  EXPECT_THAT(world.cgroups.Children("/kubepods"), IsEmpty());
}

TEST_F(PodWorkerTest, LooksForLeftoversOnceInAWhile) {
  auto pod = World::MakePod(kWeb);
  world.Run({pod});
  ASSERT_TRUE(MakeDirectories(world.pod_dir("uid-old")).ok());
  world.Run({pod});
  EXPECT_TRUE(PathExists(world.pod_dir("uid-old")));
  world.Advance(PodWorkers::kOrphanPause);
  world.Run({pod});
  EXPECT_FALSE(PathExists(world.pod_dir("uid-old")));
}

TEST_F(PodWorkerTest, AdoptsRunningPodsWithoutTouchingThem) {
  auto pod = World::MakePod(
      R"(spec { containers { name: "web" image: "nginx:1"
                             readiness_probe { handler { tcp_socket { port { int_val: 80 } } } } } })");
  world.Run({pod});
  world.Advance(seconds(1));
  ASSERT_EQ(world.condition("Ready"), "True");
  *pod->mutable_status() = world.status();
  world.cri.ClearCalls();
  world.RestartAgent();
  world.Run({pod});
  EXPECT_THAT(world.cri.calls(), IsEmpty());
  EXPECT_EQ(world.condition("Ready"), "True") << "a restart of the agent is no reason to flap";
  EXPECT_EQ(world.container().restart_count(), 0);
}

TEST_F(PodWorkerTest, BringsPodsBackAfterAReboot) {
  auto pod = World::MakePod(
      R"(spec { init_containers { name: "setup" image: "init:1" }
                containers { name: "web" image: "nginx:1" } })");
  world.Run({pod});
  world.cri.Exit(world.cri.Newest("setup").id, 0);
  world.executor.RunUntilIdle();
  ASSERT_EQ(world.status().phase(), "Running");
  *pod->mutable_status() = world.status();
  world.StopWorkers();
  world.cri.Reboot();
  world.StartWorkers();
  world.Run({pod});
  // A new sandbox begins with the init containers.
  ASSERT_EQ(world.cri.sandboxes().back().config.metadata().attempt(), 1u);
  EXPECT_EQ(world.cri.Newest("setup").state, cri::CONTAINER_RUNNING);
  EXPECT_EQ(world.cri.Newest("web").state, cri::CONTAINER_EXITED);
  world.cri.Exit(world.cri.Newest("setup").id, 0);
  world.executor.RunUntilIdle();
  EXPECT_EQ(world.cri.Newest("web").state, cri::CONTAINER_RUNNING);
  EXPECT_EQ(world.container().restart_count(), 1);
  EXPECT_TRUE(world.SawEvent("SandboxChanged", "re-created"));
}

TEST_F(PodWorkerTest, CountsRunsByTheirLogsWhereTheRuntimeKeptNoRecord) {
  auto pod = World::MakePod(kWeb);
  std::string logs = world.Context().log_dir + "/" + LogDirectoryName(*pod) + "/web";
  ASSERT_TRUE(MakeDirectories(logs).ok());
  for (const char* name : {"0.log", "2.log.20260101-000000", "10.tmp", "x.log"}) {
    ASSERT_TRUE(WriteFileAtomic(logs + "/" + name, "").ok());
  }
  world.Run({pod});
  EXPECT_EQ(world.container().restart_count(), 3);
}

TEST_F(PodWorkerTest, InitContainersRunInOrderBeforeTheOthers) {
  world.Run({World::MakePod(
      R"(spec { init_containers { name: "one" image: "init:1" }
                init_containers { name: "two" image: "init:1" }
                containers { name: "web" image: "nginx:1" } })")});
  EXPECT_EQ(Starts("one"), 1u);
  EXPECT_EQ(Starts("two"), 0u);
  EXPECT_EQ(world.status().phase(), "Pending");
  EXPECT_EQ(world.container().state().waiting().reason(), "PodInitializing");
  EXPECT_EQ(world.condition("Initialized"), "False");
  world.cri.Exit(world.cri.Newest("one").id, 0);
  world.executor.RunUntilIdle();
  EXPECT_EQ(Starts("two"), 1u);
  EXPECT_EQ(Starts("web"), 0u);
  world.cri.Exit(world.cri.Newest("two").id, 1);
  world.Advance(seconds(1));
  EXPECT_EQ(Starts("two"), 2u) << "a failed one is tried again";
  world.cri.Exit(world.cri.Newest("two").id, 0);
  world.executor.RunUntilIdle();
  EXPECT_EQ(Starts("web"), 1u);
  EXPECT_EQ(world.condition("Initialized"), "True");
  EXPECT_EQ(world.status().phase(), "Running");
}

TEST_F(PodWorkerTest, SidecarsStartFirstStayAndStopLast) {
  auto pod = World::MakePod(
      R"(spec { init_containers { name: "proxy" image: "init:1" restart_policy: "Always" }
                containers { name: "web" image: "nginx:1" } })");
  world.Run({pod});
  EXPECT_EQ(world.cri.CountRunning(), 2u);
  EXPECT_EQ(world.cri.containers()[0].config.metadata().name(), "proxy");
  EXPECT_TRUE(world.status().init_container_statuses(0).started());
  world.cri.ClearCalls();
  world.Run({World::Deleted(*pod, 5)});
  auto calls = world.cri.calls();
  auto web = std::find(calls.begin(), calls.end(), "StopContainer web 5");
  auto proxy = std::find(calls.begin(), calls.end(), "StopContainer proxy 5");
  ASSERT_NE(web, calls.end());
  ASSERT_NE(proxy, calls.end());
  EXPECT_LT(web, proxy);
}

TEST_F(PodWorkerTest, ACompletedPodStaysCompleted) {
  auto pod = World::MakePod(
      R"(spec { restart_policy: "OnFailure" containers { name: "web" image: "nginx:1" } })");
  world.Run({pod});
  world.cri.Exit(world.cri.Newest("web").id, 0);
  world.executor.RunUntilIdle();
  EXPECT_EQ(world.status().phase(), "Succeeded");
  EXPECT_EQ(world.container().state().terminated().reason(), "Completed");
  EXPECT_FALSE(world.cri.sandboxes()[0].ready) << "its address is free again";
  EXPECT_EQ(world.cri.containers().size(), 1u) << "its logs stay";
  *pod->mutable_status() = world.status();
  world.RestartAgent();
  world.Run({pod});
  EXPECT_EQ(Starts("web"), 1u);
  EXPECT_EQ(world.status().phase(), "Succeeded");
}

TEST_F(PodWorkerTest, NeverMeansNever) {
  world.Run({World::MakePod(
      R"(spec { restart_policy: "Never" containers { name: "web" image: "nginx:1" }
                containers { name: "other" image: "init:1" } })")});
  world.cri.Exit(world.cri.Newest("web").id, 3);
  world.executor.RunUntilIdle();
  EXPECT_EQ(world.status().phase(), "Running") << "the other one still runs";
  EXPECT_EQ(Starts("web"), 1u);
  world.cri.Exit(world.cri.Newest("other").id, 0);
  world.executor.RunUntilIdle();
  EXPECT_EQ(world.status().phase(), "Failed");
  EXPECT_EQ(world.container().state().terminated().exit_code(), 3);
}

TEST_F(PodWorkerTest, AMissingImageBacksOff) {
  world.Run({World::MakePod(R"(spec { containers { name: "web" image: "missing:1" } })")});
  EXPECT_EQ(world.container().state().waiting().reason(), "ErrImagePull");
  EXPECT_TRUE(world.SawEvent("Failed", "Failed to pull image \"missing:1\": missing:1 not found"));
  EXPECT_TRUE(world.SawEvent("Failed", "Error: ErrImagePull"));
  world.Advance(seconds(2));
  EXPECT_EQ(world.container().state().waiting().reason(), "ImagePullBackOff");
  EXPECT_TRUE(world.SawEvent("BackOff", "Back-off pulling image \"missing:1\""));
  world.cri.AddRemoteImage("missing:1");
  world.Advance(seconds(9));
  EXPECT_EQ(world.status().phase(), "Running");
}

TEST_F(PodWorkerTest, NeverPullsAgainstThePolicy) {
  world.Run({World::MakePod(
      R"(spec { containers { name: "web" image: "nginx:1" image_pull_policy: "Never" } })")});
  EXPECT_EQ(world.container().state().waiting().reason(), "ErrImageNeverPull");
  EXPECT_THAT(world.cri.calls(), Not(Contains("PullImage nginx:1")));
}

TEST_F(PodWorkerTest, RefusesBadImageNames) {
  world.Run({World::MakePod(R"(spec { containers { name: "web" image: "Not/Lower" } })")});
  EXPECT_EQ(world.container().state().waiting().reason(), "InvalidImageName");
}

TEST_F(PodWorkerTest, WaitsForAConfigMapAndStartsWhenItComes) {
  world.Run({World::MakePod(
      R"(spec { containers { name: "web" image: "nginx:1"
                env_from { config_map_ref { local_object_reference { name: "settings" } } } } })")});
  EXPECT_EQ(world.container().state().waiting().reason(), "CreateContainerConfigError");
  EXPECT_EQ(world.container().state().waiting().message(), "configmap \"settings\" not found");
  auto map = std::make_shared<k8s::core::v1::ConfigMap>();
  (*map->mutable_data())["COLOR"] = "green";
  world.objects.config_maps["default/settings"] = map;
  world.workers->ObjectChanged("ConfigMap", "default", "settings");
  world.executor.RunUntilIdle();
  EXPECT_EQ(world.status().phase(), "Running");
  EXPECT_EQ(world.cri.Newest("web").config.envs(0).value(), "green");
}

TEST_F(PodWorkerTest, MountsWaitForTheirObjectAndFollowIt) {
  auto pod = World::MakePod(
      R"(spec { volumes { name: "conf" volume_source { config_map {
                  local_object_reference { name: "settings" } } } }
                containers { name: "web" image: "nginx:1"
                  volume_mounts { name: "conf" mount_path: "/etc/app" } } })");
  world.Run({pod});
  EXPECT_TRUE(world.SawEvent("FailedMount",
                             "MountVolume.SetUp failed for volume \"conf\" : configmap "
                             "\"settings\" not found"));
  EXPECT_THAT(world.cri.sandboxes(), IsEmpty());
  auto map = std::make_shared<k8s::core::v1::ConfigMap>();
  (*map->mutable_data())["a.conf"] = "1";
  world.objects.config_maps["default/settings"] = map;
  world.workers->ObjectChanged("ConfigMap", "default", "settings");
  world.executor.RunUntilIdle();
  EXPECT_EQ(world.status().phase(), "Running");
  std::string file = world.pod_dir("uid-web") + "/volumes/kubernetes.io~configmap/conf/a.conf";
  EXPECT_EQ(ReadFile(file).value(), "1");

  auto next = std::make_shared<k8s::core::v1::ConfigMap>(*map);
  (*next->mutable_data())["a.conf"] = "2";
  world.objects.config_maps["default/settings"] = next;
  world.workers->ObjectChanged("ConfigMap", "default", "settings");
  world.executor.RunUntilIdle();
  EXPECT_EQ(ReadFile(file).value(), "2");
}

TEST_F(PodWorkerTest, AFailedSandboxIsTriedAgain) {
  world.cri.Fail("RunPodSandbox", grpc::Status(grpc::StatusCode::INTERNAL, "no address left"), 2);
  world.Run({World::MakePod(kWeb)});
  EXPECT_TRUE(
      world.SawEvent("FailedCreatePodSandBox", "Failed to create pod sandbox: no address left"));
  world.Advance(seconds(4));
  EXPECT_EQ(world.status().phase(), "Running");
}

TEST_F(PodWorkerTest, ASandboxThatKeepsDyingIsMadeEverLater) {
  world.Run({World::MakePod(kWeb)});
  for (int i = 0; i < 100; ++i) {
    world.cri.Reboot();
    world.workers->WakeAll();
    world.Advance(seconds(1));
  }
  EXPECT_LE(world.cri.sandboxes().back().config.metadata().attempt(), 9u);
  world.Advance(minutes(2));
  EXPECT_EQ(world.status().phase(), "Running");
}

TEST_F(PodWorkerTest, AFailedStartIsACrash) {
  world.cri.Fail("StartContainer", grpc::Status(grpc::StatusCode::UNKNOWN, "exec: no such file"));
  world.Run({World::MakePod(kWeb)});
  EXPECT_EQ(world.container().state().waiting().reason(), "RunContainerError");
  EXPECT_EQ(world.container().state().waiting().message(), "exec: no such file");
  world.Advance(seconds(11));
  EXPECT_EQ(world.status().phase(), "Running");
  EXPECT_EQ(world.container().restart_count(), 1);
  EXPECT_EQ(world.container().last_state().terminated().exit_code(), 128);
}

TEST_F(PodWorkerTest, AFailedStopIsTriedAgain) {
  auto pod = World::MakePod(kWeb);
  world.Run({pod});
  world.cri.Fail("StopContainer", grpc::Status(grpc::StatusCode::UNAVAILABLE, "busy"));
  world.cri.Fail("StopPodSandbox", grpc::Status(grpc::StatusCode::UNAVAILABLE, "busy"));
  world.cri.Fail("RemovePodSandbox", grpc::Status(grpc::StatusCode::UNAVAILABLE, "busy"));
  world.Run({World::Deleted(*pod, 5)});
  EXPECT_THAT(world.gone, IsEmpty());
  world.Advance(seconds(20));
  EXPECT_THAT(world.gone, ElementsAre("web"));
  EXPECT_THAT(world.cri.sandboxes(), IsEmpty());
}

TEST_F(PodWorkerTest, AFailedLivenessProbeRestarts) {
  world.Run({World::MakePod(
      R"(spec { containers { name: "web" image: "nginx:1"
                  liveness_probe { handler { http_get { port { int_val: 80 } } }
                                   period_seconds: 5 failure_threshold: 2 } } })")});
  world.Advance(seconds(30));
  EXPECT_EQ(Starts("web"), 1u);
  world.probes.answer = {ProbeOutcome::Kind::kFailure, "HTTP probe failed with statuscode: 500"};
  world.Advance(seconds(11));
  EXPECT_TRUE(
      world.SawEvent("Unhealthy", "Liveness probe failed: HTTP probe failed with statuscode: 500"));
  EXPECT_TRUE(world.SawEvent("Killing", "Container web failed liveness probe, will be restarted"));
  EXPECT_EQ(Starts("web"), 2u);
  EXPECT_EQ(world.container().last_state().terminated().exit_code(), 143);
}

TEST_F(PodWorkerTest, ReadinessFollowsItsProbe) {
  world.probes.answer = {ProbeOutcome::Kind::kFailure, "refused"};
  world.Run({World::MakePod(
      R"(spec { containers { name: "web" image: "nginx:1"
                  readiness_probe { handler { tcp_socket { port { int_val: 80 } } }
                                    period_seconds: 2 failure_threshold: 1 } } })")});
  EXPECT_EQ(world.status().phase(), "Running");
  EXPECT_EQ(world.condition("Ready"), "False");
  world.probes.answer = {ProbeOutcome::Kind::kSuccess, ""};
  world.Advance(seconds(3));
  EXPECT_EQ(world.condition("Ready"), "True");
  world.probes.answer = {ProbeOutcome::Kind::kFailure, "refused"};
  world.Advance(seconds(3));
  EXPECT_EQ(world.condition("Ready"), "False");
  EXPECT_EQ(Starts("web"), 1u);
}

TEST_F(PodWorkerTest, PreStopRunsBeforeTheSignal) {
  auto pod = World::MakePod(
      R"(spec { containers { name: "web" image: "nginx:1"
                  lifecycle { pre_stop { exec { command: "drain" } } } } })");
  world.Run({pod});
  world.cri.ClearCalls();
  world.Run({World::Deleted(*pod, 20)});
  auto calls = world.cri.calls();
  ASSERT_GE(calls.size(), 2u);
  EXPECT_EQ(calls[0], "ExecSync drain");
  EXPECT_EQ(calls[1], "StopContainer web 20");
}

TEST_F(PodWorkerTest, AFailedPostStartHookKillsTheContainer) {
  world.cri.OnExec([](const cri::ExecSyncRequest&, cri::ExecSyncResponse* response) {
    response->set_exit_code(1);
    return grpc::Status::OK;
  });
  world.Run({World::MakePod(
      R"(spec { containers { name: "web" image: "nginx:1"
                  lifecycle { post_start { exec { command: "warm" } } } } })")});
  EXPECT_TRUE(world.SawEvent("FailedPostStartHook", "PostStartHook failed"));
  EXPECT_EQ(world.container().state().waiting().reason(), "PostStartHookError");
  EXPECT_EQ(world.cri.CountRunning(), 0u);
}

TEST_F(PodWorkerTest, TheDeadlineFailsThePod) {
  world.Run({World::MakePod(
      R"(spec { active_deadline_seconds: 60 containers { name: "web" image: "nginx:1" } })")});
  world.Advance(seconds(61));
  EXPECT_EQ(world.status().phase(), "Failed");
  EXPECT_EQ(world.status().reason(), "DeadlineExceeded");
  EXPECT_EQ(world.cri.CountRunning(), 0u);
}

TEST_F(PodWorkerTest, ANewImageRestartsTheContainer) {
  auto pod = World::MakePod(kWeb);
  world.Run({pod});
  auto changed = std::make_shared<k8s::core::v1::Pod>(*pod);
  changed->mutable_metadata()->set_generation(2);
  changed->mutable_spec()->mutable_containers(0)->set_image("nginx:2");
  world.Run({changed});
  EXPECT_EQ(Starts("web"), 2u);
  EXPECT_EQ(world.container().image(), "nginx:2");
  EXPECT_EQ(world.status().observed_generation(), 2);
}

TEST_F(PodWorkerTest, RefusesNamesThatWouldLeaveItsDirectories) {
  auto pod = World::MakePod(kWeb);
  pod->mutable_metadata()->set_uid("../../etc");
  world.Run({pod});
  EXPECT_THAT(world.cri.calls(), IsEmpty());
}

}  // namespace
}  // namespace skiff::agent

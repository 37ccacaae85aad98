// The feed, reports and tunnels, against the API in memory.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/streaming/stream_pair.h"
#include "control-plane/api/testing/fake_client.h"
#include "control-plane/rpc/held_requests.h"
#include "control-plane/rpc/node_feed.h"
#include "control-plane/rpc/node_reports.h"
#include "control-plane/rpc/pod_references.h"
#include "control-plane/rpc/pod_status.h"
#include "control-plane/rpc/test_objects.h"
#include "control-plane/rpc/tunnel.h"
#include "proto/k8s/coordination/v1/coordination.pb.h"
#include "proto/k8s/core/v1/config.pb.h"
#include "proto/k8s/core/v1/event.pb.h"
#include "proto/k8s/core/v1/node.pb.h"
#include "proto/k8s/core/v1/pod.pb.h"
#include "proto/k8s/core/v1/service.pb.h"
#include "proto/k8s/networking/v1/networking.pb.h"
#include "proto/k8s/node/v1/node.pb.h"
#include "proto/skiff/node/v1/node.pb.h"

namespace skiff::cp {
namespace {

namespace core = k8s::core::v1;
using std::chrono::seconds;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::UnorderedElementsAre;

core::Pod MakePod(const std::string& name, const std::string& node) {
  core::Pod pod;
  pod.mutable_metadata()->set_name(name);
  pod.mutable_metadata()->set_namespace_("default");
  pod.mutable_spec()->set_node_name(node);
  return pod;
}

template <class T>
T Named(const std::string& name) {
  T object;
  object.mutable_metadata()->set_name(name);
  object.mutable_metadata()->set_namespace_("default");
  return object;
}

void UseSecretInEnv(core::Pod* pod, const std::string& secret) {
  pod->mutable_spec()
      ->add_containers()
      ->add_env()
      ->mutable_value_from()
      ->mutable_secret_key_ref()
      ->mutable_local_object_reference()
      ->set_name(secret);
}

class ApiTest : public testing::Test {
 protected:
  ManualExecutor executor;
  FakeClient client{executor.clock()};
};

// ---- what nodes are told ----

TEST(PodReferencesTest, EveryPlaceIsFound) {
  core::PodSpec spec;
  auto* container = spec.add_containers();
  auto* env = container->add_env()->mutable_value_from();
  env->mutable_secret_key_ref()->mutable_local_object_reference()->set_name("s-env");
  env = container->add_env()->mutable_value_from();
  env->mutable_config_map_key_ref()->mutable_local_object_reference()->set_name("c-env");
  container->add_env_from()->mutable_secret_ref()->mutable_local_object_reference()->set_name(
      "s-from");
  spec.add_init_containers()
      ->add_env_from()
      ->mutable_config_map_ref()
      ->mutable_local_object_reference()
      ->set_name("c-init");
  spec.add_volumes()->mutable_volume_source()->mutable_secret()->set_secret_name("s-volume");
  spec.add_volumes()
      ->mutable_volume_source()
      ->mutable_config_map()
      ->mutable_local_object_reference()
      ->set_name("c-volume");
  auto* projected = spec.add_volumes()->mutable_volume_source()->mutable_projected();
  projected->add_sources()->mutable_secret()->mutable_local_object_reference()->set_name("s-proj");
  projected->add_sources()->mutable_config_map()->mutable_local_object_reference()->set_name(
      "c-proj");
  spec.add_image_pull_secrets()->set_name("s-pull");
  spec.set_runtime_class_name("r");
  PodReferences found = ReferencesOf(spec);
  EXPECT_THAT(found.secrets,
              UnorderedElementsAre("s-env", "s-from", "s-volume", "s-proj", "s-pull"));
  EXPECT_THAT(found.config_maps, UnorderedElementsAre("c-env", "c-init", "c-volume", "c-proj"));
  EXPECT_THAT(found.runtime_classes, UnorderedElementsAre("r"));
}

class FeedTest : public ApiTest {
 protected:
  FeedTest() {
    feed->Start();
    executor.RunUntilIdle();
  }
  ~FeedTest() override { feed->Stop(); }

  // Everything there is to send: "Pod default/web", "-Secret default/s", then "mark".
  std::vector<std::string> Take(const std::string& node = "n1") {
    executor.RunUntilIdle();
    std::vector<std::string> taken;
    while (auto item = feed->Next(node)) {
      taken.push_back((item->deleted ? "-" : "") + std::string(FeedKindName(item->kind)) + " " +
                      (item->ns.empty() ? "" : item->ns + "/") + item->name);
    }
    if (auto position = feed->NextMark(node)) {
      marked = *position;
      taken.push_back("mark");
    }
    return taken;
  }
  bool Connect(int64_t position, const std::string& node = "n1") {
    return feed->Connect(node, position, [this] { ++wakes; });
  }

  Strand strand{executor};
  std::shared_ptr<NodeFeed> feed = std::make_shared<NodeFeed>(client, strand);
  int64_t marked = 0;
  int wakes = 0;
};

TEST_F(FeedTest, NodeIsToldOfItsShareOnly) {
  ASSERT_TRUE(client.Create(MakeNode("n1")).ok());
  core::Pod pod = MakePod("web", "n1");
  UseSecretInEnv(&pod, "mine");
  ASSERT_TRUE(client.Create(pod).ok());
  ASSERT_TRUE(client.Create(MakePod("other", "n2")).ok());
  ASSERT_TRUE(client.Create(MakePod("pending", "")).ok());
  ASSERT_TRUE(client.Create(Named<core::Secret>("mine")).ok());
  ASSERT_TRUE(client.Create(Named<core::Secret>("theirs")).ok());
  ASSERT_TRUE(client.Create(Named<core::Service>("svc")).ok());
  executor.RunUntilIdle();
  ASSERT_TRUE(feed->ready());
  EXPECT_TRUE(Connect(0));
  EXPECT_THAT(Take(), ElementsAre("Node n1", "Secret default/mine", "Service default/svc",
                                  "Pod default/web", "mark"));
  EXPECT_THAT(Take(), IsEmpty());
}

TEST_F(FeedTest, ARuntimeClassIsToldWhereAPodNamesIt) {
  for (const char* name : {"sandboxed", "unused"}) {
    ::k8s::node::v1::RuntimeClass runtime_class;
    runtime_class.mutable_metadata()->set_name(name);
    ASSERT_TRUE(client.Create(runtime_class).ok());
  }
  core::Pod pod = MakePod("web", "n1");
  pod.mutable_spec()->set_runtime_class_name("sandboxed");
  ASSERT_TRUE(client.Create(pod).ok());
  executor.RunUntilIdle();
  EXPECT_TRUE(Connect(0));
  EXPECT_THAT(Take(), ElementsAre("RuntimeClass sandboxed", "Pod default/web", "mark"));
  client.Remove(pod, "default", "web");
  EXPECT_THAT(Take(), ElementsAre("-RuntimeClass sandboxed", "-Pod default/web", "mark"));
}

// Policies and what they name come before the pods that they are about, in the same state.
TEST_F(FeedTest, PoliciesComeBeforeTheirPods) {
  auto policy = Named<k8s::networking::v1::NetworkPolicy>("p");
  policy.mutable_spec()->add_policy_types("Ingress");
  auto& peer = *policy.mutable_spec()->add_ingress()->add_from()->mutable_pod_selector();
  (*peer.mutable_match_labels())["app"] = "client";
  ASSERT_TRUE(client.Create(policy).ok());
  core::Pod peer_pod = MakePod("client", "n2");
  (*peer_pod.mutable_metadata()->mutable_labels())["app"] = "client";
  ASSERT_TRUE(client.Create(peer_pod).ok());
  peer_pod.mutable_status()->set_pod_ip("10.0.0.1");
  ASSERT_TRUE(client.UpdateStatus(peer_pod).ok());
  executor.RunUntilIdle();
  EXPECT_TRUE(Connect(0));
  EXPECT_THAT(Take(), ElementsAre("mark")) << "no pod, no policy";
  ASSERT_TRUE(client.Create(MakePod("web", "n1")).ok());
  std::vector<std::string> taken = Take();
  ASSERT_EQ(taken.size(), 4u);
  EXPECT_TRUE(taken[0].starts_with("AddressSet ")) << taken[0];
  EXPECT_EQ(taken[1], "NetworkPolicy default/p");
  EXPECT_EQ(taken[2], "Pod default/web");
  client.Remove(peer_pod, "default", "client");
  EXPECT_THAT(Take(), ElementsAre("-" + taken[0], "mark"));
  client.Remove(policy, "default", "p");
  EXPECT_THAT(Take(), ElementsAre("-NetworkPolicy default/p", "mark"));
}

TEST_F(FeedTest, ChangesWakeAndCoalesce) {
  ASSERT_TRUE(client.Create(MakePod("web", "n1")).ok());
  executor.RunUntilIdle();
  Connect(0);
  Take();
  for (int i = 0; i < 3; ++i) {
    auto pod = client.Get<core::Pod>("default", "web").value();
    core::Pod changed = *pod;
    (*changed.mutable_metadata()->mutable_labels())["round"] = std::to_string(i);
    ASSERT_TRUE(client.Update(changed).ok());
  }
  executor.RunUntilIdle();
  EXPECT_EQ(wakes, 1);
  EXPECT_THAT(Take(), ElementsAre("Pod default/web", "mark"));
}

TEST_F(FeedTest, OwnReportsDoNotComeBack) {
  auto created = client.Create(MakePod("web", "n1")).value();
  executor.RunUntilIdle();
  Connect(0);
  Take();
  core::Pod reported = *created;
  reported.mutable_status()->set_pod_ip("10.244.0.2");
  auto* ready = reported.mutable_status()->add_conditions();
  ready->set_type("Ready");
  ready->set_status("True");
  auto stored = client.UpdateStatus(reported).value();
  EXPECT_THAT(Take(), IsEmpty());
  // What others say of the pod does.
  core::Pod gated = *stored;
  auto* gate = gated.mutable_status()->add_conditions();
  gate->set_type("example.com/ready");
  gate->set_status("True");
  ASSERT_TRUE(client.UpdateStatus(gated).ok());
  EXPECT_THAT(Take(), ElementsAre("Pod default/web", "mark"));
}

TEST_F(FeedTest, SecretsComeAndGoWithThePodsThatNameThem) {
  ASSERT_TRUE(client.Create(Named<core::Secret>("s")).ok());
  executor.RunUntilIdle();
  Connect(0);
  EXPECT_THAT(Take(), ElementsAre("mark"));
  core::Pod pod = MakePod("a", "n1");
  UseSecretInEnv(&pod, "s");
  ASSERT_TRUE(client.Create(pod).ok());
  pod.mutable_metadata()->set_name("b");
  ASSERT_TRUE(client.Create(pod).ok());
  EXPECT_THAT(Take(), ElementsAre("Secret default/s", "Pod default/a", "Pod default/b", "mark"));
  client.Remove(core::Pod::default_instance(), "default", "a");
  EXPECT_THAT(Take(), ElementsAre("-Pod default/a", "mark"));
  client.Remove(core::Pod::default_instance(), "default", "b");
  EXPECT_THAT(Take(), ElementsAre("-Secret default/s", "-Pod default/b", "mark"));
}

TEST_F(FeedTest, ResumeSendsWhatChangedMeanwhile) {
  for (const char* name : {"a", "b", "c"}) {
    ASSERT_TRUE(client.Create(MakePod(name, "n1")).ok());
  }
  executor.RunUntilIdle();
  EXPECT_TRUE(Connect(0));
  Take();
  int64_t before = marked;
  feed->Disconnect("n1");
  client.Remove(core::Pod::default_instance(), "default", "b");
  ASSERT_TRUE(client.Create(MakePod("d", "n1")).ok());
  executor.RunUntilIdle();
  EXPECT_FALSE(Connect(before));
  EXPECT_THAT(Take(), ElementsAre("-Pod default/b", "Pod default/d", "mark"));
  EXPECT_GT(marked, before);
}

TEST_F(FeedTest, WhatWentOutAfterTheMarkIsSentAgain) {
  ASSERT_TRUE(client.Create(MakePod("a", "n1")).ok());
  executor.RunUntilIdle();
  Connect(0);
  Take();
  int64_t before = marked;
  ASSERT_TRUE(client.Create(MakePod("b", "n1")).ok());
  client.Remove(core::Pod::default_instance(), "default", "a");
  EXPECT_THAT(Take(), ElementsAre("-Pod default/a", "Pod default/b", "mark"));
  feed->Disconnect("n1");
  // The node never stored the second mark.
  EXPECT_FALSE(Connect(before));
  EXPECT_THAT(Take(), ElementsAre("-Pod default/a", "Pod default/b", "mark"));
  feed->Disconnect("n1");
  EXPECT_FALSE(Connect(marked));
  EXPECT_THAT(Take(), ElementsAre("mark"));
}

TEST_F(FeedTest, PositionsOfAnotherProcessStartOver) {
  ASSERT_TRUE(client.Create(MakePod("a", "n1")).ok());
  executor.RunUntilIdle();
  EXPECT_TRUE(Connect(12345));
  EXPECT_THAT(Take(), ElementsAre("Pod default/a", "mark"));
  feed->Disconnect("n1");
  EXPECT_TRUE(Connect(marked + 1'000'000'000));  // from the future
}

TEST_F(FeedTest, WatchThatStartsOverLosesNothing) {
  for (const char* name : {"a", "b"}) ASSERT_TRUE(client.Create(MakePod(name, "n1")).ok());
  executor.RunUntilIdle();
  Connect(0);
  Take();
  client.Remove(core::Pod::default_instance(), "default", "a");
  ASSERT_TRUE(client.Create(MakePod("c", "n1")).ok());
  client.ResetWatches();
  EXPECT_THAT(Take(), ElementsAre("-Pod default/a", "Pod default/c", "mark"));
}

TEST_F(FeedTest, StatusOfOtherNodesIsKeptBack) {
  core::Node peer = MakeNode("n2");
  auto* address = peer.mutable_status()->add_addresses();
  address->set_type("InternalIP");
  address->set_address("10.0.0.2");
  auto stored = client.Create(peer).value();
  executor.RunUntilIdle();
  Connect(0);
  auto item = feed->Next("n1").value();
  core::Node seen;
  ASSERT_TRUE(seen.ParseFromString(item.bytes));
  EXPECT_EQ(seen.status().addresses(0).address(), "10.0.0.2");
  Take();
  core::Node beat = *stored;
  beat.mutable_status()->add_conditions()->set_type("Ready");
  ASSERT_TRUE(client.UpdateStatus(beat).ok());
  EXPECT_THAT(Take(), IsEmpty());
}

// ---- what nodes report ----

TEST(PodStatusTest, OthersPartsAreKept) {
  core::PodStatus stored, report;
  auto condition = [](core::PodStatus& status, const char* type, const char* value, int64_t time) {
    auto* added = status.add_conditions();
    added->set_type(type);
    added->set_status(value);
    added->mutable_last_transition_time()->set_seconds(time);
  };
  stored.set_qos_class("Burstable");
  stored.mutable_start_time()->set_seconds(5);
  condition(stored, "PodScheduled", "True", 1);
  condition(stored, "example.com/gate", "True", 2);
  condition(stored, "Ready", "False", 3);
  condition(stored, "ContainersReady", "True", 4);
  condition(report, "Ready", "True", 9);
  condition(report, "ContainersReady", "True", 9);
  report.mutable_start_time()->set_seconds(9);
  core::Node node;
  auto* address = node.mutable_status()->add_addresses();
  address->set_type("InternalIP");
  address->set_address("10.0.0.1");
  core::PodStatus merged = MergePodStatus(stored, report, node);
  std::map<std::string, int64_t> times;
  for (const auto& c : merged.conditions()) times[c.type()] = c.last_transition_time().seconds();
  EXPECT_EQ(
      times,
      (std::map<std::string, int64_t>{
          {"PodScheduled", 1}, {"example.com/gate", 2}, {"Ready", 9}, {"ContainersReady", 4}}));
  EXPECT_EQ(merged.qos_class(), "Burstable");
  EXPECT_EQ(merged.host_ip(), "10.0.0.1");
  EXPECT_EQ(merged.start_time().seconds(), 5);
}

TEST(PodStatusTest, TheEndIsFinal) {
  core::PodStatus stored, report;
  stored.set_phase("Succeeded");
  report.set_phase("Running");
  EXPECT_EQ(MergePodStatus(stored, report, {}).phase(), "Succeeded");
  report.set_phase("Failed");
  EXPECT_EQ(MergePodStatus(stored, report, {}).phase(), "Failed");
}

class ReportsTest : public ApiTest {
 protected:
  ReportsTest() {
    CHECK(client.Create(MakeNode("n1")).ok());
    CHECK(client.Create(MakePod("web", "n1")).ok());
    CHECK(client.Create(MakePod("other", "n2")).ok());
  }
  std::string Uid(const std::string& pod) {
    return client.Get<core::Pod>("default", pod).value()->metadata().uid();
  }
  std::string Phase(const std::string& pod) {
    return client.Get<core::Pod>("default", pod).value()->status().phase();
  }
  core::PodStatus Status(const std::string& phase) {
    core::PodStatus status;
    status.set_phase(phase);
    return status;
  }
  NodeReports reports{client, executor, "n1"};
};

TEST_F(ReportsTest, LatestStatusIsWrittenOnce) {
  reports.ReportPod({"default", "web", Uid("web")}, Status("Pending"));
  reports.ReportPod({"default", "web", Uid("web")}, Status("Running"));
  int before = client.writes();
  executor.RunUntilIdle();
  EXPECT_EQ(Phase("web"), "Running");
  EXPECT_EQ(client.writes(), before + 1);
  // The same again is no write at all.
  reports.ReportPod({"default", "web", Uid("web")}, Status("Running"));
  executor.RunUntilIdle();
  EXPECT_EQ(client.writes(), before + 1);
}

TEST_F(ReportsTest, OnlyOwnAndPresentPods) {
  reports.ReportPod({"default", "other", Uid("other")}, Status("Failed"));
  reports.ReportPod({"default", "web", "an-older-uid"}, Status("Failed"));
  reports.ReportPodGone({"default", "other", Uid("other")});
  executor.RunUntilIdle();
  EXPECT_EQ(Phase("other"), "Pending");
  EXPECT_EQ(Phase("web"), "Pending");
}

TEST_F(ReportsTest, GonePodIsRemovedOnlyWhenItsDeletionWasAskedFor) {
  std::string uid = Uid("web");
  reports.ReportPodGone({"default", "web", uid});
  executor.RunUntilIdle();
  ASSERT_TRUE(client.Get<core::Pod>("default", "web").ok());
  ASSERT_TRUE(client.Delete<core::Pod>("default", "web", {.grace_period_seconds = 30}).ok());
  ASSERT_TRUE(client.Get<core::Pod>("default", "web").ok());
  reports.ReportPod({"default", "web", uid}, Status("Failed"));
  reports.ReportPodGone({"default", "web", uid});
  executor.RunUntilIdle();
  EXPECT_EQ(client.Get<core::Pod>("default", "web").error().code(), Code::kNotFound);
}

TEST_F(ReportsTest, TroubleIsTriedAgainAndOldNewsGiveWay) {
  int failures = 1;
  client.intercept = [&](std::string_view, const Message&) -> std::optional<Error> {
    if (failures-- > 0) return Error(Code::kUnavailable, "the store is away");
    return std::nullopt;
  };
  reports.ReportPod({"default", "web", Uid("web")}, Status("Failed"));
  executor.RunUntilIdle();
  EXPECT_EQ(Phase("web"), "Pending");
  reports.ReportPod({"default", "web", Uid("web")}, Status("Running"));
  executor.Advance(seconds(3));
  EXPECT_EQ(Phase("web"), "Running");
}

TEST_F(ReportsTest, PodsDoNotWaitForEachOtherButEachForItself) {
  ASSERT_TRUE(client.Create(MakePod("db", "n1")).ok());
  std::vector<std::string> written;
  bool busy = false;
  client.intercept = [&](std::string_view, const Message& object) -> std::optional<Error> {
    const auto& pod = static_cast<const core::Pod&>(object);
    if (!std::exchange(busy, true)) {
      // While the first write is under way, newer reports come.
      reports.ReportPod({"default", "web", Uid("web")}, Status("Succeeded"));
      reports.ReportPod({"default", "db", Uid("db")}, Status("Running"));
      executor.RunUntilIdle();
    }
    written.push_back(pod.metadata().name() + " " + pod.status().phase());
    return std::nullopt;
  };
  reports.ReportPod({"default", "web", Uid("web")}, Status("Running"));
  executor.RunUntilIdle();
  EXPECT_EQ(written, (std::vector<std::string>{"db Running", "web Running", "web Succeeded"}));
}

TEST_F(ReportsTest, ConflictIsReadAgain) {
  bool once = true;
  client.intercept = [&](std::string_view verb, const Message&) -> std::optional<Error> {
    if (verb == "update-status" && std::exchange(once, false)) {
      return Error(Code::kConflict, "somebody was faster");
    }
    return std::nullopt;
  };
  reports.ReportPod({"default", "web", Uid("web")}, Status("Running"));
  executor.RunUntilIdle();
  EXPECT_EQ(Phase("web"), "Running");
}

TEST_F(ReportsTest, LeaseIsWrittenNoOftenerThanHalfItsDuration) {
  int before = client.writes();
  for (int i = 0; i < 12; ++i) {  // two minutes of renewals every ten seconds
    reports.RenewLease(40);
    executor.RunUntilIdle();
    executor.Advance(seconds(10));
  }
  auto lease = client.Get<k8s::coordination::v1::Lease>("kube-node-lease", "n1").value();
  EXPECT_EQ(lease->spec().holder_identity(), "n1");
  EXPECT_EQ(lease->metadata().owner_references(0).kind(), "Node");
  EXPECT_EQ(client.writes(), before + 6);
}

TEST_F(ReportsTest, EventsOnlyAboutWhatIsItsOwn) {
  core::Event event = Named<core::Event>("web.1");
  event.mutable_involved_object()->set_kind("Pod");
  event.mutable_involved_object()->set_namespace_("default");
  event.mutable_involved_object()->set_name("web");
  event.set_count(1);
  reports.ReportEvent(event);
  event.set_count(2);
  reports.ReportEvent(event);
  event.mutable_metadata()->set_name("other.1");
  event.mutable_involved_object()->set_name("other");
  reports.ReportEvent(event);
  // Of Services each node may speak; there is none called "other".
  const std::string uid = client.Create(Named<core::Service>("vip")).value()->metadata().uid();
  event.mutable_involved_object()->set_kind("Service");
  reports.ReportEvent(event);
  event.mutable_metadata()->set_name("vip.1");
  event.mutable_involved_object()->set_name("vip");
  reports.ReportEvent(event);
  executor.RunUntilIdle();
  EXPECT_EQ(client.Get<core::Event>("default", "vip.1").value()->involved_object().uid(), uid);
  EXPECT_EQ(client.Get<core::Event>("default", "web.1").value()->count(), 2);
  EXPECT_FALSE(client.Get<core::Event>("default", "other.1").ok());
}

// ---- tunnels ----

class DeskTest : public testing::Test {
 protected:
  std::string Expect() {
    return desk.Expect("n1", [this](TunnelAnswer a) { answer = std::move(a); });
  }
  ManualExecutor executor;
  TunnelDesk desk{executor};
  std::optional<TunnelAnswer> answer;
};

TEST_F(DeskTest, DialOfTheRightNodeIsAccepted) {
  std::string id = Expect();
  auto [ours, theirs] = streaming::MakeStreamPair(executor);
  EXPECT_FALSE(desk.Accept("n2", id, ours));
  EXPECT_FALSE(desk.Accept("n1", "wrong", ours));
  EXPECT_TRUE(desk.Accept("n1", id, ours));
  EXPECT_FALSE(desk.Accept("n1", id, ours));  // good for one dial
  executor.RunUntilIdle();
  EXPECT_EQ(answer->messages, ours);
  EXPECT_EQ(executor.pending_timers(), 0u);
}

TEST_F(DeskTest, SilenceIsATimeout) {
  Expect();
  executor.Advance(seconds(31));
  EXPECT_EQ(answer->http_status, 504);
}

TEST_F(DeskTest, RefusalAndLossReachWhoWaits) {
  desk.Refuse("n1", Expect(), TunnelAnswer::Refused(404, "NotFound", "no such container"));
  executor.RunUntilIdle();
  EXPECT_EQ(answer->http_status, 404);
  Expect();
  desk.RefuseAll("n1", TunnelAnswer::Refused(503, "ServiceUnavailable", "gone"));
  executor.RunUntilIdle();
  EXPECT_EQ(answer->http_status, 503);
}

TEST_F(DeskTest, RequestsForANodeThatIsAwayWaitForItAMoment) {
  HeldRequests held(executor, desk);
  node::v1::TunnelRequest request;
  request.set_tunnel_id(Expect());
  held.Hold("n1", request);
  EXPECT_TRUE(held.Take("n2").empty());
  executor.Advance(seconds(1));
  ASSERT_EQ(held.Take("n1").size(), 1u);
  executor.Advance(HeldRequests::kGrace);
  EXPECT_FALSE(answer.has_value());  // taken: it is the node's to answer now
  request.set_tunnel_id(Expect());
  held.Hold("n1", request);
  executor.Advance(HeldRequests::kGrace);
  ASSERT_TRUE(answer.has_value());
  EXPECT_EQ(answer->http_status, 503);
  EXPECT_EQ(answer->message, "node \"n1\" is not connected");
  EXPECT_TRUE(held.Take("n1").empty());
}

TEST(TunnelTest, FramesAreChannels) {
  ManualExecutor executor;
  auto [ours, theirs] = streaming::MakeStreamPair(executor);
  auto tunnel = Tunnel::Make(executor, ours, 2);
  auto in = tunnel->Attach(0), out = tunnel->Attach(1);
  tunnel->AnnouncePort(80);
  tunnel->Start();
  std::string got;
  theirs->Read([&](Result<std::string> data) { got = data.value(); });
  executor.RunUntilIdle();
  node::v1::TunnelFrame frame;
  ASSERT_TRUE(frame.ParseFromString(got));
  EXPECT_EQ(frame.port(), 80u);
  frame.Clear();
  frame.set_channel(1);
  frame.set_data("hello");
  frame.set_close(true);
  theirs->Write(frame.SerializeAsString(), nullptr);
  std::vector<std::string> read;
  for (int i = 0; i < 2; ++i) {
    out->Read([&](Result<std::string> data) { read.push_back(data.value()); });
    executor.RunUntilIdle();
  }
  EXPECT_THAT(read, ElementsAre("hello", ""));
  tunnel->Abort();
  executor.RunUntilIdle();
}

}  // namespace
}  // namespace skiff::cp

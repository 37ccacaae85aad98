#include "agent/testing/world.h"

// After world.h, which says why.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>
#include <mutex>

#include "agent/probes/pod_prober.h"
#include "agent/probes/tracker.h"
#include "base/http/server.h"

namespace skiff::agent {
namespace {

using std::chrono::seconds;
using ::testing::HasSubstr;
using testing::World;
using Kind = ProbeOutcome::Kind;

TEST(ProbeTrackerTest, ThresholdsCountRunsOfTheSame) {
  ProbeTracker readiness(ProbeKind::kReadiness, 2, 3);
  EXPECT_EQ(readiness.state(), ProbeState::kFailure);
  EXPECT_FALSE(readiness.Add(Kind::kSuccess));
  EXPECT_FALSE(readiness.Add(Kind::kFailure));
  EXPECT_FALSE(readiness.Add(Kind::kSuccess));
  EXPECT_FALSE(readiness.Add(Kind::kUnknown)) << "says nothing either way";
  EXPECT_TRUE(readiness.Add(Kind::kSuccess));
  EXPECT_FALSE(readiness.Add(Kind::kFailure));
  EXPECT_FALSE(readiness.Add(Kind::kFailure));
  EXPECT_EQ(readiness.state(), ProbeState::kSuccess);
  EXPECT_TRUE(readiness.Add(Kind::kFailure));
  EXPECT_EQ(ProbeTracker(ProbeKind::kLiveness, 1, 1).state(), ProbeState::kSuccess);
}

class PodProberTest : public ::testing::Test {
 protected:
  void Start(const std::string& container) {
    pod = World::MakePod("spec { containers { name: \"c\" " + container + " } }");
    PodProber::Deps deps;
    deps.strand = std::shared_ptr<Executor>(&executor, [](Executor*) {});
    deps.runner = &runner;
    deps.on_unhealthy = [this](const std::string&, const std::string& text) {
      unhealthy.push_back(text);
    };
    deps.on_change = [this] { ++changes; };
    prober = PodProber::Make(std::move(deps));
    Update();
  }
  void Update(bool terminating = false) {
    prober->Update(*pod, "10.0.0.1", {{"id", "c", executor.clock().WallNow(), false, false}},
                   terminating);
    executor.RunUntilIdle();
  }
  ManualExecutor executor;
  testing::FakeProbes runner;
  std::shared_ptr<k8s::core::v1::Pod> pod;
  std::shared_ptr<PodProber> prober;
  std::vector<std::string> unhealthy;
  int changes = 0;
};

TEST_F(PodProberTest, OthersWaitForTheStartupProbe) {
  runner.answer = {Kind::kFailure, "not yet"};
  Start(R"(startup_probe { handler { tcp_socket { port { int_val: 80 } } }
                           period_seconds: 2 failure_threshold: 100 }
           liveness_probe { handler { tcp_socket { port { int_val: 80 } } }
                            period_seconds: 1 failure_threshold: 1 }
           readiness_probe { handler { tcp_socket { port { int_val: 80 } } }
                             period_seconds: 3600 })");
  executor.Advance(seconds(60));
  EXPECT_FALSE(prober->HealthOf("id").started);
  EXPECT_EQ(prober->KillMessage("id"), "");
  EXPECT_EQ(runner.runs, 30);
  EXPECT_THAT(unhealthy.back(), HasSubstr("Startup probe failed: not yet"));
  runner.answer = {Kind::kSuccess, ""};
  executor.Advance(seconds(3));
  EXPECT_TRUE(prober->HealthOf("id").started);
  EXPECT_TRUE(prober->HealthOf("id").ready) << "readiness is asked at once, not in an hour";
  int runs = runner.runs;
  executor.Advance(seconds(10));
  EXPECT_EQ(runner.runs, runs + 10) << "the startup probe is over, liveness goes on";
}

TEST_F(PodProberTest, AFailedStartupProbeRestarts) {
  runner.answer = {Kind::kFailure, "no"};
  Start(R"(startup_probe { handler { tcp_socket { port { int_val: 80 } } }
                           period_seconds: 1 failure_threshold: 3
                           termination_grace_period_seconds: 4 })");
  executor.Advance(seconds(10));
  EXPECT_THAT(prober->KillMessage("id"), HasSubstr("failed startup probe"));
  EXPECT_EQ(prober->KillGrace("id"), seconds(4));
  EXPECT_EQ(runner.runs, 3);
}

TEST_F(PodProberTest, TheInitialDelayIsKeptAndATerminatingPodIsOnlyAskedForReadiness) {
  Start(R"(liveness_probe { handler { tcp_socket { port { int_val: 80 } } }
                            initial_delay_seconds: 30 period_seconds: 1 })");
  executor.Advance(seconds(29));
  EXPECT_EQ(runner.runs, 0);
  executor.Advance(seconds(2));
  EXPECT_EQ(runner.runs, 2);
  Update(true);
  executor.Advance(seconds(10));
  EXPECT_EQ(runner.runs, 2);
}

TEST_F(PodProberTest, AMissingPortIsSaid) {
  Start(R"(readiness_probe { handler { http_get { port { type: 1 str_val: "web" } } } })");
  executor.Advance(seconds(2));
  ASSERT_FALSE(unhealthy.empty());
  EXPECT_THAT(unhealthy[0], HasSubstr("couldn't find port: \"web\""));
}

// The real runner against servers on loopback.
class ProbeRunnerTest : public ::testing::Test {
 protected:
  ProbeRunnerTest() {
    auto handler = [](const http::Request& request, const auto& writer) {
      if (request.path == "/slow") return slow_writers().Keep(writer);
      int status = request.path == "/bad" ? 503 : request.path == "/moved" ? 302 : 200;
      if (request.headers.Get("X-Break") == "yes") status = 500;
      writer->Send(http::Response::Text(status, std::string(request.headers.Get("User-Agent"))));
    };
    http::ServerOptions options;
    options.listen = "127.0.0.1:0";
    server = http::Server::Start(options, handler, pool).value();
  }
  ~ProbeRunnerTest() override { slow_writers().Clear(); }
  // What is never answered; kept by the server's threads.
  class SlowWriters {
   public:
    void Keep(std::shared_ptr<http::ResponseWriter> writer) {
      std::lock_guard lock(mutex_);
      writers_.push_back(std::move(writer));
    }
    void Clear() {
      std::lock_guard lock(mutex_);
      writers_.clear();
    }

   private:
    std::mutex mutex_;
    std::vector<std::shared_ptr<http::ResponseWriter>> writers_;
  };
  static SlowWriters& slow_writers() {
    static SlowWriters writers;
    return writers;
  }
  ProbeOutcome Run(const ProbeTarget& target) {
    std::promise<ProbeOutcome> promise;
    runner->Run(target, seconds(1), [&](ProbeOutcome outcome) { promise.set_value(outcome); });
    return promise.get_future().get();
  }
  ProbeOutcome Get(const std::string& path,
                   std::pair<std::string, std::string> header = {"A", "b"}) {
    return Run(HttpProbe{"127.0.0.1", server->port(), path, false, {header}});
  }
  ThreadPool pool{"test", 2};
  testing::FakeCri cri{Clock::Real()};
  CriClient client{cri.stubs()};
  std::unique_ptr<http::Server> server;
  std::unique_ptr<ProbeRunner> runner = MakeProbeRunner(client, pool);
};

TEST_F(ProbeRunnerTest, HttpIsJudgedByItsStatus) {
  EXPECT_EQ(Get("/").kind, Kind::kSuccess);
  EXPECT_EQ(Get("/moved").kind, Kind::kSuccess);
  EXPECT_EQ(Get("/bad").kind, Kind::kFailure);
  EXPECT_EQ(Get("/bad").output, "HTTP probe failed with statuscode: 503");
  EXPECT_EQ(Get("/", {"X-Break", "yes"}).kind, Kind::kFailure);
  ProbeOutcome slow = Get("/slow");
  EXPECT_EQ(slow.kind, Kind::kFailure);
  EXPECT_THAT(slow.output, HasSubstr("context deadline exceeded"));
}

TEST_F(ProbeRunnerTest, RefusedConnectionsAreFailures) {
  int port = server->port();
  EXPECT_EQ(Run(TcpProbe{"127.0.0.1", port}).kind, Kind::kSuccess);
  server.reset();
  ProbeOutcome tcp = Run(TcpProbe{"127.0.0.1", port});
  EXPECT_EQ(tcp.kind, Kind::kFailure);
  EXPECT_EQ(tcp.output,
            "dial tcp 127.0.0.1:" + std::to_string(port) + ": connect: connection refused");
  EXPECT_THAT(Run(HttpProbe{"127.0.0.1", port, "/", false, {}}).output,
              HasSubstr("connect: connection refused"));
}

TEST_F(ProbeRunnerTest, CommandsAreJudgedByTheirExitCode) {
  cri.OnExec(
      [](const ::runtime::v1::ExecSyncRequest& request, ::runtime::v1::ExecSyncResponse* response) {
        if (request.cmd(0) == "hang") {
          return grpc::Status(grpc::StatusCode::DEADLINE_EXCEEDED, "too slow");
        }
        response->set_exit_code(request.cmd(0) == "true" ? 0 : 1);
        response->set_stdout("said");
        return grpc::Status::OK;
      });
  EXPECT_EQ(Run(ExecProbe{"id", {"true"}}).kind, Kind::kSuccess);
  EXPECT_EQ(Run(ExecProbe{"id", {"false"}}).output, "said");
  EXPECT_THAT(Run(ExecProbe{"id", {"hang", "up"}}).output, HasSubstr("\"hang up\" timed out"));
}

}  // namespace
}  // namespace skiff::agent

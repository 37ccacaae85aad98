// Who may open a streaming session: the bearer of a URL, once, and not for long.
#include "cri/streaming_server.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <filesystem>
#include <future>
#include <thread>

#include "base/os/files.h"
#include "base/streaming/client.h"
#include "cri/testing/fake_runtime.h"

namespace skiff::cri {
namespace {

using std::chrono::seconds;
using ::testing::HasSubstr;

class MovableClock : public Clock {
 public:
  SteadyTime Now() const override { return Clock::Real().Now() + ahead_.load(); }
  WallTime WallNow() const override { return Clock::Real().WallNow(); }
  void Advance(seconds by) { ahead_ = ahead_.load() + by; }

 private:
  std::atomic<seconds> ahead_ = seconds(0);
};

// A pool that lives by another clock; its timers keep to the real one.
class PoolOfAnotherTime : public Executor {
 public:
  explicit PoolOfAnotherTime(const Clock& clock) : clock_(clock) {}
  void Post(Closure work) override { pool_.Post(std::move(work)); }
  TimerId PostAfter(std::chrono::nanoseconds delay, Closure work) override {
    return pool_.PostAfter(delay, std::move(work));
  }
  bool Cancel(TimerId id) override { return pool_.Cancel(id); }
  const Clock& clock() const override { return clock_; }

 private:
  const Clock& clock_;
  ThreadPool pool_{"streaming-test", 2};
};

size_t OpenSockets() {
  size_t sockets = 0;
  std::error_code gone;
  const std::vector<std::string> descriptors = ListDirectory("/proc/self/fd").value();
  for (const std::string& fd : descriptors) {
    sockets +=
        std::filesystem::read_symlink("/proc/self/fd/" + fd, gone).string().starts_with("socket");
  }
  return sockets;
}

class StreamingServerTest : public ::testing::Test {
 protected:
  // Until what the clients left is closed at the server's end too.
  void TearDown() override {
    const auto deadline = std::chrono::steady_clock::now() + seconds(30);
    while (OpenSockets() > sockets_ && std::chrono::steady_clock::now() < deadline) {
      std::this_thread::yield();
    }
    EXPECT_LE(OpenSockets(), sockets_);
  }

  std::string OfferExec() {
    return server_->OfferExec({.container_id = "c", .argv = {"true"}}, {.out = true});
  }
  // What comes of the request: empty when the server upgrades the connection.
  std::string Dial(const std::string& url) {
    auto promise = std::make_shared<std::promise<std::string>>();
    streaming::DialExec(io_, pool_, url, streaming::ClientTransport::kWebSocket, {.out = true},
                        seconds(20), [promise](auto session) {
                          promise->set_value(session.ok() ? "" : session.error().ToString());
                        });
    return promise->get_future().get();
  }

  MovableClock clock_;
  PoolOfAnotherTime pool_{clock_};
  streaming::IoThread io_;
  testing::FakeRuntime runtime_;
  std::unique_ptr<StreamingServer> server_ =
      StreamingServer::Start("127.0.0.1:0", runtime_, pool_).value();
  const size_t sockets_ = OpenSockets();
};

TEST_F(StreamingServerTest, AUrlIsGoodForOneRequest) {
  const std::string url = OfferExec(), other = OfferExec();
  EXPECT_NE(url, other);
  EXPECT_EQ(Dial(url), "");
  EXPECT_THAT(Dial(url), HasSubstr("404"));
  EXPECT_EQ(Dial(other), "");
}

TEST_F(StreamingServerTest, AUrlIsGoodForAMinute) {
  const std::string early = OfferExec(), late = OfferExec();
  clock_.Advance(seconds(59));
  EXPECT_EQ(Dial(early), "");
  clock_.Advance(seconds(2));
  EXPECT_THAT(Dial(late), HasSubstr("404"));
}

TEST_F(StreamingServerTest, ATokenOpensNothingElse) {
  const std::string url = OfferExec();
  std::string other = url;
  other.replace(other.find("/exec/"), 6, "/attach/");
  EXPECT_THAT(Dial(other), HasSubstr("404"));
  EXPECT_THAT(Dial(url.substr(0, url.size() - 1)), HasSubstr("404"));
  EXPECT_EQ(Dial(url), "");
}

TEST_F(StreamingServerTest, NobodyFillsTheMemoryWithUnusedUrls) {
  const std::string first = OfferExec();
  clock_.Advance(seconds(1));
  std::string last;
  for (int i = 0; i < 1000; ++i) last = OfferExec();
  EXPECT_THAT(Dial(first), HasSubstr("404"));
  EXPECT_EQ(Dial(last), "");
}

}  // namespace
}  // namespace skiff::cri

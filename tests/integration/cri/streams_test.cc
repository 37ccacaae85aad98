// Sessions of exec and attach as a client has them: WebSocket (v5.channel.k8s.io) at the URLs that
// the CRI gives.

// clang-format off: first, since <signal.h> has macros named as CRI's signals.
#include "tests/integration/cri/node_under_test.h"
// clang-format on

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>

#include "base/async/executor.h"
#include "base/streaming/client.h"

namespace skiff::test {
namespace {

using std::chrono::seconds;
using streaming::ExecClient;
using streaming::ExecStatus;
using streaming::ExecStreams;
using ::testing::HasSubstr;
using Stub = api::RuntimeService::Stub;
using Session = Result<std::shared_ptr<ExecClient>>;

// Answers each line of its standard input, until that ends.
constexpr const char* kEcho =
    "while read line; do echo \"got $line\"; done; echo ended; exec /bin/busybox sleep 1000";

class StreamsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(WriteFileAtomic(work_.path() + "/agent.yaml", "", Durability::kNone).ok());
    node_.Start();
    ASSERT_FALSE(HasFatalFailure());
    pod_.set_command({"/bin/busybox", "sh", "-c", kEcho});
    pod_.set_stdin(true);
    ExpectOk(pod_.Pull());
    ExpectOk(pod_.RunSandbox());
    ExpectOk(pod_.CreateContainer());
    ExpectOk(pod_.StartContainer());
  }
  void TearDown() override { ExpectOk(pod_.RemoveSandbox()); }

  Session Dial(const std::string& url, const ExecStreams& streams) {
    auto promise = std::make_shared<std::promise<Session>>();
    streaming::DialExec(io_, pool_, url, streaming::ClientTransport::kWebSocket, streams,
                        seconds(20),
                        [promise](Session session) { promise->set_value(std::move(session)); });
    return promise->get_future().get();
  }
  std::string AttachUrl() {
    api::AttachRequest request;
    request.set_container_id(pod_.container());
    request.set_stdin(true);
    request.set_stdout(true);
    request.set_stderr(true);
    api::AttachResponse response;
    ExpectOk(Call(node_.runtime(), &Stub::Attach, request, &response));
    return response.url();
  }
  std::string ExecUrl(const std::string& script) {
    api::ExecRequest request;
    request.set_container_id(pod_.container());
    for (const char* word : {"/bin/busybox", "sh", "-c"}) request.add_cmd(word);
    request.add_cmd(script);
    request.set_stdin(true);
    request.set_stdout(true);
    request.set_stderr(true);
    api::ExecResponse response;
    ExpectOk(Call(node_.runtime(), &Stub::Exec, request, &response));
    return response.url();
  }
  // Reads until the output ends with that word, or ends.
  static std::string ReadTo(ExecClient& session, std::string_view word) {
    std::string text;
    while (word.empty() || !text.ends_with(word)) {
      auto piece = streaming::ReadBlocking(*session.out());
      if (!piece.ok() || piece->empty()) break;
      text += *piece;
    }
    return text;
  }
  static std::future<Result<ExecStatus>> StatusOf(ExecClient& session) {
    auto promise = std::make_shared<std::promise<Result<ExecStatus>>>();
    session.OnStatus([promise](Result<ExecStatus> s) { promise->set_value(std::move(s)); });
    return promise->get_future();
  }

  static constexpr ExecStreams kAll{.in = true, .out = true, .err = true};
  TempDir work_ = TempDir::Make("skiff-streams").value();
  NodeUnderTest node_{work_.path()};
  PodClient pod_{node_};
  ThreadPool pool_{"streams-test", 2};
  streaming::IoThread io_;
};

TEST_F(StreamsTest, TheContainerGoesOnWhenItsClientLeaves) {
  Session first = Dial(AttachUrl(), kAll);
  ASSERT_TRUE(first.ok()) << first.error().ToString();
  ASSERT_TRUE(streaming::WriteBlocking(*(*first)->in(), "one\n").ok());
  EXPECT_EQ(ReadTo(**first, "\n"), "got one\n");
  // The end of the client's input is not that of the container's: stdin_once is not set.
  (*first)->in()->CloseWrite();
  first->reset();
  Session second = Dial(AttachUrl(), kAll);
  ASSERT_TRUE(second.ok()) << second.error().ToString();
  ASSERT_TRUE(streaming::WriteBlocking(*(*second)->in(), "two\n").ok());
  EXPECT_EQ(ReadTo(**second, "\n"), "got two\n") << "what was said before is in the log alone";
  // Two at once see the same.
  Session third = Dial(AttachUrl(), kAll);
  ASSERT_TRUE(third.ok()) << third.error().ToString();
  ASSERT_TRUE(streaming::WriteBlocking(*(*third)->in(), "three\n").ok());
  EXPECT_EQ(ReadTo(**third, "\n"), "got three\n");
  EXPECT_EQ(ReadTo(**second, "\n"), "got three\n");
  second->reset();
  third->reset();
  EXPECT_EQ(pod_.ContainerState(), api::CONTAINER_RUNNING);
  const std::string log = ReadFile(work_.path() + "/logs/pod/app.log").value();
  for (const char* line : {" stdout F got one\n", " stdout F got two\n", " stdout F got three\n"}) {
    EXPECT_THAT(log, HasSubstr(line));
  }
  EXPECT_THAT(log, ::testing::Not(HasSubstr("ended")));
}

TEST_F(StreamsTest, HalfOfAnExecSessionMayEnd) {
  Session session = Dial(ExecUrl("/bin/busybox cat; echo the rest; exit 7"), kAll);
  ASSERT_TRUE(session.ok()) << session.error().ToString();
  auto status = StatusOf(**session);
  const std::string much(3 << 20, 'x');
  auto written = std::async(std::launch::async, [&] {
    const Result<> sent = streaming::WriteBlocking(*(*session)->in(), much + "\n");
    (*session)->in()->CloseWrite();
    return sent.ok();
  });
  // The command sees the end of its input, and what it says afterwards still arrives.
  EXPECT_EQ(ReadTo(**session, ""), much + "\nthe rest\n");
  EXPECT_TRUE(written.get());
  const Result<ExecStatus> ended = status.get();
  ASSERT_TRUE(ended.ok()) << ended.error().ToString();
  EXPECT_EQ(ended->exit_code, 7);
}

TEST_F(StreamsTest, AUrlIsGoodForOneSession) {
  const std::string url = ExecUrl("/bin/busybox cat");
  Session session = Dial(url, kAll);
  ASSERT_TRUE(session.ok()) << session.error().ToString();
  const Session again = Dial(url, kAll);
  ASSERT_FALSE(again.ok());
  EXPECT_THAT(again.error().ToString(), HasSubstr("404"));
  // The first is none the worse for it.
  ASSERT_TRUE(streaming::WriteBlocking(*(*session)->in(), "word\n").ok());
  EXPECT_EQ(ReadTo(**session, "\n"), "word\n");
}

}  // namespace
}  // namespace skiff::test

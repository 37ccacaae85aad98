// Logs, attached clients, terminals.

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <thread>

#include "tests/integration/runtime/fixture.h"

namespace skiff::runtime {
namespace {

// Reads until the text has come, or the end, or ten seconds are over.
std::string ReadUntil(int fd, const std::string& text) {
  std::string got;
  char buffer[4096];
  while (text.empty() || got.find(text) == std::string::npos) {
    pollfd wait{fd, POLLIN, 0};
    if (::poll(&wait, 1, 10000) != 1) break;
    ssize_t size = ::read(fd, buffer, sizeof buffer);
    if (size <= 0) break;
    got.append(buffer, static_cast<size_t>(size));
  }
  return got;
}

TEST_F(RuntimeTest, LogsOfBothStreams) {
  StartPod();
  RunToEnd(Shell("c", "echo one; echo two >&2; printf 'no newline'"));
  EXPECT_EQ(Output("c", "stdout"), "one\nno newline");
  EXPECT_EQ(Output("c", "stderr"), "two\n");
  EXPECT_THAT(LogText("c"), HasSubstr("Z stdout F one\n"));
  EXPECT_THAT(LogText("c"), HasSubstr("Z stdout P no newline\n"));
}

TEST_F(RuntimeTest, NothingIsLostUnderLoad) {
  StartPod();
  RunToEnd(Shell("c", "seq 1 200000; seq 1 1000 >&2"));
  std::string expected;
  for (int i = 1; i <= 200000; ++i) expected += std::to_string(i) + "\n";
  EXPECT_TRUE(Output("c", "stdout") == expected);
}

TEST_F(RuntimeTest, ReopenLog) {
  StartPod();
  Start(Shell("c", "i=0; while true; do echo $i; i=$((i+1)); sleep 0.005; done"));
  WaitForLog("c", " 3\n");
  ASSERT_EQ(::rename(LogPath("c").c_str(), (LogPath("c") + ".1").c_str()), 0);
  ASSERT_OK(runtime_->ReopenLog("c"));
  WaitForLog("c", "stdout F");
  std::string second = LogText("c");
  ASSERT_OK(runtime_->StopContainer("c", milliseconds(0)));
  std::string all = ReadFile(LogPath("c") + ".1").value() + LogText("c");
  // Every number once, across the two files.
  int next = 0;
  for (size_t at = all.find(" F "); at != std::string::npos; at = all.find(" F ", at + 1)) {
    EXPECT_EQ(std::atoi(all.c_str() + at + 3), next++);
  }
  EXPECT_GT(next, 3);
  EXPECT_EQ(runtime_->ReopenLog("c").error().code(), Code::kFailedPrecondition);
}

TEST_F(RuntimeTest, RotationBySize) {
  StartPod();
  ContainerSpec spec = Shell("c", "seq 1 3000");
  spec.log.rotate_bytes = 16 << 10;
  spec.log.keep_files = 3;
  RunToEnd(spec);
  for (const char* suffix : {"", ".1", ".2"}) {
    std::string text = ReadFile(LogPath("c") + suffix).value();
    EXPECT_GT(text.size(), 0U);
    EXPECT_LE(text.size(), 16U << 10);
  }
  EXPECT_FALSE(PathExists(LogPath("c") + ".3"));
  EXPECT_THAT(LogText("c"), HasSubstr(" 3000\n"));
}

TEST_F(RuntimeTest, AttachCopiesBothWays) {
  StartPod();
  ContainerSpec spec =
      Shell("c", "while read line; do echo got $line; echo err $line >&2; done; echo eof");
  spec.stdin_open = true;
  spec.stdin_once = true;
  Start(spec);
  Pipe in = MakePipe().value();
  Pipe out = MakePipe().value();
  Pipe err = MakePipe().value();
  ASSERT_OK(runtime_->Attach("c", {.in = std::move(in.read_end),
                                   .out = std::move(out.write_end),
                                   .err = std::move(err.write_end)}));
  ASSERT_OK(WriteAll(in.write_end.get(), "hello\n"));
  EXPECT_EQ(ReadUntil(out.read_end.get(), "hello"), "got hello\n");
  EXPECT_EQ(ReadUntil(err.read_end.get(), "hello"), "err hello\n");
  in.write_end.Reset();
  EXPECT_EQ(ReadUntil(out.read_end.get(), ""), "eof\n");
  EXPECT_EQ(WaitExit("c").status.code, 0);
  EXPECT_EQ(Output("c", "stdout"), "got hello\neof\n");
}

TEST_F(RuntimeTest, AttachedClientsComeAndGo) {
  StartPod();
  ContainerSpec spec = Shell("c", "while read line; do echo got $line; done; echo eof");
  spec.stdin_open = true;
  Start(spec);
  for (std::string word : {"first", "second"}) {
    Pipe in = MakePipe().value();
    Pipe out = MakePipe().value();
    Pipe watch = MakePipe().value();
    ASSERT_OK(
        runtime_->Attach("c", {.in = std::move(in.read_end), .out = std::move(out.write_end)}));
    ASSERT_OK(runtime_->Attach("c", {.out = std::move(watch.write_end)}));
    ASSERT_OK(WriteAll(in.write_end.get(), word + "\n"));
    EXPECT_EQ(ReadUntil(out.read_end.get(), word), "got " + word + "\n");
    EXPECT_EQ(ReadUntil(watch.read_end.get(), word), "got " + word + "\n");
  }
  // Without stdin_once the container's input outlives its clients.
  EXPECT_EQ(runtime_->Container("c")->state, ContainerState::kRunning);
  ASSERT_OK(runtime_->StopContainer("c", milliseconds(0)));
  EXPECT_EQ(runtime_->Attach("c", {}).error().code(), Code::kFailedPrecondition);
}

TEST_F(RuntimeTest, SlowClientLosesNothing) {
  StartPod();
  ContainerSpec spec = Shell("c", "read go; seq 1 60000");
  spec.stdin_open = true;
  Start(spec);
  Pipe in = MakePipe().value();
  Pipe out = MakePipe().value();
  ASSERT_OK(runtime_->Attach("c", {.in = std::move(in.read_end), .out = std::move(out.write_end)}));
  ASSERT_OK(WriteAll(in.write_end.get(), "\n"));
  std::this_thread::sleep_for(milliseconds(300));  // tidy: a slow reader
  std::string expected;
  for (int i = 1; i <= 60000; ++i) expected += std::to_string(i) + "\n";
  EXPECT_TRUE(ReadUntil(out.read_end.get(), "60000\n") == expected);
  WaitExit("c");
  EXPECT_TRUE(Output("c") == expected);
}

TEST_F(RuntimeTest, TerminalOfAContainer) {
  StartPod();
  ContainerSpec spec = Shell("c", "tty; read x; echo got $x; stty size; ls -l /dev/console; env");
  spec.terminal = true;
  spec.stdin_open = true;
  Start(spec);
  Pipe in = MakePipe().value();
  Pipe out = MakePipe().value();
  ASSERT_OK(runtime_->Attach("c", {.in = std::move(in.read_end), .out = std::move(out.write_end)}));
  ASSERT_OK(runtime_->ResizeTerminal("c", 50, 120));
  ASSERT_OK(WriteAll(in.write_end.get(), "word\n"));
  std::string text = ReadUntil(out.read_end.get(), "");
  WaitExit("c");
  EXPECT_THAT(text, HasSubstr("got word\r\n50 120\r\n"));
  EXPECT_THAT(Output("c"), HasSubstr("/dev/pts/0"));
  EXPECT_THAT(Output("c"), HasSubstr("TERM=xterm"));
  ContainerSpec plain = Shell("p", "sleep 1000");
  Start(plain);
  EXPECT_EQ(runtime_->ResizeTerminal("p", 1, 1).error().code(), Code::kFailedPrecondition);
}

}  // namespace
}  // namespace skiff::runtime

#include "base/os/spawn.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cerrno>
#include <csignal>

namespace skiff {
namespace {

SpawnRequest Shell(const std::string& script) {
  return {.path = "/bin/sh", .argv = {"sh", "-c", script}, .env = {"PATH=/usr/bin:/bin"}};
}

TEST(SpawnTest, CollectsOutputAndExitCode) {
  auto result = RunProgram(Shell("cat; echo oops >&2; exit 3"), "hello");
  ASSERT_TRUE(result.ok()) << result.error().ToString();
  EXPECT_EQ(result->out, "hello");
  EXPECT_EQ(result->err, "oops\n");
  EXPECT_EQ(result->status.code, 3);
}

TEST(SpawnTest, AMissingProgramIsAnErrorOfTheCall) {
  auto result = Spawn({.path = "/no/such/program", .argv = {"x"}});
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().sys_errno(), ENOENT);
}

TEST(SpawnTest, TheChildHasOnlyTheDescriptorsNamed) {
  UniqueFd extra(::open("/dev/null", O_RDONLY));  // without CLOEXEC on purpose
  auto result = RunProgram(Shell("ls /proc/$$/fd; exit 0"));
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(result->out, "0\n1\n2\n");
}

// It runs in our memory until it is another program: a sanitizer must not take its calls for ours.
TEST(SpawnTest, TheChildLeavesNoTraceHere) {
  static volatile sig_atomic_t handled = 0;
  struct sigaction action {};
  struct sigaction before {};
  action.sa_handler = [](int) { handled = handled + 1; };
  ASSERT_EQ(::sigaction(SIGUSR1, &action, &before), 0);
  constexpr size_t kSize = 64 << 10;  // the kernel gives the place of the child's stack again
  for (int i = 0; i < 4; ++i) {
    EXPECT_TRUE(Spawn(Shell("exit 0"))->Reap()->Success());
    void* memory =
        ::mmap(nullptr, kSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ASSERT_NE(memory, MAP_FAILED);
    auto* bytes = static_cast<volatile char*>(memory);
    for (size_t at = 0; at < kSize; ++at) bytes[at] = 'x';
    ::munmap(memory, kSize);
  }
  ::raise(SIGUSR1);
  EXPECT_EQ(handled, 1);
  ::sigaction(SIGUSR1, &before, nullptr);
}

TEST(SpawnTest, DescriptorsMayBeSwapped) {
  Pipe a = MakePipe().value();
  Pipe b = MakePipe().value();
  SpawnRequest request = Shell("");
  // Targets that are other sources' numbers must not be overwritten before they are used.
  int x = a.write_end.get();
  int y = b.write_end.get();
  request.argv[2] = "echo a >&" + std::to_string(y) + "; echo b >&" + std::to_string(x);
  request.path = "/bin/bash";
  request.fds = {{x, y}, {y, x}};
  auto child = Spawn(request);
  ASSERT_TRUE(child.ok()) << child.error().ToString();
  EXPECT_TRUE(child->Reap()->Success());
  char text[2] = {};
  ASSERT_EQ(::read(a.read_end.get(), text, 1), 1);
  EXPECT_EQ(text[0], 'a');
  ASSERT_EQ(::read(b.read_end.get(), text, 1), 1);
  EXPECT_EQ(text[0], 'b');
}

TEST(SpawnTest, ADeadlineKillsTheProgram) {
  auto result = RunProgram(Shell("exec sleep 100"), {}, std::chrono::milliseconds(50));
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().code(), Code::kDeadlineExceeded);
}

TEST(PidRefTest, AnEndedProcessIsNotFoundAndKeepsItsIdentity) {
  auto child = Spawn(Shell("exec sleep 100"));
  ASSERT_TRUE(child.ok());
  auto identity = child->Identity();
  ASSERT_TRUE(identity.ok());
  EXPECT_TRUE(PidRef::OpenIdentity(*identity).ok());
  ProcessIdentity other{identity->pid, identity->start_ticks + 1};
  EXPECT_EQ(PidRef::OpenIdentity(other).error().code(), Code::kNotFound);
  ASSERT_TRUE(child->Signal(SIGKILL).ok());
  auto status = child->Reap();
  ASSERT_TRUE(status.ok());
  EXPECT_EQ(status->ShellCode(), 128 + SIGKILL);
  EXPECT_EQ(child->Signal(SIGTERM).error().code(), Code::kNotFound);
}

}  // namespace
}  // namespace skiff

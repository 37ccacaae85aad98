// Processes started in a running container.

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <thread>

#include "tests/integration/runtime/fixture.h"

namespace skiff::runtime {
namespace {

std::string ReadToEnd(int fd) {
  std::string text;
  char buffer[4096];
  ssize_t got;
  while ((got = ::read(fd, buffer, sizeof buffer)) > 0)
    text.append(buffer, static_cast<size_t>(got));
  return text;
}

TEST_F(RuntimeTest, ExecSyncGivesOutputAndCode) {
  StartPod();
  ContainerSpec spec = Shell("c", "sleep 1000");
  spec.env.push_back("COLOUR=green");
  spec.user.user = "worker";
  spec.cwd = "/tmp";
  Start(spec);
  auto done = ExecShell("c", "echo out; echo err >&2; id; echo $COLOUR; pwd; echo $HOME; exit 4");
  ASSERT_OK(done);
  EXPECT_EQ(done->status.code, 4);
  EXPECT_EQ(done->out,
            "out\nuid=1000(worker) gid=1001(workers) groups=1001(workers),1500(extra)\n"
            "green\n/tmp\n/home/worker\n");
  EXPECT_EQ(done->err, "err\n");
  EXPECT_FALSE(done->truncated);

  auto limited =
      runtime_->ExecSync({.container_id = "c", .argv = {"sh", "-c", "yes | head -c 300000"}},
                         {.timeout = seconds(20), .limit_bytes = 1000});
  ASSERT_OK(limited);
  EXPECT_EQ(limited->out.size(), 1000U);
  EXPECT_TRUE(limited->truncated);

  auto missing =
      runtime_->ExecSync({.container_id = "c", .argv = {"no-such"}}, {.timeout = seconds(5)});
  ASSERT_FALSE(missing.ok());
  EXPECT_EQ(missing.error().code(), Code::kNotFound);
  auto killed = ExecShell("c", "kill -TERM $$; sleep 5");
  ASSERT_OK(killed);
  EXPECT_EQ(killed->status.signal, SIGTERM);
  EXPECT_EQ(ExecShell("nobody", "true").error().code(), Code::kNotFound);
}

TEST_F(RuntimeTest, ExecTimeoutEndsWhatItStartedAndNothingElse) {
  StartPod();
  Start(Shell("c", "sleep 4711 & echo ready; wait"));
  WaitForLog("c", "ready");
  auto before = std::chrono::steady_clock::now();
  // Grandchildren in sessions of their own, which hold the pipes.
  auto late = ExecShell("c", "setsid sleep 5555 & setsid sh -c 'sleep 5556; true' & sleep 5557",
                        milliseconds(300));
  ASSERT_FALSE(late.ok());
  EXPECT_EQ(late.error().code(), Code::kDeadlineExceeded);
  auto took = std::chrono::steady_clock::now() - before;
  EXPECT_GE(took, milliseconds(300));
  EXPECT_LT(took, seconds(5));
  auto left = ExecShell("c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '");
  ASSERT_OK(left);
  EXPECT_THAT(left->out, Not(HasSubstr("555")));
  EXPECT_THAT(left->out, HasSubstr("sleep 4711"));
  EXPECT_EQ(runtime_->Container("c")->state, ContainerState::kRunning);
}

TEST_F(RuntimeTest, ExecDoesNotWaitForBackgroundProcesses) {
  StartPod();
  Start(Shell("c", "sleep 1000"));
  auto before = std::chrono::steady_clock::now();
  auto done = ExecShell("c", "setsid sleep 5555 & echo started");
  ASSERT_OK(done);
  EXPECT_EQ(done->out, "started\n");
  EXPECT_LT(std::chrono::steady_clock::now() - before, seconds(5));
  // It lives on, as it would elsewhere, and ends with the container.
  EXPECT_THAT(ExecShell("c", "cat /proc/[0-9]*/cmdline")->out, HasSubstr("5555"));
}

TEST_F(RuntimeTest, ExecCgroupsGoWithTheirLastProcess) {
  StartPod();
  Start(Shell("c", "sleep 1000"));
  auto cgroups = [&] {
    int count = 0;
    for (const char* mount : {"/sys/fs/cgroup/unified", "/sys/fs/cgroup/pids", "/sys/fs/cgroup"}) {
      const std::string path = mount + runtime_->Container("c")->cgroup_path;
      for (const std::string& name : ListDirectory(path).value_or({})) {
        if (name.starts_with("exec-")) ++count;
      }
    }
    return count;
  };
  // Each leaves a process behind that has ended when the next but one has.
  for (int i = 0; i < 10; ++i) ASSERT_OK(ExecShell("c", "setsid sleep 0.1 & true"));
  ASSERT_OK(ExecShell("c", "sleep 0.3"));
  EXPECT_EQ(cgroups(), 0);
  ASSERT_OK(ExecShell("c", "setsid sleep 5555 & true"));
  ASSERT_OK(ExecShell("c", "true"));
  EXPECT_GT(cgroups(), 0) << "what lives on keeps its cgroup";
}

TEST_F(RuntimeTest, ExecSyncThatNobodyWaitsForIsKilled) {
  StartPod();
  Start(Shell("c", "sleep 1000"));
  std::stop_source stop;
  std::thread client([&] {
    while (ExecShell("c", "cat /proc/[0-9]*/cmdline")->out.find("5555") == std::string::npos) {
    }
    stop.request_stop();
  });
  auto done = runtime_->ExecSync({.container_id = "c", .argv = {"sh", "-c", "setsid sleep 5555"}},
                                 {.stop = stop.get_token()});
  client.join();
  ASSERT_FALSE(done.ok());
  EXPECT_EQ(done.error().code(), Code::kCancelled);
  EXPECT_THAT(ExecShell("c", "cat /proc/[0-9]*/cmdline")->out, Not(HasSubstr("sleep5555")));
}

TEST_F(RuntimeTest, ExecWithStreams) {
  StartPod();
  Start(Shell("c", "sleep 1000"));
  Pipe in = MakePipe().value();
  Pipe out = MakePipe().value();
  Pipe err = MakePipe().value();
  auto process =
      runtime_->Exec({.container_id = "c", .argv = {"sh", "-c", "cat; echo end >&2; exit 6"}},
                     {.in = std::move(in.read_end),
                      .out = std::move(out.write_end),
                      .err = std::move(err.write_end)});
  ASSERT_OK(process);
  EXPECT_EQ((*process)->Wait(milliseconds(20)).error().code(), Code::kDeadlineExceeded);
  std::string big(300000, 'x');
  std::thread writer([&] {
    (void)WriteAll(in.write_end.get(), big);
    in.write_end.Reset();
  });
  EXPECT_EQ(ReadToEnd(out.read_end.get()), big);
  writer.join();
  EXPECT_EQ(ReadToEnd(err.read_end.get()), "end\n");
  EXPECT_EQ((*process)->Wait(seconds(5))->status.code, 6);
  // Asked for after the end, the callback comes at once.
  int code = -1;
  (*process)->OnExit([&](const ContainerExit& exit) { code = exit.status.code; });
  EXPECT_EQ(code, 6);
}

TEST_F(RuntimeTest, ExecWithTerminal) {
  StartPod();
  Start(Shell("c", "sleep 1000"));
  auto process =
      runtime_->Exec({.container_id = "c",
                      .argv = {"sh", "-c", "tty; stty size; read x; echo got $x; stty size"},
                      .terminal = true,
                      .rows = 30,
                      .columns = 90},
                     {});
  ASSERT_OK(process);
  UniqueFd terminal = (*process)->TakeTerminal();
  ASSERT_TRUE(terminal.valid());
  std::string text;
  char buffer[256];
  while (text.find("30 90") == std::string::npos) {
    ssize_t got = ::read(terminal.get(), buffer, sizeof buffer);
    ASSERT_GT(got, 0) << text;
    text.append(buffer, static_cast<size_t>(got));
  }
  EXPECT_THAT(text, HasSubstr("/dev/pts/"));
  ASSERT_OK((*process)->ResizeTerminal(40, 100));
  ASSERT_OK(WriteAll(terminal.get(), "word\n"));
  text = ReadToEnd(terminal.get());
  EXPECT_THAT(text, HasSubstr("got word"));
  EXPECT_THAT(text, HasSubstr("40 100"));
  EXPECT_TRUE((*process)->Wait(seconds(5))->status.Success());
}

TEST_F(RuntimeTest, ExecKillEndsAll) {
  StartPod();
  Start(Shell("c", "sleep 1000"));
  Pipe out = MakePipe().value();
  auto process =
      runtime_->Exec({.container_id = "c", .argv = {"sh", "-c", "setsid sleep 5 & sleep 5"}},
                     {.out = std::move(out.write_end)});
  ASSERT_OK(process);
  ASSERT_OK((*process)->Kill());
  EXPECT_EQ((*process)->Wait(seconds(5))->status.signal, SIGKILL);
  EXPECT_EQ(ReadToEnd(out.read_end.get()), "");
}

TEST_F(RuntimeTest, ManyExecsAtOnce) {
  StartPod();
  Start(Shell("c", "sleep 1000"));
  std::vector<std::thread> threads;
  std::atomic<int> good{0};
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 10; ++i) {
        std::string text = std::to_string(t) + "-" + std::to_string(i);
        auto done = runtime_->ExecSync({.container_id = "c", .argv = {"echo", text}},
                                       {.timeout = seconds(20)});
        if (done.ok() && done->out == text + "\n") ++good;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(good, 80);
}

}  // namespace
}  // namespace skiff::runtime

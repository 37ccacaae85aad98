// RuntimeTest: a Runtime on the real kernel with state, cgroups and network of its own, a rootfs of
// busybox, and a check that nothing is left behind.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/os/files.h"
#include "runtime/linux/capabilities.h"
#include "runtime/runtime.h"
#include "tests/support/leak_check.h"

namespace skiff::runtime {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

// The value, or a failed test with the error's text.
#define ASSERT_OK(...)                                                         \
  switch (0)                                                                   \
  case 0:                                                                      \
  default:                                                                     \
    if (const auto& assert_ok_result = (__VA_ARGS__); assert_ok_result.ok()) { \
    } else                                                                     \
      FAIL() << assert_ok_result.error().ToString() << " "

class RuntimeTest : public ::testing::Test {
 protected:
  void SetUp() override;
  void TearDown() override;

  // Opens (again): as a daemon that starts on what the last one left.
  void Open();
  // As kill -9 would leave it, save that the process lives: nothing is said to anybody.
  void Abandon() { runtime_.reset(); }

  SandboxSpec Pod(const std::string& id) const;
  // A shell command in a container of the default rights.
  ContainerSpec Shell(const std::string& id, const std::string& script) const;
  void StartPod(const SandboxSpec& spec);
  void StartPod(const std::string& id = "pod") { StartPod(Pod(id)); }
  void Start(const ContainerSpec& spec);
  ContainerExit WaitExit(const std::string& id);
  ContainerExit RunToEnd(const ContainerSpec& spec);
  // Until the container's log holds the text.
  void WaitForLog(const std::string& id, const std::string& text);
  // What it wrote, without the log's own columns; of one stream, or of both.
  std::string Output(const std::string& id, const std::string& stream = "") const;
  std::string LogText(const std::string& id) const;
  std::string LogPath(const std::string& id) const {
    return work_->path() + "/logs/" + id + ".log";
  }
  Result<ExecOutput> ExecShell(const std::string& id, const std::string& script,
                               milliseconds timeout = seconds(20));
  // A control file of the container's cgroup, wherever its hierarchy is mounted.
  std::string CgroupFile(const std::string& id, const std::string& controller,
                         const std::string& v1_file, const std::string& v2_file) const;
  int CountEvents(const std::string& container_id);

  RuntimeConfig config_;
  std::string handler_;  // of the pods, by $SKIFF_TEST_HANDLER
  std::unique_ptr<TempDir> work_;
  std::string rootfs_;
  std::unique_ptr<test::LeakCheck> leaks_;
  std::unique_ptr<Runtime> runtime_;
  std::vector<std::string> pods_;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<ExitEvent> events_;
};

}  // namespace skiff::runtime

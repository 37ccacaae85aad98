#include "runtime/oci/handlers.h"

#include <gtest/gtest.h>

#include "base/os/files.h"

namespace skiff::runtime {
namespace {

TEST(CheckHandlers, RefusesWhatCannotBeNamed) {
  const OciHandler good{.name = "crun", .path = "/usr/bin/crun"};
  EXPECT_TRUE(CheckHandlers({good}).ok());
  EXPECT_EQ(CheckHandlers({good, good}).error().code(), Code::kInvalidArgument);
  for (const char* name : {"", "skiff", "Crun", "-crun", "crun-", "a/b", "..", "a.b"}) {
    EXPECT_FALSE(CheckHandlers({{.name = name, .path = "/bin/x"}}).ok()) << name;
  }
  EXPECT_FALSE(CheckHandlers({{.name = "crun", .path = "crun"}}).ok());
  EXPECT_FALSE(CheckHandlers({{.name = "crun", .path = "/bin/crun", .root = "run"}}).ok());
}

// A program that answers --version as an OCI runtime does.
std::string MakeProgram(const TempDir& folder, const std::string& name, const std::string& script) {
  std::string path = folder.path() + "/" + name;
  EXPECT_TRUE(WriteFileAtomic(path, "#!/bin/sh\n" + script, Durability::kNone, 0755).ok());
  return path;
}

TEST(OciHandlers, KeepsThoseThatAnswer) {
  const TempDir folder = TempDir::Make("handlers").value();
  const std::string good = MakeProgram(folder, "good",
                                       "[ \"$1\" != features ] || { echo '{\"ociVersionMax\":\"1\","
                                       "\"mountOptions\":[\"rro\"]}'; exit; }\n"
                                       "echo good version 1; echo more\n");
  const std::string silent = MakeProgram(folder, "silent", "[ \"$1\" = --version ] && echo 2\n");
  const std::string bad = MakeProgram(folder, "bad", "exit 3\n");
  auto handlers = OciHandlers::Open({{.name = "good", .path = good, .args = {"--debug"}},
                                     {.name = "bad", .path = bad},
                                     {.name = "silent", .path = silent},
                                     {.name = "missing", .path = "/no/such/program"}},
                                    folder.path());
  ASSERT_TRUE(handlers.ok()) << handlers.error().message();
  ASSERT_EQ((*handlers)->all().size(), 2U);
  EXPECT_FALSE((*handlers)->Find("silent").value()->features);
  const OciRuntime* runtime = (*handlers)->Find("good").value();
  const std::string root = folder.path() + "/oci/good";
  EXPECT_EQ(runtime->version, "good version 1");
  EXPECT_EQ(runtime->command, (std::vector<std::string>{good, "--root", root, "--debug"}));
  EXPECT_TRUE(PathExists(root));
  ASSERT_TRUE(runtime->features);
  EXPECT_TRUE(runtime->features->recursive_readonly);
  EXPECT_EQ((*handlers)->Find("").value(), nullptr);
  EXPECT_EQ((*handlers)->Find("bad").error().code(), Code::kNotFound);
  EXPECT_EQ((*handlers)->Find("kata").error().code(), Code::kNotFound);
}

}  // namespace
}  // namespace skiff::runtime

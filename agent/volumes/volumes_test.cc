#include "agent/testing/world.h"

// After world.h, which says why.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/volumes/payload.h"
#include "agent/volumes/subpath.h"
#include "agent/volumes/volumes.h"

namespace skiff::agent {
namespace {

namespace core = k8s::core::v1;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::World;

mode_t ModeOf(const std::string& path) {
  struct stat status = {};
  EXPECT_EQ(::stat(path.c_str(), &status), 0) << path;
  return status.st_mode & 07777;
}

class PayloadTest : public ::testing::Test {
 protected:
  TempDir directory = TempDir::Make().value();
  std::string path = directory.path() + "/v";
  WallTime now = ParseTime("2026-01-02T03:04:05Z").value();
};

TEST_F(PayloadTest, SwapsInOneStepAndDropsWhatIsGone) {
  ASSERT_TRUE(WritePayload(path, {{"a", {"1", 0644}}, {"d/b", {"2", 0400}}}, {}, now).value());
  EXPECT_EQ(ReadFile(path + "/a").value(), "1");
  EXPECT_EQ(ReadFile(path + "/d/b").value(), "2");
  EXPECT_EQ(ModeOf(path + "/d/b"), 0400u);
  EXPECT_FALSE(WritePayload(path, {{"a", {"1", 0644}}, {"d/b", {"2", 0400}}}, {}, now).value());
  ASSERT_TRUE(WritePayload(path, {{"a", {"3", 0644}}, {"c", {"", 0644}}}, {}, now).value());
  EXPECT_EQ(ReadFile(path + "/a").value(), "3");
  EXPECT_FALSE(PathExists(path + "/d"));
  auto names = ListDirectory(path).value();
  ASSERT_EQ(names.size(), 4u) << "one version, its link and two names";
  EXPECT_THAT(names[0], HasSubstr("..2026_01_02_03_04_05."));
  EXPECT_EQ(names[1], "..data");
}

TEST_F(PayloadTest, RefusesToLeaveItsDirectory) {
  for (const char* bad : {"../x", "/x", "a/../../x", "", "a//b", "..x", "./a"}) {
    auto written = WritePayload(path, {{bad, {"1", 0644}}}, {}, now);
    ASSERT_FALSE(written.ok()) << bad;
    EXPECT_EQ(written.error().code(), Code::kInvalidArgument);
  }
}

TEST_F(PayloadTest, CompletesWhatACrashLeft) {
  ASSERT_TRUE(WritePayload(path, {{"a", {"1", 0644}}}, {}, now).ok());
  ASSERT_TRUE(MakeDirectories(path + "/..2025_half").ok());
  ASSERT_TRUE(RemoveFile(path + "/a").ok());
  ASSERT_TRUE(WritePayload(path, {{"a", {"1", 0644}}}, {}, now).value());
  EXPECT_EQ(ReadFile(path + "/a").value(), "1");
  EXPECT_FALSE(PathExists(path + "/..2025_half"));
}

TEST(SubPathTest, NeverLeavesTheVolume) {
  TempDir directory = TempDir::Make().value();
  std::string volume = directory.path() + "/volume";
  ASSERT_TRUE(MakeDirectories(volume + "/inside").ok());
  ASSERT_TRUE(WriteFileAtomic(directory.path() + "/secret", "x").ok());
  ASSERT_EQ(::symlink("..", (volume + "/up").c_str()), 0);
  ASSERT_EQ(::symlink("/etc", (volume + "/absolute").c_str()), 0);
  ASSERT_EQ(::symlink("inside", (volume + "/fine").c_str()), 0);
  EXPECT_TRUE(OpenSubPath(volume, "fine").ok());
  for (const char* bad : {"up", "up/secret", "absolute", "absolute/passwd", "../secret",
                          "up/made/by/us", "absolute/made"}) {
    auto opened = OpenSubPath(volume, bad);
    ASSERT_FALSE(opened.ok()) << bad;
    EXPECT_EQ(opened.error().code(), Code::kPermissionDenied) << bad;
  }
  EXPECT_FALSE(PathExists(directory.path() + "/made"));
  EXPECT_TRUE(OpenSubPath(volume, "new/deep").ok());
  EXPECT_TRUE(PathExists(volume + "/new/deep"));
}

class VolumesTest : public ::testing::Test {
 protected:
  VolumesTest() {
    node.state_dir = directory.path();
    auto map = std::make_shared<core::ConfigMap>();
    (*map->mutable_data())["a.conf"] = "1";
    (*map->mutable_binary_data())["b.bin"] = std::string("\0\1", 2);
    objects.config_maps["default/map"] = map;
    auto secret = std::make_shared<core::Secret>();
    (*secret->mutable_data())["key"] = "s3cret";
    objects.secrets["default/secret"] = secret;
  }
  Result<std::map<std::string, std::string>> SetUp(const std::string& spec) {
    pod = World::MakePod("metadata { labels { key: \"app\" value: \"shop\" } } spec { " + spec +
                         " }");
    return volumes.SetUp(*pod, {&objects, node, {"10.0.0.9"}});
  }
  TempDir directory = TempDir::Make().value();
  testing::FakeMounter mounter;
  testing::FakeObjects objects;
  PodVolumes volumes{mounter};
  NodeContext node;
  std::shared_ptr<core::Pod> pod;
};

TEST_F(VolumesTest, EachKindHasItsContent) {
  auto paths = SetUp(
      R"(volumes { name: "cm" volume_source { config_map { local_object_reference { name: "map" }
                     items { key: "a.conf" path: "x/y.conf" mode: 256 } } } }
         volumes { name: "all" volume_source { projected {
           sources { config_map { local_object_reference { name: "map" } } }
           sources { secret { local_object_reference { name: "secret" } } }
           sources { downward_api { items { path: "labels" field_ref { field_path: "metadata.labels" } } } } } } }
         volumes { name: "tmp" volume_source { empty_dir { } } }
         volumes { name: "mem" volume_source { empty_dir { medium: "Memory" } } }
         volumes { name: "host" volume_source { host_path { path: "/" type: "Directory" } } })");
  ASSERT_TRUE(paths.ok()) << paths.error().message();
  EXPECT_EQ(ReadFile(paths->at("cm") + "/x/y.conf").value(), "1");
  EXPECT_EQ(ModeOf(paths->at("cm") + "/x/y.conf"), 0400u);
  EXPECT_EQ(ReadFile(paths->at("all") + "/b.bin").value(), std::string("\0\1", 2));
  EXPECT_EQ(ReadFile(paths->at("all") + "/key").value(), "s3cret");
  EXPECT_EQ(ReadFile(paths->at("all") + "/labels").value(), "app=\"shop\"");
  EXPECT_EQ(ModeOf(paths->at("tmp")), 0777u);
  EXPECT_EQ(paths->at("host"), "/");
  EXPECT_THAT(mounter.mounts, ElementsAre(paths->at("mem"), paths->at("all")));
  // What is there stays: a second look neither mounts nor empties anything.
  ASSERT_TRUE(WriteFileAtomic(paths->at("tmp") + "/data", "x").ok());
  ASSERT_TRUE(volumes.SetUp(*pod, {&objects, node, {}}).ok());
  EXPECT_EQ(ReadFile(paths->at("tmp") + "/data").value(), "x");
  ASSERT_TRUE(volumes.Release(node.PodDir("uid-web")).ok());
  EXPECT_TRUE(mounter.mounts.empty());
  EXPECT_FALSE(PathExists(node.PodDir("uid-web")));
  EXPECT_TRUE(volumes.Release(node.PodDir("uid-web")).ok());
}

TEST_F(VolumesTest, FailuresSayWhatIsMissing) {
  EXPECT_EQ(SetUp(R"(volumes { name: "v" volume_source { config_map {
                       local_object_reference { name: "no" } } } })")
                .error()
                .message(),
            "MountVolume.SetUp failed for volume \"v\" : configmap \"no\" not found");
  EXPECT_THAT(SetUp(R"(volumes { name: "v" volume_source { secret { secret_name: "secret"
                       items { key: "no" path: "p" } } } })")
                  .error()
                  .message(),
              HasSubstr("references non-existent secret key: no"));
  EXPECT_TRUE(SetUp(R"(volumes { name: "v" volume_source { config_map {
                         local_object_reference { name: "no" } optional: true } } })")
                  .ok());
  EXPECT_THAT(
      SetUp(R"(volumes { name: "v" volume_source { host_path { path: "/" type: "File" } } })")
          .error()
          .message(),
      HasSubstr("hostPath type check failed: / is not a file"));
}

TEST_F(VolumesTest, SubPathsAreBoundAndRecorded) {
  auto paths = SetUp(
      R"pb(volumes {
             name: "tmp"
             volume_source { empty_dir {} }
           }
           containers {
             name: "c"
             volume_mounts {
               name: "tmp"
               mount_path: "/a"
               sub_path_expr: "logs/$(NAME)"
               read_only: true
             }
             volume_mounts { name: "tmp" mount_path: "b" }
           })pb");
  ASSERT_TRUE(paths.ok());
  auto mounts =
      volumes.ResolveMounts(*pod, pod->spec().containers(0), *paths, {{"NAME", "n1"}}, node);
  ASSERT_TRUE(mounts.ok()) << mounts.error().message();
  ASSERT_EQ(mounts->size(), 2u);
  EXPECT_TRUE((*mounts)[0].read_only);
  EXPECT_EQ((*mounts)[0].host_path, node.PodDir("uid-web") + "/volume-subpaths/tmp/c/0");
  EXPECT_TRUE(mounter.IsMounted((*mounts)[0].host_path));
  EXPECT_TRUE(PathExists(paths->at("tmp") + "/logs/n1"));
  EXPECT_EQ((*mounts)[1].container_path, "/b");
  ASSERT_TRUE(volumes.Release(node.PodDir("uid-web")).ok());
  EXPECT_TRUE(mounter.mounts.empty());
}

}  // namespace
}  // namespace skiff::agent

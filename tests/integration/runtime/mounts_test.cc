// Mounts that are more than a directory of the host: image volumes, an image's VOLUMEs; and device
// nodes that are other than the host's.

#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <filesystem>

#include "tests/integration/runtime/fixture.h"

namespace skiff::runtime {
namespace {

class MountTest : public RuntimeTest {
 protected:
  // Two layers, the upper of which hides a file of the lower.
  std::vector<std::string> Layers() {
    const std::string top = work_->path() + "/top", bottom = work_->path() + "/bottom";
    for (const std::string& path : {top + "/sub", bottom + "/sub"}) {
      EXPECT_TRUE(MakeDirectories(path).ok());
    }
    auto write = [](const std::string& path, const char* text) {
      EXPECT_TRUE(WriteFileAtomic(path, text, Durability::kNone, 0755).ok());
    };
    write(top + "/both", "upper\n");
    write(bottom + "/both", "lower\n");
    write(bottom + "/sub/low", "#!/bin/sh\necho ran\n");
    write(bottom + "/hidden", "x");
    EXPECT_EQ(::mknod((top + "/hidden").c_str(), S_IFCHR, makedev(0, 0)), 0);
    return {top, bottom};
  }
  static MountSpec Image(std::vector<std::string> layers, const std::string& sub_path = "") {
    MountSpec mount;
    mount.type = MountSpec::Type::kLayers;
    mount.layers = std::move(layers);
    mount.target = "/image";
    mount.sub_path = sub_path;
    mount.readonly = mount.no_exec = true;
    return mount;
  }
};

TEST_F(MountTest, ImageLayersAreOneReadOnlyTree) {
  StartPod();
  const char* script =
      "cat /image/both; ls /image; touch /image/x 2>&1; /image/sub/low 2>&1; mount | grep -c image";
  for (bool fallback : {false, true}) {
    if (fallback) {
      Abandon();
      config_.force_fallbacks = true;
      Open();
    }
    ContainerSpec spec = Shell(fallback ? "old" : "new", script);
    spec.mounts = {Image(Layers())};
    RunToEnd(spec);
    EXPECT_THAT(Output(spec.id),
                HasSubstr("upper\nboth\nsub\ntouch: /image/x: Read-only file system\n"));
    EXPECT_THAT(Output(spec.id), HasSubstr("Permission denied"));
    std::filesystem::remove_all(work_->path() + "/top");
  }
}

TEST_F(MountTest, SubPathOfAnImage) {
  StartPod();
  const std::vector<std::string> layers = Layers();
  for (size_t count : {1, 2}) {
    const std::string id = "c" + std::to_string(count);
    ContainerSpec spec = Shell(id, "ls /image; touch /image/x 2>&1");
    spec.mounts = {Image({layers.end() - static_cast<long>(count), layers.end()}, "sub")};
    RunToEnd(spec);
    EXPECT_EQ(Output(id), "low\ntouch: /image/x: Read-only file system\n");
    for (const char* bad : {"missing", "../../etc", "both/x"}) {
      spec = Shell("bad" + std::to_string(count), "true");
      spec.mounts = {Image({layers.end() - static_cast<long>(count), layers.end()}, bad)};
      EXPECT_FALSE(runtime_->CreateContainer(spec).ok()) << bad;
    }
  }
}

TEST_F(MountTest, ImageInAUserNamespace) {
  if (!handler_.empty()) GTEST_SKIP() << handler_ << "'s pods have no user namespaces";
  SandboxSpec pod = Pod("pod");
  pod.user_namespace = {.uids = {{0, 300'000, 65'536}}, .gids = {{0, 300'000, 65'536}}};
  StartPod(pod);
  ContainerSpec spec = Shell("c", "stat -c '%u' /image/both /image/sub /bin/sh; ls /image");
  spec.mounts = {Image(Layers())};
  spec.mounts[0].id_mappings = pod.user_namespace;
  RunToEnd(spec);
  EXPECT_EQ(Output("c"), "0\n0\n0\nboth\nsub\n");
}

TEST_F(MountTest, VolumesOfTheImageStayWritable) {
  StartPod();
  ContainerSpec spec = Shell("c",
                             "cat /home/worker/greeting; touch /home/worker/new /made/here && ls "
                             "/home/worker /made; touch /x 2>&1; cat /made/sub/both");
  ASSERT_OK(WriteFileAtomic(rootfs_ + "/home/worker/greeting", "hi\n", Durability::kNone, 0644));
  spec.rootfs.readonly = true;
  for (const char* path : {"/home/worker", "/made"}) {
    MountSpec mount;
    mount.type = MountSpec::Type::kOwn;
    mount.target = path;
    spec.mounts.push_back(mount);
  }
  // What is mounted below a volume is mounted on it.
  spec.mounts.push_back({.source = Layers()[1], .target = "/made/sub"});
  EXPECT_EQ(RunToEnd(spec).status.code, 0);
  EXPECT_EQ(Output("c"),
            "hi\n/home/worker:\ngreeting\nnew\n\n/made:\nhere\nsub\n"
            "touch: /x: Read-only file system\nlower\n");
  EXPECT_FALSE(PathExists(rootfs_ + "/home/worker/new"));
  ASSERT_OK(runtime_->RemoveContainer("c"));
  EXPECT_FALSE(PathExists(work_->path() + "/layers/c/upper"));
}

TEST_F(MountTest, DeviceNodesAsAskedFor) {
  StartPod();
  ContainerSpec spec = Shell("c",
                             "stat -c '%a %u %g %t:%T' /dev/mine; head -c 2 /dev/mine | wc -c;"
                             "stat -c '%t:%T' /dev/absent");
  DeviceSpec mine{.host_path = "/dev/zero", .container_path = "/dev/mine"};
  mine.file_mode = 0640;
  mine.uid = 0;
  mine.gid = 1001;
  DeviceSpec absent{.host_path = "/dev/no-such-node", .container_path = "/dev/absent"};
  absent.type = 'c';
  absent.major = 1;
  absent.minor = 7;
  spec.devices = {mine, absent};
  RunToEnd(spec);
  EXPECT_THAT(Output("c"), HasSubstr("640 0 1001 1:5\n2\n1:7\n"));
  spec = Shell("other", "true");
  mine.minor = 3;
  spec.devices = {mine};
  EXPECT_THAT(runtime_->CreateContainer(spec).error().message(), HasSubstr("another device"));
  absent.minor.reset();
  spec.devices = {absent};
  EXPECT_EQ(runtime_->CreateContainer(spec).error().sys_errno(), ENOENT);
}

}  // namespace
}  // namespace skiff::runtime

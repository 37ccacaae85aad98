#include "cri/cdi.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/os/files.h"

namespace skiff::cri {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr const char* kYaml = R"(cdiVersion: "0.6.0"
kind: vendor.com/gpu
containerEdits:
  env: [VENDOR=yes]
devices:
  - name: "0"
    annotations: {note: first}
    containerEdits:
      env: ["GPU=0"]
      deviceNodes:
        - {path: /dev/gpu0, hostPath: /dev/zero, permissions: rw, fileMode: 438, uid: 7, gid: 8}
      mounts:
        - {hostPath: /lib/gpu, containerPath: /usr/lib/gpu, options: [ro, nosuid, nodev, rbind]}
      additionalGids: [0, 44]
  - name: hooked
    containerEdits:
      hooks: [{hookName: createContainer, path: /bin/true}]
)";

class CdiDirectories : public ::testing::Test {
 protected:
  void Write(const std::string& name, const std::string& text) {
    ASSERT_TRUE(MakeDirectories(work_.path() + "/etc").ok());
    ASSERT_TRUE(MakeDirectories(work_.path() + "/run").ok());
    ASSERT_TRUE(WriteFileAtomic(work_.path() + "/" + name, text, Durability::kNone).ok());
  }
  Result<CdiEdits> Resolve(const std::vector<std::string>& names) {
    return ResolveCdiDevices(names, {work_.path() + "/etc", work_.path() + "/run"});
  }
  std::string Trouble(const std::vector<std::string>& names) {
    const auto edits = Resolve(names);
    return edits.ok() ? std::string() : edits.error().message();
  }
  TempDir work_ = TempDir::Make("skiff-cdi").value();
};

TEST(CdiSpec, IsReadFromYamlAndJson) {
  const auto spec = ParseCdiSpec(kYaml);
  ASSERT_TRUE(spec.ok()) << spec.error().message();
  EXPECT_EQ(spec->kind, "vendor.com/gpu");
  EXPECT_THAT(spec->common.env, ElementsAre("VENDOR=yes"));
  const CdiEdits& edits = spec->devices.at("0");
  ASSERT_EQ(edits.devices.size(), 1u);
  EXPECT_EQ(edits.devices[0].host_path, "/dev/zero");
  EXPECT_EQ(edits.devices[0].container_path, "/dev/gpu0");
  EXPECT_EQ(edits.devices[0].access, "rw");
  EXPECT_EQ(edits.devices[0].file_mode, 0666u);
  EXPECT_EQ(edits.devices[0].uid, 7u);
  ASSERT_EQ(edits.mounts.size(), 1u);
  EXPECT_TRUE(edits.mounts[0].readonly && edits.mounts[0].no_suid && edits.mounts[0].no_dev);
  EXPECT_TRUE(edits.mounts[0].recursive && !edits.mounts[0].no_exec);
  EXPECT_THAT(edits.additional_gids, ElementsAre(44));
  EXPECT_TRUE(
      ParseCdiSpec(R"({"cdiVersion":"0.3.0","kind":"a.b/c","devices":[{"name":"x"}]})").ok());
}

TEST(CdiSpec, SaysWhatIsWrong) {
  const auto trouble = [](const std::string& text) {
    const auto spec = ParseCdiSpec(text);
    return spec.ok() ? std::string() : spec.error().message();
  };
  const std::string head = R"({"cdiVersion":"0.8.0","kind":"a.b/c","devices":[{"name":"x",)"
                           R"("containerEdits":{)";
  EXPECT_THAT(trouble(R"({"cdiVersion":"0.1.0","kind":"a.b/c"})"), HasSubstr("version \"0.1.0\""));
  EXPECT_THAT(trouble(R"({"cdiVersion":"0.5.0","kind":"abc"})"), HasSubstr("VENDOR/CLASS"));
  EXPECT_THAT(trouble(R"({"cdiVersion":"0.5.0","kind":"a.b/c","extra":1})"), HasSubstr("extra"));
  EXPECT_THAT(trouble(head + R"("env":["x"]}}]})"), HasSubstr("NAME=VALUE"));
  EXPECT_THAT(trouble(head + R"("deviceNodes":[{"path":"dev"}]}}]})"), HasSubstr("not absolute"));
  EXPECT_THAT(trouble(head + R"("deviceNodes":[{"path":"/d","type":"p"}]}}]})"),
              HasSubstr("type \"p\""));
  EXPECT_THAT(trouble(head + R"("mounts":[{"hostPath":"/a","containerPath":"/b",)"
                             R"("options":["sync"]}]}}]})"),
              HasSubstr("option \"sync\""));
  EXPECT_THAT(trouble(head + R"("env":{}}}]})"), HasSubstr("not a list"));
  EXPECT_THAT(trouble(R"({"cdiVersion":"0.5.0","kind":"a.b/c","devices":[{"name":"x"},)"
                      R"({"name":"x"}]})"),
              HasSubstr("twice"));
  EXPECT_NE(trouble("[[[["), "");
}

TEST_F(CdiDirectories, LaterDirectoriesWin) {
  Write("etc/gpu.yaml", kYaml);
  auto edits = Resolve({"vendor.com/gpu=0"});
  ASSERT_TRUE(edits.ok()) << edits.error().message();
  EXPECT_THAT(edits->env, ElementsAre("VENDOR=yes", "GPU=0"));
  Write("run/gpu.json", R"({"cdiVersion":"0.5.0","kind":"vendor.com/gpu","devices":[{"name":"0",)"
                        R"("containerEdits":{"env":["GPU=newer"]}}]})");
  EXPECT_THAT(Resolve({"vendor.com/gpu=0"})->env, ElementsAre("GPU=newer"));
  Write("run/same.json",
        R"({"cdiVersion":"0.5.0","kind":"vendor.com/gpu","devices":[{"name":"0"}]})");
  EXPECT_THAT(Trouble({"vendor.com/gpu=0"}), HasSubstr("twice"));
}

TEST_F(CdiDirectories, UnknownAndUndoableDevicesAreNamed) {
  EXPECT_EQ(Trouble({}), "");
  EXPECT_EQ(Trouble({"vendor.com/gpu=9"}), "CDI: unknown device \"vendor.com/gpu=9\"");
  Write("etc/gpu.yaml", kYaml);
  Write("etc/bad.json", "{");
  Write("etc/ignored.txt", "{");
  EXPECT_THAT(Trouble({"vendor.com/gpu=9"}), HasSubstr("\"vendor.com/gpu=9\"; "));
  EXPECT_THAT(Trouble({"vendor.com/gpu=9"}), HasSubstr("etc/bad.json: "));
  EXPECT_EQ(Trouble({"vendor.com/gpu=0"}), "");  // another file's trouble is not its own
  EXPECT_THAT(Trouble({"vendor.com/gpu=hooked"}), HasSubstr("asks for hooks"));
}

TEST(CdiEdits, ReplaceWhatTheConfigurationHas) {
  runtime::ContainerSpec spec;
  spec.env = {"A=1", "AB=2"};
  spec.mounts = {{.source = "/x", .target = "/usr/lib/gpu"}, {.source = "/y", .target = "/a/b/c"}};
  spec.user.additional_gids = {44};
  CdiEdits edits;
  edits.env = {"A=3"};
  edits.mounts = {{.source = "/lib", .target = "/usr/lib/gpu"}, {.source = "/z", .target = "/a"}};
  edits.additional_gids = {44, 45};
  ApplyCdiEdits(edits, &spec);
  EXPECT_THAT(spec.env, ElementsAre("AB=2", "A=3"));
  ASSERT_EQ(spec.mounts.size(), 3u);
  EXPECT_EQ(spec.mounts[0].target, "/a");
  EXPECT_THAT(spec.user.additional_gids, ElementsAre(44, 45));
}

}  // namespace
}  // namespace skiff::cri

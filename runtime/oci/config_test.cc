// config.json against files that are read by people: each is one container as the CRI server would
// ask for it. SKIFF_UPDATE_GOLDEN=1 writes them anew.
#include "runtime/oci/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/capability.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <nlohmann/json.hpp>

#include "base/os/files.h"
#include "runtime/linux/capabilities.h"
#include "runtime/linux/seccomp.h"

namespace skiff::runtime {
namespace {

using nlohmann::json;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::Not;

const OciFacts kFacts{.user = {.uid = 1000, .gid = 1001, .groups = {1001, 1500}},
                      .home = "/home/worker",
                      .oom_score_adj = 985};

LaunchSpec BareLaunch() {
  LaunchSpec spec;
  spec.kind = LaunchKind::kOci;
  spec.container.id = "c1";
  spec.container.argv = {"sh", "-c", "true"};
  spec.oci.bundle = "/run/skiff/b";
  spec.oci.cgroups_path = "/kubepods/pod1/c1";
  spec.oci.resources = OciResources({}, {}, false);
  spec.oci.namespaces = {{.type = "mount"}, {.type = "pid"}};
  return spec;
}

// Something of everything.
LaunchSpec FullLaunch() {
  LaunchSpec spec = BareLaunch();
  ContainerSpec& container = spec.container;
  container.env = {"COLOUR=green"};
  container.cwd = "/work";
  container.terminal = true;
  container.rootfs.readonly = true;
  container.no_new_privs = true;
  container.masked_paths = {"/proc/kcore"};
  container.readonly_paths = {"/proc/sys"};
  container.rlimits = {{.resource = RLIMIT_NOFILE, .soft = 1024, .hard = 4096}};
  const uint64_t some = CapabilityBit(CAP_CHOWN) | CapabilityBit(CAP_NET_BIND_SERVICE);
  container.capabilities = {.bounding = some,
                            .effective = some,
                            .permitted = some,
                            .inheritable = CapabilityBit(CAP_NET_BIND_SERVICE),
                            .ambient = CapabilityBit(CAP_NET_BIND_SERVICE)};
  container.mounts = {
      {.source = "/data", .target = "/data"},
      {.source = "/ro", .target = "/ro", .readonly = true, .recursive_readonly = true},
      {.source = "/shared",
       .target = "/shared",
       .no_exec = true,
       .no_dev = true,
       .no_suid = true,
       .propagation = MountPropagation::kShared},
      {.source = "/file", .target = "/etc/file", .recursive = false},
      {.type = MountSpec::Type::kTmpfs,
       .target = "/scratch",
       .tmpfs_options = "size=64k,mode=1777"},
  };
  spec.devices = {{.path = "/dev/fuse", .mode = S_IFCHR | 0666, .major = 10, .minor = 229},
                  {.path = "/dev/disk", .mode = S_IFBLK | 0660, .major = 8, .minor = 1, .gid = 6}};
  const ResourceSpec limits{.cpu_shares = 512,
                            .cpu_quota_us = 50000,
                            .cpu_period_us = 100000,
                            .cpuset_cpus = "0-1",
                            .cpuset_mems = "0",
                            .memory_limit_bytes = 64 << 20,
                            .memory_swap_limit_bytes = 128 << 20,
                            .pids_limit = 100,
                            .hugepage_limits_bytes = {{"2MB", 4 << 20}},
                            .unified = {{"memory.high", "1000000"}}};
  spec.oci.resources =
      OciResources(limits, {{'a', -1, -1, "m"}, {'c', 10, 229, "rw"}, {'b', 8, 1, "r"}}, true);
  const SeccompProfile profile{.default_action = {0x00050001},  // SCMP_ACT_ERRNO(EPERM)
                               .rules = {{.names = {"read", "write"}, .action = {0x7fff0000}}}};
  spec.oci.seccomp = RenderSeccompProfile(profile);
  spec.oci.namespaces = {
      {.type = "mount"},         {.type = "cgroup"},        {"network", "/run/skiff/netns/p1"},
      {"uts", "/proc/7/ns/uts"}, {"ipc", "/proc/7/ns/ipc"}, {"pid", "/proc/7/ns/pid"}};
  spec.oci.annotations = {{"a", "b"}};
  return spec;
}

void ExpectGolden(const std::string& name, const std::string& text) {
  const std::string path = "runtime/oci/testdata/" + name + ".json";
  if (::getenv("SKIFF_UPDATE_GOLDEN") != nullptr) {
    ASSERT_TRUE(WriteFileAtomic(path, text + "\n", Durability::kNone, 0644).ok());
  }
  EXPECT_EQ(text + "\n", ReadFile(path).value_or("(no file " + path + ")"));
}

// The architecture's own word is the machine's.
std::string Portable(std::string text) {
  json document = json::parse(text);
  if (document["linux"].contains("seccomp")) document["linux"]["seccomp"].erase("architectures");
  return document.dump(1);
}

TEST(OciConfig, OfABareContainer) { ExpectGolden("bare", OciConfig(BareLaunch(), kFacts)); }

TEST(OciConfig, OfAContainerWithEverything) {
  ExpectGolden("full", Portable(OciConfig(FullLaunch(), kFacts)));
}

TEST(OciConfig, OfAPrivilegedContainer) {
  LaunchSpec spec = BareLaunch();
  spec.container.privileged = true;
  spec.container.capabilities.bounding = AllCapabilities();
  spec.oci.resources = OciResources({}, {{'a', -1, -1, "rwm"}}, false);
  const json config = json::parse(OciConfig(spec, kFacts));
  for (const json& mount : config["mounts"]) {
    EXPECT_THAT(mount["options"], Not(Contains("ro"))) << mount;
  }
  EXPECT_THAT(config["linux"]["resources"]["devices"],
              ElementsAre(json{{"allow", false}, {"access", "rwm"}},
                          json{{"allow", true}, {"type", "c"}, {"access", "rwm"}},
                          json{{"allow", true}, {"type", "b"}, {"access", "rwm"}}));
}

TEST(OciConfig, GivesOnlyTheCapabilitiesThereAre) {
  LaunchSpec spec = BareLaunch();
  const uint64_t wanted = CapabilityBit(CAP_CHOWN) | CapabilityBit(CAP_SYS_RESOURCE);
  spec.container.capabilities = {.bounding = wanted,
                                 .effective = wanted,
                                 .permitted = wanted,
                                 .inheritable = wanted,
                                 .ambient = wanted};
  OciFacts facts = kFacts;
  facts.capabilities = ~CapabilityBit(CAP_SYS_RESOURCE);
  const json sets = json::parse(OciConfig(spec, facts))["process"]["capabilities"];
  EXPECT_EQ(sets.size(), 5U);
  for (const auto& [name, list] : sets.items()) EXPECT_THAT(list, ElementsAre("CAP_CHOWN")) << name;
}

TEST(OciConfig, PropagationReachesOutOnlyWhereAMountAsks) {
  LaunchSpec spec = BareLaunch();
  const auto propagation = [&] {
    return json::parse(OciConfig(spec, kFacts))["linux"]["rootfsPropagation"].get<std::string>();
  };
  EXPECT_EQ(propagation(), "rprivate");
  spec.container.mounts = {
      {.source = "/a", .target = "/a", .propagation = MountPropagation::kSlave}};
  EXPECT_EQ(propagation(), "rslave");
  spec.container.mounts.push_back(
      {.source = "/b", .target = "/b", .propagation = MountPropagation::kShared});
  EXPECT_EQ(propagation(), "rshared");
}

TEST(OciConfig, TakesBytesThatAreNoText) {
  LaunchSpec spec = BareLaunch();
  spec.container.env = {"BAD=\xff\xfe"};
  EXPECT_TRUE(json::accept(OciConfig(spec, kFacts)));
}

TEST(OciResources, OnUpdateSaysNothingOfDevices) {
  EXPECT_EQ(OciResources({.memory_limit_bytes = -1}, {}, false), R"({"memory":{"limit":-1}})");
  // cgroup v1 has no such files.
  EXPECT_EQ(OciResources({.unified = {{"memory.high", "1"}}}, {}, false), "{}");
}

// What is rendered means what it was rendered from.
TEST(RenderSeccompProfile, CanBeReadAgain) {
  for (const uint64_t capabilities : {uint64_t{0}, DefaultCapabilities(), ~uint64_t{0}}) {
    const SeccompProfile profile = DefaultSeccompProfile(capabilities);
    const auto again = ParseSeccompProfile(RenderSeccompProfile(profile), capabilities);
    ASSERT_TRUE(again.ok()) << again.error().message();
    EXPECT_EQ(CompileSeccompFilter(*again).value(), CompileSeccompFilter(profile).value());
  }
}

TEST(RenderSeccompProfile, OfAProfileFromAFile) {
  const std::string text = R"({"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":38,
    "archMap":[{"architecture":"SCMP_ARCH_X86_64","subArchitectures":["SCMP_ARCH_X86"]}],
    "syscalls":[
     {"names":["read"],"action":"SCMP_ACT_ALLOW","excludes":{"caps":["CAP_CHOWN"]}},
     {"names":["write"],"action":"SCMP_ACT_LOG","includes":{"caps":["CAP_CHOWN"]}},
     {"names":["socket"],"action":"SCMP_ACT_ALLOW",
      "args":[{"index":0,"value":1,"op":"SCMP_CMP_EQ"},{"index":0,"value":2,"op":"SCMP_CMP_EQ"}]},
     {"names":["clone"],"action":"SCMP_ACT_ALLOW",
      "args":[{"index":0,"value":255,"valueTwo":3,"op":"SCMP_CMP_MASKED_EQ"}]}]})";
  const SeccompSpec spec{.kind = SeccompSpec::Kind::kProfile, .profile_json = text};
  const json rendered = json::parse(OciSeccompFor(spec, CapabilityBit(CAP_CHOWN)).value());
  EXPECT_EQ(rendered["defaultErrnoRet"], 38);
  ASSERT_EQ(rendered["syscalls"].size(), 4U);
  EXPECT_EQ(rendered["syscalls"][0], (json{{"names", {"write"}}, {"action", "SCMP_ACT_LOG"}}));
  // Either of two values: a rule for each.
  EXPECT_EQ(rendered["syscalls"][1]["args"][0]["value"], 1);
  EXPECT_EQ(rendered["syscalls"][2]["args"][0]["value"], 2);
  EXPECT_EQ(rendered["syscalls"][3]["args"][0],
            (json{{"index", 0}, {"value", 255}, {"valueTwo", 3}, {"op", "SCMP_CMP_MASKED_EQ"}}));
  EXPECT_EQ(OciSeccompFor({.kind = SeccompSpec::Kind::kUnconfined}, 0).value(), "");
}

}  // namespace
}  // namespace skiff::runtime

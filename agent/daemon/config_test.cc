#include "agent/daemon/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/os/files.h"

namespace skiff::agent {
namespace {

using ::testing::HasSubstr;

TEST(ConfigTest, ReadsEverySettingThatIsDocumented) {
  // The shipped file with its comment signs taken off is a complete configuration.
  std::string text = ReadFile("packaging/config/agent.yaml").value();
  std::string bare;
  for (size_t start = 0; start < text.size();) {
    size_t end = std::min(text.find('\n', start), text.size());
    std::string line = text.substr(start, end - start);
    start = end + 1;
    bool prose = line.starts_with("# ") && !line.starts_with("#  ");
    if (line.starts_with("#") && !prose) bare += line.substr(1) + "\n";
  }
  ASSERT_THAT(bare, HasSubstr("healthAddress"));
  auto config = ParseConfig(bare, "agent.yaml");
  ASSERT_TRUE(config.ok()) << config.error().message();
  AgentConfig defaults;
  EXPECT_EQ(config->state_dir, defaults.state_dir);
  EXPECT_EQ(config->run_dir, defaults.run_dir);
  EXPECT_EQ(config->cgroup_root, defaults.cgroup_root);
  EXPECT_EQ(config->pod_cidrs, defaults.pod_cidrs);
  EXPECT_EQ(config->max_pods, defaults.max_pods);
  EXPECT_EQ(config->health_address, defaults.health_address);
  ASSERT_EQ(config->registries.size(), 1u);
  EXPECT_EQ(config->registries[0].host, "registry.example.com:5000");
  ASSERT_EQ(config->runtime_handlers.size(), 1u);
  EXPECT_EQ(config->runtime_handlers[0].path, "/usr/bin/crun");
}

TEST(ConfigTest, SaysWhereTheMistakeIs) {
  EXPECT_THAT(ParseConfig("nodeName: a\nnodename: b\n", "f.yaml").error().message(),
              HasSubstr("f.yaml:2: unknown setting \"nodename\""));
  EXPECT_THAT(ParseConfig("maxPods: many\n", "f.yaml").error().message(),
              HasSubstr("f.yaml:1: \"maxPods\" has a value of the wrong kind"));
  EXPECT_THAT(ParseConfig("logLevel: loud\n", "f.yaml").error().message(), HasSubstr("f.yaml:1"));
  EXPECT_THAT(ParseConfig("registries:\n  - hosts: x\n", "f.yaml").error().message(),
              HasSubstr("f.yaml:2: unknown setting \"hosts\""));
  EXPECT_THAT(ParseConfig("runtimeHandlers:\n  - name: x\n    path: x\n", "f").error().message(),
              HasSubstr("f:2: a runtime handler needs an absolute path"));
  EXPECT_FALSE(ParseConfig("a: [", "f.yaml").ok());
  EXPECT_FALSE(ParseConfig("- a\n", "f.yaml").ok());
  EXPECT_THAT(ParseConfig("containerLogMaxSize: big\n", "f.yaml").error().message(),
              HasSubstr("f.yaml:1: containerLogMaxSize"));
  EXPECT_TRUE(ParseConfig("", "f.yaml").ok());
}

TEST(ConfigTest, LogsAreRotatedByWhoeverIsTheKubelet) {
  AgentConfig node;
  ASSERT_TRUE(CompleteConfig(&node).ok());
  EXPECT_EQ(node.container_log_max_bytes, 10U << 20);
  AgentConfig runtime;
  runtime.runtime_only = true;
  ASSERT_TRUE(CompleteConfig(&runtime).ok());
  EXPECT_EQ(runtime.container_log_max_bytes, 0U);
  AgentConfig told = *ParseConfig("containerLogMaxSize: 5Mi\ncontainerLogMaxFiles: 3\n", "f");
  told.runtime_only = true;
  ASSERT_TRUE(CompleteConfig(&told).ok());
  EXPECT_EQ(told.container_log_max_bytes, 5U << 20);
  EXPECT_EQ(told.container_log_max_files, 3U);
  told.container_log_max_files = 1;
  EXPECT_FALSE(CompleteConfig(&told).ok());
  runtime.runtime_endpoint = "/run/other.sock";
  EXPECT_FALSE(CompleteConfig(&runtime).ok());
}

TEST(ConfigTest, CompletesAndChecks) {
  AgentConfig config;
  config.server = "10.0.0.1";
  config.cgroup_root = "/";
  ASSERT_TRUE(CompleteConfig(&config).ok());
  EXPECT_EQ(config.server, "10.0.0.1:6444");
  EXPECT_EQ(config.cgroup_root, "");
  EXPECT_FALSE(config.node_name.empty());
  config.node_name = "Has_Bad Signs";
  EXPECT_THAT(CompleteConfig(&config).error().message(), HasSubstr("is no node name"));
  config.node_name = "n1";
  config.proxy_mode = "magic";
  EXPECT_FALSE(CompleteConfig(&config).ok());
  for (const char* mode : {"iptables", "nftables", "auto", "none"}) {
    AgentConfig fine;
    fine.proxy_mode = mode;
    EXPECT_TRUE(CompleteConfig(&fine).ok()) << mode;
  }
  for (auto [address, means] : std::map<const char*, const char*>{{"0.0.0.0:10256", ":10256"},
                                                                  {"[::1]:1", "[::1]:1"},
                                                                  {"127.0.0.1:2", "127.0.0.1:2"},
                                                                  {"", ""}}) {
    AgentConfig fine =
        *ParseConfig("proxy: {healthzBindAddress: \"" + std::string(address) + "\"}", "f");
    EXPECT_TRUE(CompleteConfig(&fine).ok()) << address;
    EXPECT_EQ(fine.proxy_health_address, means);
  }
  for (const char* address : {"10256", "somewhere:1", ":", "0.0.0.0:99999"}) {
    AgentConfig wrong;
    wrong.proxy_health_address = address;
    EXPECT_FALSE(CompleteConfig(&wrong).ok()) << address;
  }
  config.proxy_mode = "none";
  config.fast_path_mode = "magic";
  EXPECT_FALSE(CompleteConfig(&config).ok());
  config.fast_path_mode = "none";
  config.network_policy_mode = "magic";
  EXPECT_FALSE(CompleteConfig(&config).ok());
  config.network_policy_mode = "none";
  config.state_dir = "relative";
  EXPECT_FALSE(CompleteConfig(&config).ok());
}

TEST(ConfigTest, AMissingFileIsTheDefaults) {
  EXPECT_EQ(LoadConfig("/does/not/exist.yaml")->max_pods, 110);
}

}  // namespace
}  // namespace skiff::agent

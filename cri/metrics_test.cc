// clang-format off: first, since <signal.h> has macros named as CRI's signals.
#include "cri/metrics.h"
// clang-format on

#include <gtest/gtest.h>

#include <map>
#include <set>

namespace skiff::cri {
namespace {

// Everything that can be told, each figure another.
MetricSource Full(bool is_pod) {
  MetricSource source;
  source.is_pod = is_pod;
  source.cgroup_path = "/kubepods/pod1";
  source.id = "c0ffee";
  source.image = "app:v1";
  source.container = "main";
  source.pod = "web-0";
  source.name_space = "shop";
  source.now = WallTime(std::chrono::seconds(1000));
  source.started = WallTime(std::chrono::seconds(900));
  runtime::CgroupMetrics& usage = source.usage;
  usage.stats.cpu_usage_nanos = 7'900'000'000;
  usage.stats.memory_usage_bytes = 11;
  usage.stats.memory_working_set_bytes = 12;
  usage.stats.memory_rss_bytes = 13;
  usage.stats.page_faults = 14;
  usage.stats.major_page_faults = 15;
  usage.stats.swap_usage_bytes = 16;
  usage.stats.pids = 17;
  usage.stats.cpu_pressure = runtime::Pressure{{0, 0, 0, 18'000'000}, {0, 0, 0, 19'000'000}};
  usage.stats.memory_pressure = usage.stats.io_pressure = usage.stats.cpu_pressure;
  usage.cpu_user_nanos = usage.cpu_system_nanos = 3'000'000'000;
  usage.cfs_periods = usage.cfs_throttled_periods = usage.cfs_throttled_nanos = 20;
  usage.memory_cache_bytes = usage.memory_mapped_file_bytes = usage.memory_kernel_bytes = 21;
  usage.memory_max_usage_bytes = usage.memory_limit_hits = usage.memory_low_bytes = 22;
  usage.oom_kills = usage.pids_limit = 23;
  usage.processes = runtime::ProcessUsage{24, 25, 26, 27};
  usage.devices.push_back({8, 16, 28, 29, 30, 31});
  usage.hugepages.push_back({"2MB", 32, 33});
  source.links.push_back({.name = "eth0", .counters = {.rx_bytes = 34, .tx_bytes = 35}});
  source.resources.set_cpu_period(100000);
  source.resources.set_cpu_quota(20000);
  source.resources.set_cpu_shares(1024);
  source.disk.bytes = 36;
  source.file_system = FileSystemFigures{"/dev/vda1", 37, 38, 39};
  return source;
}

std::map<std::string, std::vector<std::string>> LabelKeys() {
  std::map<std::string, std::vector<std::string>> keys;
  for (const auto& descriptor : MetricDescriptors()) {
    EXPECT_FALSE(descriptor.help().empty()) << descriptor.name();
    EXPECT_FALSE(keys.contains(descriptor.name())) << descriptor.name();
    keys[descriptor.name()] = {descriptor.label_keys().begin(), descriptor.label_keys().end()};
  }
  return keys;
}

TEST(Metrics, EveryDescriptorHasValuesWithItsLabels) {
  const auto keys = LabelKeys();
  std::set<std::string> seen;
  for (const bool is_pod : {false, true}) {
    for (const auto& metric : RenderMetrics(Full(is_pod))) {
      seen.insert(metric.name());
      ASSERT_TRUE(keys.contains(metric.name())) << metric.name();
      EXPECT_EQ(static_cast<size_t>(metric.label_values_size()), keys.at(metric.name()).size())
          << metric.name();
      EXPECT_EQ(metric.timestamp(), 1'000'000'000'000);
    }
  }
  EXPECT_EQ(seen.size(), keys.size());
  // As many as kubelet's own collector tells of a container and its pod.
  EXPECT_EQ(keys.size(), 56U);
}

TEST(Metrics, ValuesComeFromTheirFigures) {
  std::map<std::string, uint64_t> values;
  for (const bool is_pod : {true, false}) {
    for (const auto& metric : RenderMetrics(Full(is_pod))) {
      values[metric.name()] = metric.value().value();
    }
  }
  EXPECT_EQ(values["container_cpu_usage_seconds_total"], 7U) << "whole seconds, rounded down";
  EXPECT_EQ(values["container_memory_usage_bytes"], 11U);
  EXPECT_EQ(values["container_memory_working_set_bytes"], 12U);
  EXPECT_EQ(values["container_pressure_cpu_waiting_seconds_total"], 18U);
  EXPECT_EQ(values["container_pressure_io_stalled_seconds_total"], 19U);
  EXPECT_EQ(values["container_processes"], 24U);
  EXPECT_EQ(values["container_file_descriptors"], 25U);
  EXPECT_EQ(values["container_sockets"], 26U);
  EXPECT_EQ(values["container_ulimits_soft"], 27U);
  EXPECT_EQ(values["container_fs_writes_total"], 31U);
  EXPECT_EQ(values["container_network_receive_bytes_total"], 34U);
  EXPECT_EQ(values["container_network_transmit_bytes_total"], 35U);
  EXPECT_EQ(values["container_fs_usage_bytes"], 36U);
  EXPECT_EQ(values["container_spec_cpu_quota"], 20000U);
  EXPECT_EQ(values["container_spec_memory_limit_bytes"], 0U) << "none was asked for";
  EXPECT_EQ(values["container_start_time_seconds"], 900U);
}

TEST(Metrics, WhatIsNotKnownHasNoValue) {
  MetricSource source;
  source.now = WallTime(std::chrono::seconds(1000));
  std::set<std::string> seen;
  for (const auto& metric : RenderMetrics(source)) seen.insert(metric.name());
  EXPECT_EQ(seen, (std::set<std::string>{"container_last_seen", "container_spec_memory_limit_bytes",
                                         "container_spec_memory_swap_limit_bytes"}));
}

}  // namespace
}  // namespace skiff::cri

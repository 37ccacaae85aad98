// PluginNetwork with plugins that touch no network and misbehave on request (tests/peers).
#include "cni/runner/plugin_network.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <condition_variable>
#include <csignal>
#include <filesystem>
#include <mutex>

#include "base/os/files.h"
#include "cni/runner/arguments.h"
#include "cni/runner/attachments.h"
#include "cni/runner/config_directory.h"
#include "tests/support/leak_check.h"

namespace skiff::cni {
namespace {

using std::chrono::milliseconds;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class PluginNetworkTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ::signal(SIGPIPE, SIG_IGN);  // as daemons do: not every plugin reads what it is given
    for (const char* folder : {"/net.d", "/bin", "/state"}) Must(MakeDirectories(Path(folder)));
    Install("peer");
    Install("second");
    Configure("10-net.conflist", Chain());
  }

  std::string Path(const std::string& name) const { return work_.path() + name; }
  static void Must(const Result<>& result) {
    ASSERT_TRUE(result.ok()) << result.error().ToString();
  }
  void Install(const std::string& type) {
    std::filesystem::copy_file(SKIFF_CNI_PEER, Path("/bin/" + type));
  }
  void Configure(const std::string& name, const std::string& text) {
    Must(WriteFileAtomic(Path("/net.d/" + name), text, Durability::kNone));
  }
  std::string Plugin(const std::string& type, const std::string& more = "") const {
    return R"({"type": ")" + type + R"(", "label": ")" + type + R"(", "state": ")" +
           Path("/state") + R"(", "plan": ")" + Path("/plan-" + type) + R"(")" + more + "}";
  }
  std::string Chain(const std::string& version = "1.1.0") const {
    return R"({"cniVersion": ")" + version + R"(", "name": "net", "plugins": [)" +
           Plugin("peer", R"(, "capabilities": {"ips": true, "ipRanges": true, "dns": true})") +
           ", " +
           Plugin("second", R"(, "capabilities": {"portMappings": true, "bandwidth": true})") +
           "]}";
  }
  // What a plugin is to do wrong, in this order.
  void Plan(const std::string& type, const std::string& lines) {
    Must(WriteFileAtomic(Path("/plan-" + type), lines, Durability::kNone));
  }

  void Open(const std::string& boot = "boot-1") {
    network_.reset();
    PluginNetworkConfig config;
    config.config_directory = Path("/net.d");
    config.programs.directories = {Path("/bin")};
    config.programs.deadline = deadline_;
    config.state_dir = Path("/records");
    config.boot_id = boot;
    config.set_up_loopback = [](const net::Netns&) { return Result<>(); };
    network_ = PluginNetwork::Open(std::move(config)).value();
  }

  static AttachRequest RequestFor(const std::string& id) {
    AttachRequest request{.sandbox_id = id,
                          .netns_path = "/proc/self/ns/net",
                          .pod_namespace = "default",
                          .pod_name = "web",
                          .pod_uid = "uid-1"};
    request.ports = {{Protocol::kUdp, 5353, 53, net::IpAddress::V4(10, 0, 0, 1)},
                     {Protocol::kTcp, 0, 80, {}}};
    request.dns.servers = {"10.96.0.10"};
    return request;
  }
  // Why not; empty: attached.
  std::string AttachTrouble(const std::string& id) {
    auto attachment = network_->Attach(RequestFor(id));
    return attachment.ok() ? "" : attachment.error().message();
  }
  // "ADD a", ... of all plugins.
  std::vector<std::string> Calls() const {
    std::vector<std::string> lines;
    std::string text = ReadFile(Path("/state/calls")).value_or("");
    for (size_t at = 0; at < text.size();) {
      size_t end = text.find('\n', at);
      std::string line = text.substr(at, end - at);
      if (!line.starts_with("STATUS")) lines.push_back(line);
      at = end + 1;
    }
    return lines;
  }
  void ForgetCalls() { Must(RemoveFile(Path("/state/calls"))); }
  std::vector<std::string> LeftByPlugins() const {
    std::vector<std::string> left;
    const std::vector<std::string> names = ListDirectory(Path("/state")).value();
    for (const std::string& name : names) {
      if (name.find('-') != std::string::npos) left.push_back(name);
    }
    return left;
  }
  std::vector<std::string> Records() const {
    return ListDirectory(Path("/records/attachments")).value();
  }
  void ExpectNothingLeft() const {
    EXPECT_THAT(LeftByPlugins(), IsEmpty());
    EXPECT_THAT(Records(), IsEmpty());
  }

  TempDir work_ = TempDir::Make("skiff-cni").value();
  milliseconds deadline_ = std::chrono::seconds(30);
  std::unique_ptr<PluginNetwork> network_;
};

TEST_F(PluginNetworkTest, AttachesThroughTheChainAndDetachesInReverse) {
  Open();
  EXPECT_EQ(network_->Unready(), "");
  ASSERT_TRUE(network_->SetPodCidrs({net::IpPrefix::Parse("10.244.1.0/24").value()}, {}).ok());
  ForgetCalls();
  auto attachment = network_->Attach(RequestFor("a"));
  ASSERT_TRUE(attachment.ok()) << attachment.error().ToString();
  ASSERT_EQ(attachment->addresses.size(), 1u);
  EXPECT_EQ(attachment->addresses[0].address.ToString(), "10.77.0.4");
  EXPECT_EQ(attachment->addresses[0].gateway.ToString(), "10.77.0.1");
  EXPECT_EQ(attachment->interface, "eth0");
  EXPECT_EQ(attachment->host_interface, "peer0");
  EXPECT_EQ(network_->Get("a")->addresses, attachment->addresses);
  EXPECT_TRUE(network_->Check("a").ok());
  // Asked again: the same.
  EXPECT_EQ(network_->Attach(RequestFor("a"))->addresses, attachment->addresses);
  EXPECT_TRUE(network_->Detach("a").ok());
  EXPECT_TRUE(network_->Detach("a").ok());
  EXPECT_THAT(Calls(), ElementsAre("ADD a", "ADD a", "CHECK a", "CHECK a", "DEL a", "DEL a"));
  EXPECT_EQ(network_->Get("a").error().code(), Code::kNotFound);
  ExpectNothingLeft();
}

TEST_F(PluginNetworkTest, TellsPluginsWhatTheyAskFor) {
  Open();
  ASSERT_TRUE(network_->SetPodCidrs({net::IpPrefix::Parse("10.244.1.0/24").value()}, {}).ok());
  AttachRequest request = RequestFor("a");
  request.requested_addresses = {net::IpAddress::V4(10, 244, 1, 9)};
  request.bandwidth = {.ingress_bits = 10'000'000, .egress_bits = 1'000};
  ASSERT_TRUE(network_->Attach(request).ok());
  Json first = Json::parse(ReadFile(Path("/state/peer-a")).value());
  EXPECT_EQ(first["runtimeConfig"],
            Json::parse(R"({"ips": ["10.244.1.9"], "ipRanges": [[{"subnet": "10.244.1.0/24"}]],
                            "dns": {"servers": ["10.96.0.10"], "searches": [], "options": []}})"));
  EXPECT_EQ(first["name"], "net");
  EXPECT_EQ(first["cniVersion"], "1.1.0");
  EXPECT_FALSE(first.contains("prevResult"));
  Json second = Json::parse(ReadFile(Path("/state/second-a")).value());
  EXPECT_EQ(second["runtimeConfig"],
            Json::parse(R"({"portMappings": [{"hostPort": 5353, "containerPort": 53,
                            "protocol": "udp", "hostIP": "10.0.0.1"}],
                            "bandwidth": {"ingressRate": 10000000, "ingressBurst": 1000000,
                                          "egressRate": 1000, "egressBurst": 256000}})"));
  EXPECT_EQ(second["prevResult"]["ips"][0]["gateway"], "10.77.0.1");
  EXPECT_EQ(PluginArguments(request).value(),
            "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web;"
            "K8S_POD_INFRA_CONTAINER_ID=a;K8S_POD_UID=uid-1");
  request.sandbox_id = "b";
  request.pod_name = "a;IP=10.0.0.1";
  EXPECT_EQ(network_->Attach(request).error().code(), Code::kInvalidArgument);
}

TEST_F(PluginNetworkTest, OlderVersionsAreSpoken) {
  for (const char* version : {"0.3.1", "0.4.0", "1.0.0"}) {
    Configure("10-net.conflist", Chain(version));
    Open();
    EXPECT_EQ(AttachTrouble("a"), "") << version;
    EXPECT_EQ(network_->Get("a")->addresses.size(), 1u);
    EXPECT_TRUE(network_->Detach("a").ok());
    ExpectNothingLeft();
  }
}

struct Mischief {
  const char* what;
  const char* told;  // in the error
};

// Whatever a plugin does wrong: it is told, nothing is left, and the same request then succeeds.
TEST_F(PluginNetworkTest, EveryMischiefIsUndone) {
  deadline_ = milliseconds(400);
  Open();
  const Mischief kMischief[] = {
      {"fail", "ADD: code 111: refused: as planned"},
      {"half", "ADD: code 111: half done"},
      {"crash", "ADD: exit code 3 and no CNI error; its errors: panic: as planned"},
      {"hang", "still running after 400 ms; killed"},
      {"child", "still running after 400 ms; killed"},
      {"garbage", "ADD: its result is no JSON"},
      {"silent", "ADD: its result is no JSON"},
      {"huge", "printed more than 1024 KiB"},
      {"deep", "nested too deep"},
      {"version", "cniVersion 9.0.0"},
  };
  const test::LeakCheck leaks({});
  for (const char* type : {"peer", "second"}) {
    for (const Mischief& mischief : kMischief) {
      SCOPED_TRACE(std::string(type) + ": " + mischief.what);
      Plan(type, std::string("ADD ") + mischief.what);
      std::string trouble = AttachTrouble("a");
      EXPECT_THAT(trouble, HasSubstr(mischief.told));
      EXPECT_THAT(trouble, HasSubstr(std::string("plugin ") + type));
      ExpectNothingLeft();
      EXPECT_EQ(AttachTrouble("a"), "");
      EXPECT_TRUE(network_->Detach("a").ok());
      ExpectNothingLeft();
    }
  }
  EXPECT_THAT(leaks.Differences(), IsEmpty());
}

TEST_F(PluginNetworkTest, APodWithoutAddressIsNoPod) {
  Open();
  Plan("peer", "ADD noip");
  EXPECT_THAT(AttachTrouble("a"), HasSubstr("network net: the plugins gave the pod no address"));
  ExpectNothingLeft();
}

TEST_F(PluginNetworkTest, WhatCannotBeUndoneIsTriedAgain) {
  Open();
  ASSERT_EQ(AttachTrouble("a"), "");
  for (const char* mischief : {"DEL fail", "DEL crash"}) {
    Plan("peer", mischief);
    auto detached = network_->Detach("a");
    ASSERT_FALSE(detached.ok());
    EXPECT_THAT(detached.error().message(), HasSubstr("network net: plugin peer: DEL: "));
    EXPECT_THAT(Records(), ElementsAre("a.json"));
  }
  EXPECT_TRUE(network_->Detach("a").ok());
  ExpectNothingLeft();
  // Undoing a failed ADD fails too: the record stays for whoever comes next.
  Plan("second", "ADD half\nDEL fail");
  EXPECT_THAT(AttachTrouble("b"), HasSubstr("undoing it failed: network net: plugin second: DEL"));
  EXPECT_THAT(Records(), ElementsAre("b.json"));
  EXPECT_EQ(network_->Get("b").error().code(), Code::kNotFound);
  EXPECT_EQ(AttachTrouble("b"), "");
  EXPECT_TRUE(network_->Detach("b").ok());
  ExpectNothingLeft();
}

TEST_F(PluginNetworkTest, RecoverUndoesWhatIsNotLive) {
  Open();
  for (const char* id : {"a", "b", "c"}) ASSERT_EQ(AttachTrouble(id), "");
  Plan("second", "ADD crash\nDEL crash");
  ASSERT_NE(AttachTrouble("half"), "");
  // What no record stands for any more, and a write that did not finish.
  Must(WriteFileAtomic(Path("/records/attachments/x.json"), "{}", Durability::kNone));
  Must(WriteFileAtomic(Path("/records/attachments/y.tmp"), "", Durability::kNone));
  Open();
  EXPECT_EQ(network_->Attached().size(), 4u);
  EXPECT_EQ(network_->Get("a")->addresses.size(), 1u);
  // What cannot be undone keeps nobody from starting.
  Plan("peer", "DEL fail");
  EXPECT_TRUE(network_->Recover({"a", "half"}).ok());
  EXPECT_EQ(network_->Attached().size(), 2u);
  EXPECT_TRUE(network_->Reconcile().ok());
  EXPECT_THAT(network_->Attached(), ElementsAre("a"));
  EXPECT_THAT(LeftByPlugins(), ElementsAre("peer-a", "second-a"));
  // Plugins collect garbage, told of what is valid.
  EXPECT_THAT(ReadFile(Path("/state/gc")).value(), HasSubstr("second-a\n"));
  // After a reboot nothing is live, and there is no namespace.
  Open("boot-2");
  ForgetCalls();
  EXPECT_TRUE(network_->Recover({"a"}).ok());
  EXPECT_THAT(Calls(), ElementsAre("DEL a", "DEL a", "GC ", "GC "));
  EXPECT_THAT(LeftByPlugins(), IsEmpty());
  EXPECT_THAT(Records(), ElementsAre("x.json.damaged"));
}

TEST_F(PluginNetworkTest, AConfigurationThatIsChangedHoldsForLaterPods) {
  Open();
  ASSERT_EQ(AttachTrouble("a"), "");
  Configure("05-other.conflist",
            R"({"cniVersion": "1.0.0", "name": "other", "plugins": [)" + Plugin("second") + "]}");
  ASSERT_TRUE(network_->Reconcile().ok());
  ASSERT_EQ(AttachTrouble("b"), "");
  EXPECT_THAT(LeftByPlugins(), ElementsAre("peer-a", "second-a", "second-b"));
  ForgetCalls();
  EXPECT_TRUE(network_->Detach("a").ok());
  EXPECT_THAT(Calls(), ElementsAre("DEL a", "DEL a")) << "by what attached it";
  EXPECT_TRUE(network_->Detach("b").ok());
  ExpectNothingLeft();
}

TEST_F(PluginNetworkTest, TheFolderIsWatched) {
  Must(RemoveTree(Path("/net.d")));
  Open();
  EXPECT_FALSE(network_->Configured());
  EXPECT_THAT(network_->Unready(), HasSubstr("no CNI configuration in"));
  EXPECT_EQ(network_->Attach(RequestFor("a")).error().code(), Code::kFailedPrecondition);
  std::mutex mutex;
  std::condition_variable changed;
  int changes = 0;
  network_->OnChange([&] {
    std::lock_guard lock(mutex);
    ++changes;
    changed.notify_all();
  });
  auto wait = [&](int count) {
    std::unique_lock lock(mutex);
    return changed.wait_for(lock, std::chrono::seconds(20), [&] { return changes >= count; });
  };
  // The folder, then a file in it; gone with the folder; and back by a rename.
  Must(MakeDirectories(Path("/net.d")));
  Configure("10-net.conflist", Chain());
  EXPECT_TRUE(wait(1));
  EXPECT_TRUE(network_->Configured());
  EXPECT_EQ(AttachTrouble("a"), "");
  std::filesystem::rename(Path("/net.d"), Path("/away"));
  EXPECT_TRUE(wait(2));
  EXPECT_FALSE(network_->Configured());
  std::filesystem::rename(Path("/away"), Path("/net.d"));
  EXPECT_TRUE(wait(3));
  EXPECT_TRUE(network_->Configured());
  network_->OnChange(nullptr);
  EXPECT_TRUE(network_->Detach("a").ok());
}

TEST_F(PluginNetworkTest, SaysWhyItIsNotReady) {
  Configure("10-net.conflist", "{}");
  Open();
  EXPECT_TRUE(network_->Configured()) << "nothing else is taken instead";
  EXPECT_THAT(network_->Unready(), HasSubstr("10-net.conflist: \"name\""));

  Configure("10-net.conflist",
            R"({"cniVersion": "1.0.0", "name": "n", "plugins": [{"type": "absent"}]})");
  ASSERT_TRUE(network_->Reconcile().ok());
  EXPECT_THAT(network_->Unready(),
              HasSubstr("plugin absent: there is no such program in " + Path("/bin")));

  Must(WriteFileAtomic(Path("/bin/versions.json"), R"(["0.3.1", "0.4.0"])", Durability::kNone));
  Configure("10-net.conflist", Chain("1.0.0"));
  ASSERT_TRUE(network_->Reconcile().ok());
  EXPECT_THAT(network_->Unready(),
              HasSubstr("plugin peer can be run with CNI 0.3.1, 0.4.0, network net with 1.0.0"));

  // The plugin is replaced: the next pod finds it.
  Must(RemoveFile(Path("/bin/versions.json")));
  EXPECT_EQ(AttachTrouble("a"), "");
  EXPECT_TRUE(network_->Detach("a").ok());

  Configure("10-net.conflist", Chain("1.1.0"));
  Plan("peer", "STATUS! fail");
  ASSERT_TRUE(network_->Reconcile().ok());
  EXPECT_THAT(network_->Unready(), HasSubstr("plugin peer: STATUS: code 111"));
  Plan("peer", "");
  ASSERT_TRUE(network_->Reconcile().ok());
  EXPECT_EQ(network_->Unready(), "");
}

TEST(ConfigDirectoryTest, TheFirstByNameCounts) {
  TempDir folder = TempDir::Make("skiff-cni").value();
  auto write = [&](const std::string& name, const std::string& text) {
    ASSERT_TRUE(MakeDirectories(folder.path() + "/net").ok());
    ASSERT_TRUE(WriteFileAtomic(folder.path() + "/" + name, text, Durability::kNone).ok());
  };
  EXPECT_FALSE(LoadNetwork(folder.path() + "/none").value().has_value());
  write("README", "nothing to see");
  EXPECT_FALSE(LoadNetwork(folder.path()).value().has_value());
  write("50-b.conf", R"({"name": "b", "type": "bridge", "cniVersion": "0.3.1"})");
  EXPECT_EQ(LoadNetwork(folder.path()).value()->network.name, "b");
  write("20-a.conflist", R"({"name": "net", "cniVersion": "1.0.0", "plugins": [{"type": "x"}]})");
  write("10-none.conflist", R"({"name": "empty", "cniVersion": "1.0.0", "plugins": []})");
  write("00-podman.conflist",
        R"({"name": "podman", "cniVersion": "0.4.0", "plugins": [{"type": "bridge"}]})");
  // With what was added beside it.
  write("net/10-more.conf", R"({"type": "y"})");
  auto found = LoadNetwork(folder.path()).value();
  EXPECT_EQ(found->file, folder.path() + "/20-a.conflist");
  ASSERT_EQ(found->network.plugins.size(), 2u);
  EXPECT_EQ(found->network.plugins[1].type, "y");
  write("05-bad.json", "{");
  auto bad = LoadNetwork(folder.path());
  ASSERT_FALSE(bad.ok());
  EXPECT_THAT(bad.error().message(), HasSubstr("05-bad.json"));
}

TEST(AttachmentRecordTest, SurvivesBeingWrittenDown) {
  AttachmentRecord record{.boot_id = "b", .pod = "default/web", .version = kCni100};
  record.network =
      ParseNetworkConfig(R"({"name": "n", "cniVersion": "1.0.0", "plugins": [{"type": "x"}]})")
          .value();
  record.call = {.container_id = "a", .netns = "/n", .interface = "eth0", .arguments = "A=b"};
  record.call.capabilities = {{"ips", {"10.0.0.1"}}};
  for (const Json& result : {Json(), Json{{"cniVersion", "1.0.0"}}}) {
    record.result = result;
    const std::string text = RenderAttachment(record);
    AttachmentRecord again = ParseAttachment(text).value();
    EXPECT_EQ(RenderAttachment(again), text);
    EXPECT_EQ(again.result, result);
    EXPECT_EQ(again.call.arguments, "A=b");
  }
  EXPECT_EQ(ParseAttachment("{\"version\": 2}").error().code(), Code::kDataLoss);
  EXPECT_EQ(ParseAttachment("").error().code(), Code::kDataLoss);
}

}  // namespace
}  // namespace skiff::cni

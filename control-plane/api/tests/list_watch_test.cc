// Lists, tables, discovery and watches; the in-process client's subscriptions.

#include <set>

#include "control-plane/api/tests/api_fixture.h"
#include "proto/k8s/core/v1/config.pb.h"

namespace skiff::cp {
namespace {

using k8s::core::v1::ConfigMap;

class ListWatchTest : public ApiFixture {
 protected:
  // The version of the list before anything is made.
  std::string Version() { return Ask("GET", kConfigMaps).json()["metadata"]["resourceVersion"]; }
  void Make(const std::string& name, const std::string& label = "") {
    Json map = ConfigMapJson(name);
    if (!label.empty()) map["metadata"]["labels"]["l"] = label;
    ASSERT_EQ(Ask("POST", kConfigMaps, map).status, 201);
  }
  std::shared_ptr<CapturedStream> Watch(const std::string& query, http::Headers headers = {}) {
    return Ask("GET", std::string(kConfigMaps) + "?watch=1&" + query, "", std::move(headers))
        .stream;
  }
  static std::string Seen(const Json& event) {
    if (!event.is_object()) return event.dump();
    return event["type"].get<std::string>() + " " +
           event["object"]["metadata"].value("name", std::string("-"));
  }
};

TEST_F(ListWatchTest, PagesShowOneState) {
  for (int i = 0; i < 7; ++i) Make("m" + std::to_string(i));
  std::set<std::string> names;
  std::string token;
  int pages = 0;
  do {
    Json page = Ask("GET", std::string(kConfigMaps) + "?limit=3&continue=" + token).json();
    for (const auto& item : page["items"]) names.insert(item["metadata"]["name"]);
    token = page["metadata"].value("continue", "");
    if (pages == 0) {
      EXPECT_EQ(page["metadata"]["remainingItemCount"], 4);
      Make("m9");  // later pages do not see it
    }
    ++pages;
  } while (!token.empty());
  EXPECT_EQ(pages, 3);
  EXPECT_EQ(names.size(), 7u);
  EXPECT_FALSE(names.contains("m9"));
}

TEST_F(ListWatchTest, ItemsOfListsLeaveTheirTypeToTheList) {
  Make("a");
  Json list = Ask("GET", kConfigMaps).json();
  EXPECT_EQ(list["kind"], "ConfigMapList");
  EXPECT_EQ(list["apiVersion"], "v1");
  EXPECT_FALSE(list["items"][0].contains("kind"));
  EXPECT_FALSE(list["items"][0].contains("apiVersion"));
  EXPECT_TRUE(list["items"][0].contains("metadata"));
}

TEST_F(ListWatchTest, VersionsAreHonoured) {
  Make("a");
  std::string version = Version();
  Make("b");
  auto count = [&](const std::string& query) {
    return Ask("GET", std::string(kConfigMaps) + "?" + query).json()["items"].size();
  };
  EXPECT_EQ(count("resourceVersion=" + version + "&resourceVersionMatch=Exact"), 1u);
  EXPECT_GE(count("resourceVersion=" + version + "&resourceVersionMatch=NotOlderThan"), 1u);
  EXPECT_EQ(count(""), 2u) << "the newest";
  EXPECT_EQ(Ask("GET", std::string(kConfigMaps) + "?resourceVersion=abc").status, 400);
  EXPECT_EQ(Ask("GET", std::string(kConfigMaps) + "?resourceVersionMatch=Exact").status, 422);
  EXPECT_EQ(Ask("GET", std::string(kConfigMaps) + "?limit=1&continue=junk").status, 400);
}

TEST_F(ListWatchTest, CompactedVersionsAreGone) {
  for (int i = 0; i < 5; ++i) Make("m" + std::to_string(i));
  Json page = Ask("GET", std::string(kConfigMaps) + "?limit=2").json();
  ASSERT_TRUE(page["metadata"].contains("continue"));
  Make("later");
  ASSERT_TRUE(store_->Compact(store_->CurrentRevision()).ok());
  Reply gone = Ask("GET", std::string(kConfigMaps) + "?limit=2&continue=" +
                              page["metadata"]["continue"].get<std::string>());
  EXPECT_EQ(gone.status, 410);
  EXPECT_EQ(gone.json()["reason"], "Expired");
}

TEST_F(ListWatchTest, SelectorsSelect) {
  Make("a", "x");
  Make("b", "y");
  auto names = [&](const std::string& query) {
    std::string text;
    const Json list = Ask("GET", std::string(kConfigMaps) + "?" + query).json();
    for (const auto& item : list["items"]) {
      text += item["metadata"]["name"].get<std::string>();
    }
    return text;
  };
  EXPECT_EQ(names("labelSelector=l%3Dx"), "a");
  EXPECT_EQ(names("labelSelector=l+in+(x,y)"), "ab");
  EXPECT_EQ(names("fieldSelector=metadata.name%3Db"), "b");
  EXPECT_EQ(Ask("GET", std::string(kConfigMaps) + "?labelSelector=%3D%3D%3D").status, 400);
  EXPECT_EQ(Ask("GET", std::string(kConfigMaps) + "?fieldSelector=data.x%3D1").status, 400);
}

TEST_F(ListWatchTest, TablesHaveTheKindsColumns) {
  ASSERT_EQ(Ask("POST", kPods, PodJson("p")).status, 201);
  Json table = Ask("GET", kPods, "",
                   {{"Accept", "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"}})
                   .json();
  EXPECT_EQ(table["kind"], "Table");
  EXPECT_EQ(table["columnDefinitions"][1]["name"], "Ready");
  EXPECT_EQ(table["rows"][0]["cells"][0], "p");
  EXPECT_EQ(table["rows"][0]["cells"].size(), table["columnDefinitions"].size());
  EXPECT_EQ(table["rows"][0]["object"]["kind"], "PartialObjectMetadata");
  Json partial =
      Ask("GET", kPods, "",
          {{"Accept", "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"}})
          .json();
  EXPECT_EQ(partial["kind"], "PartialObjectMetadataList");
  EXPECT_FALSE(partial["items"][0].contains("spec"));
}

TEST_F(ListWatchTest, WatchFollowsAListWithoutAGap) {
  Make("before");
  std::string version = Version();
  Make("a");
  auto watch = Watch("resourceVersion=" + version);
  EXPECT_EQ(Seen(watch->Next()), "ADDED a");
  Patch(std::string(kConfigMaps) + "/a", "application/merge-patch+json", R"({"data":{"k":"v"}})");
  EXPECT_EQ(Seen(watch->Next()), "MODIFIED a");
  Json last = Ask("GET", std::string(kConfigMaps) + "/a").json();
  Ask("DELETE", std::string(kConfigMaps) + "/a");
  Json deleted = watch->Next();
  EXPECT_EQ(Seen(deleted), "DELETED a");
  EXPECT_EQ(deleted["object"]["data"]["k"], "v");
  EXPECT_GT(std::stoll(deleted["object"]["metadata"]["resourceVersion"].get<std::string>()),
            std::stoll(last["metadata"]["resourceVersion"].get<std::string>()));
  watch->Leave();
}

TEST_F(ListWatchTest, WatchWithoutVersionBeginsWithWhatIsThere) {
  Make("a");
  auto watch = Watch("");
  EXPECT_EQ(Seen(watch->Next()), "ADDED a");
  Make("b");
  EXPECT_EQ(Seen(watch->Next()), "ADDED b");
}

TEST_F(ListWatchTest, SelectorsTurnChangesIntoArrivalsAndDepartures) {
  Make("a", "no");
  auto watch = Watch("labelSelector=l%3Dyes&resourceVersion=" + Version());
  auto label = [&](const char* value) {
    Patch(std::string(kConfigMaps) + "/a", "application/merge-patch+json",
          std::string(R"({"metadata":{"labels":{"l":")") + value + "\"}}}");
  };
  label("yes");
  EXPECT_EQ(Seen(watch->Next()), "ADDED a");
  label("no");
  EXPECT_EQ(Seen(watch->Next()), "DELETED a");
  label("yes");
  EXPECT_EQ(Seen(watch->Next()), "ADDED a");
}

TEST_F(ListWatchTest, StreamingListsEndWithABookmark) {
  Make("a");
  Make("b");
  auto watch =
      Watch("sendInitialEvents=true&allowWatchBookmarks=true&resourceVersionMatch=NotOlderThan");
  EXPECT_EQ(Seen(watch->Next()), "ADDED a");
  EXPECT_EQ(Seen(watch->Next()), "ADDED b");
  Json mark = watch->Next();
  EXPECT_EQ(mark["type"], "BOOKMARK");
  EXPECT_EQ(mark["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
  EXPECT_EQ(mark["object"]["metadata"]["resourceVersion"], Version());
  Make("c");
  EXPECT_EQ(Seen(watch->Next()), "ADDED c");
}

TEST_F(ListWatchTest, OldVersionsAreAnErrorInTheStream) {
  for (int i = 0; i < 3; ++i) Make("m" + std::to_string(i));
  ASSERT_TRUE(store_->Compact(store_->CurrentRevision()).ok());
  Restart();
  auto watch = Watch("resourceVersion=1");
  Json error = watch->Next();
  EXPECT_EQ(error["type"], "ERROR");
  EXPECT_EQ(error["object"]["code"], 410);
  EXPECT_EQ(error["object"]["reason"], "Expired");
  EXPECT_EQ(watch->Next(), nullptr) << "the watch has ended";
}

TEST_F(ListWatchTest, WatchesResumeAfterARestart) {
  std::string version = Version();
  Make("a");
  Restart();
  auto watch = Watch("resourceVersion=" + version);
  EXPECT_EQ(Seen(watch->Next()), "ADDED a");
}

TEST_F(ListWatchTest, WatchEndsInTime) {
  auto watch = Watch("timeoutSeconds=1&resourceVersion=" + Version());
  EXPECT_EQ(watch->Next(), nullptr);
}

TEST_F(ListWatchTest, TableWatchesNameTheirColumnsOnce) {
  auto watch = Watch("resourceVersion=" + Version(),
                     {{"Accept", "application/json;as=Table;v=v1;g=meta.k8s.io"}});
  Make("a");
  Json first = watch->Next();
  EXPECT_EQ(first["object"]["kind"], "Table");
  EXPECT_TRUE(first["object"]["columnDefinitions"].is_array());
  EXPECT_EQ(first["object"]["rows"][0]["cells"][0], "a");
  Make("b");
  EXPECT_TRUE(watch->Next()["object"]["columnDefinitions"].is_null());
}

TEST_F(ListWatchTest, DiscoveryInAllItsForms) {
  Json core = Ask("GET", "/api/v1").json();
  std::set<std::string> names;
  for (const auto& resource : core["resources"]) names.insert(resource["name"]);
  for (const char* name : {"pods", "pods/log", "pods/eviction", "namespaces/finalize", "nodes"}) {
    EXPECT_TRUE(names.contains(name)) << name;
  }
  EXPECT_EQ(Ask("GET", "/api").json()["versions"], Json::array({"v1"}));
  EXPECT_EQ(Ask("GET", "/apis").json()["groups"][0]["preferredVersion"]["groupVersion"], "apps/v1");
  EXPECT_EQ(Ask("GET", "/apis/apps").json()["name"], "apps");
  EXPECT_EQ(Ask("GET", "/apis/none/v1").status, 404);
  for (const std::string version : {"v2", "v2beta1"}) {
    Reply all = Ask("GET", "/apis", "",
                    {{"Accept", "application/json;g=apidiscovery.k8s.io;v=" + version +
                                    ";as=APIGroupDiscoveryList,application/json"}});
    EXPECT_EQ(all.json()["kind"], "APIGroupDiscoveryList");
    EXPECT_EQ(all.json()["apiVersion"], "apidiscovery.k8s.io/" + version);
    EXPECT_EQ(all.json()["items"][0]["versions"][0]["resources"][0]["subresources"].size(), 2u);
  }
}

TEST_F(ListWatchTest, HealthAndMetrics) {
  EXPECT_EQ(Ask("GET", "/readyz").body, "ok");
  EXPECT_NE(Ask("GET", "/readyz?verbose").body.find("[+]store ok"), std::string::npos);
  EXPECT_NE(Ask("GET", "/metrics").body.find("apiserver_request_total{"), std::string::npos);
  EXPECT_NE(Ask("GET", "/version").json()["gitVersion"].get<std::string>().find("+skiff"),
            std::string::npos);
  api_->BeginShutdown();
  EXPECT_EQ(Ask("GET", "/readyz").status, 500);
  EXPECT_EQ(Ask("GET", "/livez").status, 200);
}

// ---- the in-process client ----

TEST_F(ListWatchTest, SubscriptionsSeeASnapshotAndEveryChange) {
  Make("a");
  ThreadPool pool("watcher", 1);
  Strand strand(pool);
  std::mutex mutex;
  std::condition_variable changed;
  std::string seen;
  auto subscription = client().Watch<ConfigMap>("default", strand, [&](const WatchEvent& event) {
    std::lock_guard lock(mutex);
    if (event.type == WatchEvent::Type::kSynced) {
      seen += "synced ";
    } else {
      const auto& map = static_cast<const ConfigMap&>(*event.object);
      const char* names[] = {"+", "~", "-"};
      seen += names[static_cast<int>(event.type)] + map.metadata().name() + " ";
    }
    changed.notify_all();
  });
  auto expect = [&](const std::string& text) {
    std::unique_lock lock(mutex);
    changed.wait_for(lock, std::chrono::seconds(20), [&] { return seen.size() >= text.size(); });
    EXPECT_EQ(seen, text);
  };
  expect("+a synced ");
  auto map = *client().Get<ConfigMap>("default", "a").value();
  (*map.mutable_data())["k"] = "v";
  ASSERT_TRUE(client().Update(map).ok());
  auto stale = client().Update(map);
  ASSERT_FALSE(stale.ok());
  EXPECT_EQ(stale.error().code(), Code::kConflict);
  ASSERT_TRUE(client().Delete<ConfigMap>("default", "a").ok());
  EXPECT_EQ(client().Get<ConfigMap>("default", "a").error().code(), Code::kNotFound);
  expect("+a synced ~a -a ");
  subscription.reset();
  Make("b");
  expect("+a synced ~a -a ");
}

TEST_F(ListWatchTest, EmptyValuesOfInProcessClientsAreNoChange) {
  ConfigMap map;
  map.mutable_metadata()->set_name("a");
  map.mutable_metadata()->set_namespace_("default");
  auto stored = client().Create(map).value();
  ConfigMap same = *stored;
  same.mutable_metadata()->set_generate_name("");
  Revision before = store_->CurrentRevision();
  ASSERT_TRUE(client().Update(same).ok());
  EXPECT_EQ(store_->CurrentRevision(), before);
}

}  // namespace
}  // namespace skiff::cp

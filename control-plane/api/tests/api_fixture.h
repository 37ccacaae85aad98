// For tests of the API server: the whole of it over a MemoryStore, asked without a network.
#pragma once

#include <gtest/gtest.h>

#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <string>

#include "base/async/executor.h"
#include "base/http/server.h"
#include "control-plane/api/server.h"
#include "control-plane/store/memory_store.h"

namespace skiff::cp {

using Json = nlohmann::json;

// A watch's or log's answer as it arrives.
class CapturedStream final : public http::ResponseStream {
 public:
  bool Write(std::string chunk) override;
  size_t queued_bytes() const override { return 0; }
  void End() override;
  void Abort() override { End(); }
  void OnClosed(Closure handler) override;
  void OnDrained(Closure handler) override { handler(); }

  // The next line as JSON; null after the end.
  Json Next();
  // What the client's leaving does.
  void Leave();
  std::string content_type;

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::string buffer_;
  bool ended_ = false;
  Closure on_closed_;
};

struct Reply {
  int status = 0;
  http::Headers headers;
  std::string body;
  std::shared_ptr<CapturedStream> stream;
  Json json() const { return Json::parse(body, nullptr, false); }
};

class ApiFixture : public testing::Test {
 protected:
  ApiFixture();
  ~ApiFixture() override;

  // As the administrator; target with its query.
  Reply Ask(const std::string& method, const std::string& target, const std::string& body = "",
            http::Headers headers = {});
  Reply Ask(const std::string& method, const std::string& target, const Json& body) {
    return Ask(method, target, body.dump());
  }
  Reply Patch(const std::string& target, const std::string& type, const std::string& body) {
    return Ask("PATCH", target, body, {{"Content-Type", type}});
  }
  Reply AskAs(http::Peer peer, const std::string& method, const std::string& target,
              const std::string& body = "", http::Headers headers = {});
  // A new server over the same store, as after a restart; with options_ as they are now.
  void Restart();
  Client& client() { return api_->client(); }

  ThreadPool store_pool_{"store", 1};
  ThreadPool workers_{"api", 4};
  std::unique_ptr<Store> store_ = MakeMemoryStore(store_pool_);
  const Kinds kinds_ = BuiltinKinds();
  ApiServerOptions options_{.advertise_address = "192.0.2.1"};
  std::unique_ptr<ApiServer> api_;
};

Json ConfigMapJson(const std::string& name, const Json& data = Json::object());
Json PodJson(const std::string& name);
Json DeploymentJson(const std::string& name, int replicas);

inline constexpr const char kConfigMaps[] = "/api/v1/namespaces/default/configmaps";
inline constexpr const char kPods[] = "/api/v1/namespaces/default/pods";
inline constexpr const char kServices[] = "/api/v1/namespaces/default/services";
inline constexpr const char kDeployments[] = "/apis/apps/v1/namespaces/default/deployments";

}  // namespace skiff::cp

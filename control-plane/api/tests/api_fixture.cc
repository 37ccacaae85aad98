#include "control-plane/api/tests/api_fixture.h"

#include <future>

namespace skiff::cp {
namespace {

class CapturingWriter final : public http::ResponseWriter {
 public:
  explicit CapturingWriter(std::promise<Reply>& promise) : promise_(promise) {}
  ~CapturingWriter() override {
    if (!answered_) promise_.set_value({500, {}, "dropped unanswered", nullptr});
  }
  void Send(http::Response response) override {
    answered_ = true;
    promise_.set_value({response.status, response.headers, response.body, nullptr});
  }
  std::shared_ptr<http::ResponseStream> Stream(int status, http::Headers headers) override {
    answered_ = true;
    auto stream = std::make_shared<CapturedStream>();
    stream->content_type = headers.Get("Content-Type");
    promise_.set_value({status, std::move(headers), "", stream});
    return stream;
  }
  http::StreamPtr Hijack() override { return nullptr; }
  void OnClientGone(Closure) override {}

 private:
  std::promise<Reply>& promise_;
  bool answered_ = false;
};

}  // namespace

bool CapturedStream::Write(std::string chunk) {
  std::lock_guard lock(mutex_);
  if (ended_) return false;
  buffer_ += chunk;
  changed_.notify_all();
  return true;
}

void CapturedStream::End() {
  std::lock_guard lock(mutex_);
  ended_ = true;
  changed_.notify_all();
}

void CapturedStream::OnClosed(Closure handler) {
  std::lock_guard lock(mutex_);
  on_closed_ = std::move(handler);
}

void CapturedStream::Leave() {
  End();
  Closure handler;
  {
    std::lock_guard lock(mutex_);
    handler = std::move(on_closed_);
  }
  if (handler) handler();
}

Json CapturedStream::Next() {
  std::unique_lock lock(mutex_);
  auto ready = [this] { return ended_ || buffer_.find('\n') != std::string::npos; };
  if (!changed_.wait_for(lock, std::chrono::seconds(20), ready)) return "nothing came";
  size_t end = buffer_.find('\n');
  if (end == std::string::npos) return nullptr;
  Json line = Json::parse(buffer_.substr(0, end));
  buffer_.erase(0, end + 1);
  return line;
}

ApiFixture::ApiFixture() { Restart(); }

ApiFixture::~ApiFixture() {
  workers_.Stop();
  api_.reset();
}

void ApiFixture::Restart() {
  api_.reset();
  auto opened = ApiServer::Open({*store_, kinds_, workers_}, options_);
  if (!opened.ok()) {
    ADD_FAILURE() << opened.error().ToString();
    return;
  }
  api_ = std::move(opened).value();
}

Reply ApiFixture::Ask(const std::string& method, const std::string& target, const std::string& body,
                      http::Headers headers) {
  http::Peer admin{.address = "test", .tls = true, .certificate = true};
  admin.common_name = "kubernetes-admin";
  admin.organizations = {"system:masters"};
  return AskAs(std::move(admin), method, target, body, std::move(headers));
}

Reply ApiFixture::AskAs(http::Peer peer, const std::string& method, const std::string& target,
                        const std::string& body, http::Headers headers) {
  http::Request request;
  request.method = method;
  request.target = target;
  size_t mark = std::min(target.find('?'), target.size());
  request.raw_path = target.substr(0, mark);
  request.path = http::PercentDecode(request.raw_path, false).value();
  request.query =
      http::Query::Parse(std::string_view(target).substr(std::min(mark + 1, target.size())))
          .value();
  request.body = body;
  request.headers = std::move(headers);
  request.peer = std::move(peer);
  std::promise<Reply> promise;
  auto reply = promise.get_future();
  api_->handler()(std::move(request), std::make_shared<CapturingWriter>(promise));
  return reply.get();
}

Json ConfigMapJson(const std::string& name, const Json& data) {
  return {{"metadata", {{"name", name}}}, {"data", data}};
}

Json PodJson(const std::string& name) {
  return {{"apiVersion", "v1"},
          {"kind", "Pod"},
          {"metadata", {{"name", name}, {"labels", {{"app", name}}}}},
          {"spec", {{"containers", {{{"name", "c"}, {"image", "i"}}}}}}};
}

Json DeploymentJson(const std::string& name, int replicas) {
  Json labels = {{"app", name}};
  return {{"apiVersion", "apps/v1"},
          {"kind", "Deployment"},
          {"metadata", {{"name", name}}},
          {"spec",
           {{"replicas", replicas},
            {"selector", {{"matchLabels", labels}}},
            {"template",
             {{"metadata", {{"labels", labels}}},
              {"spec", {{"containers", {{{"name", "c"}, {"image", "i"}}}}}}}}}}};
}

}  // namespace skiff::cp

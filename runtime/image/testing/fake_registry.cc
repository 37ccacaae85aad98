#include "runtime/image/testing/fake_registry.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/os/files.h"

namespace skiff::runtime::testing {
namespace {

constexpr char kBasic[] = "Basic dXNlcjpwYXNzd29yZA==";  // user:password
constexpr char kBearer[] = "Bearer let-me-in";

std::string Response(const std::string& status, const std::string& headers, const std::string& body,
                     bool head) {
  return "HTTP/1.1 " + status + "\r\n" + headers +
         "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + (head ? "" : body);
}

}  // namespace

FakeRegistry::FakeRegistry() {
  listener_.Reset(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  CHECK(bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
  CHECK(listen(listener_.get(), 64) == 0);
  socklen_t length = sizeof address;
  CHECK(getsockname(listener_.get(), reinterpret_cast<sockaddr*>(&address), &length) == 0);
  port_ = ntohs(address.sin_port);
  acceptor_ = std::thread([this] { Accept(); });
}

FakeRegistry::~FakeRegistry() {
  shutdown(listener_.get(), SHUT_RDWR);
  acceptor_.join();
  {
    std::lock_guard lock(mutex_);
    for (const int fd : open_) shutdown(fd, SHUT_RDWR);
  }
  for (std::thread& thread : threads_) thread.join();
}

void FakeRegistry::Add(const std::string& repository, const std::string& tag,
                       const BuiltImage& image, bool with_index) {
  SetTag(repository, tag, with_index ? BuildIndex(image) : image.manifest);
  std::lock_guard lock(mutex_);
  manifests_[repository + "/" + image.manifest_digest.text()] = image.manifest;
  blobs_[image.config_digest.text()] = image.config;
  for (const std::string& blob : image.blobs) blobs_[Digest::OfBytes(blob).text()] = blob;
}

void FakeRegistry::SetTag(const std::string& repository, const std::string& tag,
                          const std::string& manifest) {
  std::lock_guard lock(mutex_);
  manifests_[repository + "/" + tag] = manifest;
  manifests_[repository + "/" + Digest::OfBytes(manifest).text()] = manifest;
}

void FakeRegistry::SetFaults(const Faults& faults) {
  std::lock_guard lock(mutex_);
  faults_ = faults;
}
void FakeRegistry::RequireAuth(Auth auth) {
  std::lock_guard lock(mutex_);
  auth_ = auth;
}
std::vector<std::string> FakeRegistry::requests() const {
  std::lock_guard lock(mutex_);
  return requests_;
}
size_t FakeRegistry::CountRequests(const std::string& prefix) const {
  const auto all = requests();
  return static_cast<size_t>(std::count_if(
      all.begin(), all.end(), [&](const std::string& line) { return line.starts_with(prefix); }));
}

void FakeRegistry::Accept() {
  while (true) {
    const int fd = accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC);
    if (fd < 0) return;
    std::lock_guard lock(mutex_);
    open_.push_back(fd);
    threads_.emplace_back([this, fd] { Serve(fd); });
  }
}

void FakeRegistry::Serve(int fd) {
  std::string buffer;
  std::array<char, 4096> chunk{};
  while (true) {
    const size_t end = buffer.find("\r\n\r\n");
    if (end == std::string::npos) {
      const ssize_t got = read(fd, chunk.data(), chunk.size());
      // A TLS hello is refused as a plain server does.
      if (got <= 0 || (buffer.empty() && chunk[0] == 0x16)) break;
      buffer.append(chunk.data(), static_cast<size_t>(got));
      continue;
    }
    std::string head = buffer.substr(0, end + 2);
    buffer.erase(0, end + 4);
    const size_t space = head.find(' ');
    const std::string method = head.substr(0, space);
    const std::string path = head.substr(space + 1, head.find(' ', space + 1) - space - 1);
    std::map<std::string, std::string> headers;
    for (size_t at = head.find("\r\n") + 2; at < head.size();) {
      const size_t next = head.find("\r\n", at);
      const std::string line = head.substr(at, next - at);
      headers[line.substr(0, line.find(':'))] = line.substr(line.find(':') + 2);
      at = next + 2;
    }
    bool cut = false;
    std::string answer = Answer(method, path, headers, &cut);
    if (cut) answer.resize(answer.size() / 2);
    if (!WriteAll(fd, answer).ok() || cut) break;
  }
  std::lock_guard lock(mutex_);
  std::erase(open_, fd);
  close(fd);
}

std::string FakeRegistry::Content(const std::string& path, std::string* type) {
  const size_t manifests = path.find("/manifests/");
  const size_t blobs = path.find("/blobs/");
  if (manifests != std::string::npos) {
    const auto it =
        manifests_.find(path.substr(4, manifests - 4) + "/" + path.substr(manifests + 11));
    if (it == manifests_.end()) return "";
    *type = nlohmann::json::parse(it->second).value("mediaType", "");
    return it->second;
  }
  if (blobs == std::string::npos) return "";
  *type = "application/octet-stream";
  const auto it = blobs_.find(path.substr(blobs + 7));
  return it == blobs_.end() ? "" : it->second;
}

std::string FakeRegistry::Answer(const std::string& method, const std::string& target,
                                 const std::map<std::string, std::string>& headers, bool* cut) {
  std::lock_guard lock(mutex_);
  requests_.push_back(method + " " + target);
  const bool head = method == "HEAD";
  const std::string path = target.substr(0, target.find('?'));
  const auto header = [&](const char* name) {
    const auto it = headers.find(name);
    return it == headers.end() ? std::string() : it->second;
  };
  if (path == "/token") {
    if (header("Authorization") != kBasic) return Response("401 Unauthorized", "", "{}", head);
    return Response("200 OK", "", R"({"token":"let-me-in","expires_in":300})", head);
  }
  if (faults_.unavailable > 0) {
    --faults_.unavailable;
    return Response("503 Service Unavailable", "", "", head);
  }
  if (auth_ == Auth::kBasic && header("Authorization") != kBasic) {
    return Response("401 Unauthorized", "WWW-Authenticate: Basic realm=\"x\"\r\n", "", head);
  }
  if (auth_ == Auth::kBearer && header("Authorization") != kBearer) {
    return Response("401 Unauthorized",
                    "WWW-Authenticate: Bearer realm=\"http://127.0.0.1:" + std::to_string(port_) +
                        "/token\",service=\"fake\",scope=\"repository:x:pull\"\r\n",
                    "", head);
  }
  if (faults_.status != 0) return Response(std::to_string(faults_.status) + " X", "", "", head);
  std::string type;
  std::string body = Content(path, &type);
  if (body.empty()) {
    return Response("404 Not Found", "",
                    R"({"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]})",
                    head);
  }
  const bool blob = path.find("/blobs/") != std::string::npos;
  std::string more = "Content-Type: " + type + "\r\n";
  if (!blob) more += "Docker-Content-Digest: " + Digest::OfBytes(body).text() + "\r\n";
  if (blob && faults_.corrupt_blobs) body[body.size() / 2] ^= 1;
  if (blob && faults_.cut_blobs > 0) {
    --faults_.cut_blobs;
    *cut = true;
  }
  const std::string range = header("Range");
  if (range.starts_with("bytes=") && !faults_.ignore_range) {
    const size_t from = std::stoul(range.substr(6));
    more += "Content-Range: bytes " + std::to_string(from) + "-" + std::to_string(body.size() - 1) +
            "/" + std::to_string(body.size()) + "\r\n";
    return Response("206 Partial Content", more, body.substr(from), head);
  }
  return Response("200 OK", more, body, head);
}

}  // namespace skiff::runtime::testing

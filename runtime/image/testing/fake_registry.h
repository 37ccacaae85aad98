// A registry in this process, over plain HTTP on loopback, that misbehaves on request. For tests.
#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/os/unique_fd.h"
#include "runtime/image/testing/image_builder.h"

namespace skiff::runtime::testing {

class FakeRegistry {
 public:
  FakeRegistry();
  ~FakeRegistry();

  std::string host() const { return "127.0.0.1:" + std::to_string(port_); }
  // Serves the image's blobs and manifest; the tag (or several) names the manifest or the index.
  void Add(const std::string& repository, const std::string& tag, const BuiltImage& image,
           bool with_index = false);
  void SetTag(const std::string& repository, const std::string& tag, const std::string& manifest);

  struct Faults {
    int unavailable = 0;        // so many requests get 503
    int cut_blobs = 0;          // so many blob answers end after half their bytes
    bool ignore_range = false;  // answers 200 with everything
    bool corrupt_blobs = false;
    int status = 0;  // for everything below /v2/, where set
  };
  void SetFaults(const Faults& faults);
  // From now on "user:password" is asked for: as Basic, or by a bearer token.
  enum class Auth { kNone, kBasic, kBearer };
  void RequireAuth(Auth auth);

  // What was asked for: "GET /v2/...", in order.
  std::vector<std::string> requests() const;
  size_t CountRequests(const std::string& prefix) const;

 private:
  struct Connection;
  void Accept();
  void Serve(int fd);
  std::string Answer(const std::string& method, const std::string& path,
                     const std::map<std::string, std::string>& headers, bool* cut);
  std::string Content(const std::string& path, std::string* type);

  UniqueFd listener_;
  int port_ = 0;
  mutable std::mutex mutex_;                      // guards all below
  std::map<std::string, std::string> manifests_;  // "repo/tag" and "repo/digest"
  std::map<std::string, std::string> blobs_;      // by digest
  Faults faults_;
  Auth auth_ = Auth::kNone;
  std::vector<std::string> requests_;
  std::vector<int> open_;
  std::vector<std::thread> threads_;
  std::thread acceptor_;
};

}  // namespace skiff::runtime::testing

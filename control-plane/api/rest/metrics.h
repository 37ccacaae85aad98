// Counts of requests for /metrics (Prometheus text format).
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <tuple>

namespace skiff::cp {

// Thread-safe.
class RequestMetrics {
 public:
  void Count(const std::string& verb, const std::string& resource, int code,
             std::chrono::nanoseconds took);
  // "apiserver_request_total{...} N" lines.
  std::string Render() const;

 private:
  struct Series {
    uint64_t count = 0;
    double seconds = 0;
  };
  mutable std::mutex mutex_;
  std::map<std::tuple<std::string, std::string, int>, Series> series_;
};

}  // namespace skiff::cp

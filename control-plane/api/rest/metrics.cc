#include "control-plane/api/rest/metrics.h"

namespace skiff::cp {

void RequestMetrics::Count(const std::string& verb, const std::string& resource, int code,
                           std::chrono::nanoseconds took) {
  std::lock_guard lock(mutex_);
  Series& series = series_[{verb, resource, code}];
  ++series.count;
  series.seconds += std::chrono::duration<double>(took).count();
}

std::string RequestMetrics::Render() const {
  std::string requests =
      "# HELP apiserver_request_total Requests by verb, resource and HTTP code.\n"
      "# TYPE apiserver_request_total counter\n";
  std::string seconds =
      "# HELP apiserver_request_duration_seconds Time to answer, without streams.\n"
      "# TYPE apiserver_request_duration_seconds summary\n";
  std::lock_guard lock(mutex_);
  for (const auto& [key, series] : series_) {
    const auto& [verb, resource, code] = key;
    const std::string labels = "{verb=\"" + verb + "\",resource=\"" + resource + "\",code=\"" +
                               std::to_string(code) + "\"} ";
    requests += "apiserver_request_total" + labels + std::to_string(series.count) + "\n";
    seconds +=
        "apiserver_request_duration_seconds_sum" + labels + std::to_string(series.seconds) + "\n";
    seconds +=
        "apiserver_request_duration_seconds_count" + labels + std::to_string(series.count) + "\n";
  }
  return requests + seconds;
}

}  // namespace skiff::cp

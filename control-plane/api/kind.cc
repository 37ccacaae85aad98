#include "control-plane/api/kind.h"

#include <google/protobuf/message.h>

#include <chrono>

#include "base/result.h"

namespace skiff::cp {

std::string HumanAge(WallTime since, WallTime now) {
  if (since == WallTime{}) return "<unknown>";
  auto seconds = std::chrono::floor<std::chrono::seconds>(now - since).count();
  auto text = [](int64_t number, const char* unit) { return std::to_string(number) + unit; };
  auto both = [&](int64_t big, const char* unit, int64_t small, const char* small_unit) {
    return small == 0 ? text(big, unit) : text(big, unit) + text(small, small_unit);
  };
  if (seconds < -1) return "<invalid>";
  if (seconds < 0) return "0s";
  if (seconds < 120) return text(seconds, "s");
  int64_t minutes = seconds / 60;
  if (minutes < 10) return both(minutes, "m", seconds % 60, "s");
  if (minutes < 180) return text(minutes, "m");
  int64_t hours = minutes / 60;
  if (hours < 8) return both(hours, "h", minutes % 60, "m");
  if (hours < 48) return text(hours, "h");
  int64_t days = hours / 24;
  if (days < 8) return both(days, "d", hours % 24, "h");
  if (days < 2 * 365) return text(days, "d");
  int64_t years = days / 365;
  if (years < 8) return both(years, "y", days % 365, "d");
  return text(years, "y");
}

Kinds::Kinds(std::vector<KindInfo> kinds) {
  for (auto& kind : kinds) {
    CHECK(kind.prototype != nullptr);
    CHECK(FindResource(kind.group, kind.version, kind.plural) == nullptr);
    kinds_.push_back(std::make_unique<const KindInfo>(std::move(kind)));
  }
}

Kinds::~Kinds() = default;

const KindInfo* Kinds::FindResource(std::string_view group, std::string_view version,
                                    std::string_view plural) const {
  for (const auto& kind : kinds_) {
    if (kind->plural == plural && kind->group == group && kind->version == version) {
      return kind.get();
    }
  }
  return nullptr;
}

const KindInfo* Kinds::FindKind(std::string_view group, std::string_view version,
                                std::string_view name) const {
  for (const auto& kind : kinds_) {
    if (kind->kind == name && kind->group == group && kind->version == version) return kind.get();
  }
  return nullptr;
}

const KindInfo* Kinds::FindMessage(const google::protobuf::Descriptor* descriptor) const {
  for (const auto& kind : kinds_) {
    if (kind->prototype->GetDescriptor() == descriptor) return kind.get();
  }
  return nullptr;
}

}  // namespace skiff::cp

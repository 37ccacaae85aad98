// ApiError: why the API refuses a request, with everything that goes into the Status object a
// client gets: HTTP code, reason, message, and details with causes.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/result.h"
#include "control-plane/api/field_errors.h"

namespace k8s::meta::v1 {
class Status;
}

namespace skiff::cp {

struct KindInfo;

struct StatusCause {
  std::string reason;
  std::string message;
  std::string field;
};

// Immutable once made. The makers' messages are upstream's, which clients match on.
struct ApiError {
  int http_code = 500;
  std::string reason = "InternalError";
  std::string message;
  // details:
  std::string name;
  std::string group;
  std::string kind;  // the resource ("pods"), or the kind for Invalid
  std::string uid;
  std::vector<StatusCause> causes;
  int retry_after_seconds = 0;

  static ApiError BadRequest(std::string_view message);
  static ApiError Unauthorized();
  static ApiError Forbidden(const KindInfo& kind, std::string_view name, std::string_view why);
  static ApiError NotFound(const KindInfo& kind, std::string_view name);
  // No such path, group, version or resource.
  static ApiError NoSuchPath();
  static ApiError MethodNotAllowed();
  static ApiError NotAcceptable(std::string_view accepted);
  static ApiError AlreadyExists(const KindInfo& kind, std::string_view name);
  static ApiError Conflict(const KindInfo& kind, std::string_view name, std::string_view why);
  // "the object has been modified; ...".
  static ApiError Modified(const KindInfo& kind, std::string_view name);
  static ApiError Expired(std::string_view message);
  static ApiError TooLarge(std::string_view detail);
  static ApiError UnsupportedMediaType(std::string_view message);
  static ApiError Invalid(const KindInfo& kind, std::string_view name, const FieldErrors& errors);
  static ApiError TooManyRequests(std::string_view message, int retry_after_seconds);
  static ApiError Internal(std::string_view message);
  static ApiError Unavailable(std::string_view message);
  static ApiError Timeout(std::string_view message, int retry_after_seconds);
  // "Too large resource version": the cache has not come so far in time.
  static ApiError RevisionTooLarge(int64_t wanted, int64_t current);
  // A failure of the parts below, by its code.
  static ApiError From(const Error& error);

  // For in-process callers, who branch on the code.
  Error ToError() const;
  k8s::meta::v1::Status ToStatus() const;
};

// A value or an ApiError; works with TRY, also from functions that return Result.
template <class T = void>
class [[nodiscard]] ApiResult {
 public:
  ApiResult(T value) : state_(std::in_place_index<0>, std::move(value)) {}         // NOLINT
  ApiResult(ApiError error) : state_(std::in_place_index<1>, std::move(error)) {}  // NOLINT
  ApiResult(const Error& error)                                                    // NOLINT
      : state_(std::in_place_index<1>, ApiError::From(error)) {}
  template <class U>
  requires(std::is_convertible_v<U&&, T> && !std::is_same_v<std::decay_t<U>, ApiResult> &&
           !std::is_same_v<std::decay_t<U>, T> && !std::is_same_v<std::decay_t<U>, ApiError> &&
           !std::is_same_v<std::decay_t<U>, Error>) ApiResult(U&& value)
      : state_(std::in_place_index<0>, std::forward<U>(value)) {}  // NOLINT

  bool ok() const { return state_.index() == 0; }
  T& value() & {
    CHECK(ok());
    return std::get<0>(state_);
  }
  T&& value() && {
    CHECK(ok());
    return std::move(std::get<0>(state_));
  }
  T& operator*() & { return value(); }
  T* operator->() { return &value(); }
  ApiError& error() & {
    CHECK(!ok());
    return std::get<1>(state_);
  }
  ApiError&& error() && {
    CHECK(!ok());
    return std::move(std::get<1>(state_));
  }

 private:
  std::variant<T, ApiError> state_;
};

template <>
class [[nodiscard]] ApiResult<void> {
 public:
  ApiResult() = default;
  ApiResult(ApiError error) : error_(std::move(error)) {}           // NOLINT
  ApiResult(const Error& error) : error_(ApiError::From(error)) {}  // NOLINT
  bool ok() const { return !error_.has_value(); }
  void value() const { CHECK(ok()); }
  ApiError& error() & {
    CHECK(!ok());
    return *error_;
  }
  ApiError&& error() && {
    CHECK(!ok());
    return std::move(*error_);
  }

 private:
  std::optional<ApiError> error_;
};

}  // namespace skiff::cp

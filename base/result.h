// Result<T>: the value of an operation or the Error that prevented it.
//
// Every fallible function of Skiff returns a Result; constructors never fail and no exception
// crosses a module (docs/errors.md). Callers branch on Error::code() and Error::sys_errno(),
// never on text. Values are immutable after construction and may be used from any thread.
#pragma once

#include <cstdlib>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>

namespace skiff {

// The closed set of reasons an operation fails. Numbers are stable (they appear in records and
// on the node link) and are never reused.
enum class Code {
  kInvalidArgument = 1,     // the request is wrong and will stay wrong
  kNotFound = 2,            // the object does not exist
  kAlreadyExists = 3,       // an object of that name exists
  kConflict = 4,            // the object changed since it was read (compare-and-swap lost)
  kFailedPrecondition = 5,  // the state does not allow this now (stop it first, start it first)
  kPermissionDenied = 6,    // the caller is known and may not
  kUnauthenticated = 7,     // the caller is not known
  kResourceExhausted = 8,   // a limit is reached: quota, queue, disk, addresses
  kUnavailable = 9,         // a peer is away; retrying later is right
  kDeadlineExceeded = 10,   // the operation did not finish in time and had no effect
  kCancelled = 11,          // the caller gave up
  kUnimplemented = 12,      // this build, kernel or peer cannot do it
  kExpired = 13,            // the revision asked for is compacted: list again
  kInternal = 14,           // a bug or a broken host
  kUnknownOutcome = 15,     // sent, but the answer is lost: observe before retrying
  kDataLoss = 16,           // stored bytes are damaged
};

// The name of a code as logs print it, e.g. "NotFound".
std::string_view CodeName(Code code);

class Error {
 public:
  Error(Code code, std::string message) : code_(code), message_(std::move(message)) {}

  // A failed system call: operation is the call ("mount"), subject what it was about (a path,
  // an id). The code is derived from the errno value.
  static Error Sys(int sys_errno, std::string_view operation, std::string_view subject = {});

  Code code() const { return code_; }
  // The errno that caused this, or 0.
  int sys_errno() const { return sys_errno_; }
  // The whole chain, outermost context first: "start container web: mount /proc: EPERM (…)".
  const std::string& message() const { return message_; }
  // "NotFound: message", for logs.
  std::string ToString() const;

  // Returns the error with what was being done put in front: "context: message".
  Error With(std::string_view context) &&;

 private:
  Code code_;
  int sys_errno_ = 0;
  std::string message_;
};

// The errno value as text, "ENOENT (No such file or directory)"; thread-safe.
std::string ErrnoText(int sys_errno);
// The code that an errno stands for.
Code CodeFromErrno(int sys_errno);

namespace internal {
// Ends the process: a Result was read as what it is not. A broken invariant, never user input.
[[noreturn]] void DieOnBadResultAccess(const char* what, const Error* error);
}  // namespace internal

template <class T = void>
class [[nodiscard]] Result {
 public:
  using value_type = T;
  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}      // NOLINT implicit
  Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}  // NOLINT implicit
  template <class U>
  requires(std::is_convertible_v<U&&, T> && !std::is_same_v<std::decay_t<U>, Result> &&
           !std::is_same_v<std::decay_t<U>, T> && !std::is_same_v<std::decay_t<U>, Error>)
      Result(U&& value)
      : state_(std::in_place_index<0>, std::forward<U>(value)) {}  // NOLINT implicit

  bool ok() const { return state_.index() == 0; }
  explicit operator bool() const { return ok(); }

  T& value() & { return Checked(); }
  const T& value() const& { return const_cast<Result*>(this)->Checked(); }
  T&& value() && { return std::move(Checked()); }
  T& operator*() & { return Checked(); }
  const T& operator*() const& { return value(); }
  T&& operator*() && { return std::move(Checked()); }
  T* operator->() { return &Checked(); }
  const T* operator->() const { return &value(); }
  T value_or(T fallback) && { return ok() ? std::move(Checked()) : std::move(fallback); }

  const Error& error() const& {
    if (ok()) internal::DieOnBadResultAccess("error() of a success", nullptr);
    return std::get<1>(state_);
  }
  Error&& error() && {
    if (ok()) internal::DieOnBadResultAccess("error() of a success", nullptr);
    return std::move(std::get<1>(state_));
  }
  // The same result, an error carrying the context in front.
  Result With(std::string_view context) && {
    if (ok()) return std::move(*this);
    return std::move(std::get<1>(state_)).With(context);
  }

 private:
  T& Checked() {
    if (!ok()) internal::DieOnBadResultAccess("value() of an error", &std::get<1>(state_));
    return std::get<0>(state_);
  }
  std::variant<T, Error> state_;
};

template <>
class [[nodiscard]] Result<void> {
 public:
  using value_type = void;
  Result() = default;
  Result(Error error) : error_(std::move(error)) {}  // NOLINT implicit

  bool ok() const { return !error_.has_value(); }
  explicit operator bool() const { return ok(); }
  void value() const {
    if (error_) internal::DieOnBadResultAccess("value() of an error", &*error_);
  }
  const Error& error() const& {
    if (!error_) internal::DieOnBadResultAccess("error() of a success", nullptr);
    return *error_;
  }
  Error&& error() && {
    if (!error_) internal::DieOnBadResultAccess("error() of a success", nullptr);
    return std::move(*error_);
  }
  Result With(std::string_view context) && {
    if (!error_) return {};
    return std::move(*error_).With(context);
  }

 private:
  std::optional<Error> error_;
};

// TRY(expr): the value of a Result expression; on error, returns the error from the function.
//   auto fd = TRY(OpenFile(path));
//   TRY(Mount(source, target));
#define TRY(...)                                  \
  ({                                              \
    auto skiff_try_result = (__VA_ARGS__);        \
    if (!skiff_try_result.ok()) {                 \
      return std::move(skiff_try_result).error(); \
    }                                             \
    std::move(skiff_try_result).value();          \
  })

// CHECK(condition): a broken invariant ends the process with file and line, in release builds too.
#define CHECK(condition)                                             \
  do {                                                               \
    if (!(condition)) {                                              \
      ::skiff::internal::DieOnCheck(#condition, __FILE__, __LINE__); \
    }                                                                \
  } while (false)

namespace internal {
[[noreturn]] void DieOnCheck(const char* condition, const char* file, int line);
}  // namespace internal

}  // namespace skiff

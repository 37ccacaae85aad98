#include "base/result.h"

#include <cerrno>
#include <cstdio>
#include <cstring>

namespace skiff {

std::string_view CodeName(Code code) {
  switch (code) {
    case Code::kInvalidArgument: return "InvalidArgument";
    case Code::kNotFound: return "NotFound";
    case Code::kAlreadyExists: return "AlreadyExists";
    case Code::kConflict: return "Conflict";
    case Code::kFailedPrecondition: return "FailedPrecondition";
    case Code::kPermissionDenied: return "PermissionDenied";
    case Code::kUnauthenticated: return "Unauthenticated";
    case Code::kResourceExhausted: return "ResourceExhausted";
    case Code::kUnavailable: return "Unavailable";
    case Code::kDeadlineExceeded: return "DeadlineExceeded";
    case Code::kCancelled: return "Cancelled";
    case Code::kUnimplemented: return "Unimplemented";
    case Code::kExpired: return "Expired";
    case Code::kInternal: return "Internal";
    case Code::kUnknownOutcome: return "UnknownOutcome";
    case Code::kDataLoss: return "DataLoss";
  }
  return "Internal";
}

Code CodeFromErrno(int sys_errno) {
  switch (sys_errno) {
    case EINVAL:
    case ERANGE:
    case ENAMETOOLONG:
    case ENOTDIR:
    case EISDIR: return Code::kInvalidArgument;
    case ENOENT:
    case ESRCH:
    case ENODEV:
    case ENXIO: return Code::kNotFound;
    case EEXIST: return Code::kAlreadyExists;
    case EPERM:
    case EACCES:
    case EROFS: return Code::kPermissionDenied;
    case ENOSPC:
    case EDQUOT:
    case EMFILE:
    case ENFILE:
    case ENOMEM: return Code::kResourceExhausted;
    case EBUSY:
    case ENOTEMPTY:
    case ETXTBSY: return Code::kFailedPrecondition;
    case EAGAIN:
    case ECONNREFUSED:
    case ECONNRESET:
    case ENOTCONN:
    case EPIPE:
    case EHOSTUNREACH:
    case ENETUNREACH: return Code::kUnavailable;
    case ETIMEDOUT: return Code::kDeadlineExceeded;
    case ECANCELED: return Code::kCancelled;
    case ENOSYS:
    case EOPNOTSUPP:
    case EAFNOSUPPORT:
    case EPROTONOSUPPORT: return Code::kUnimplemented;
    default: return Code::kInternal;
  }
}

std::string ErrnoText(int sys_errno) {
  const char* name = strerrorname_np(sys_errno);
  const char* text = strerrordesc_np(sys_errno);
  std::string result = name != nullptr ? name : "errno " + std::to_string(sys_errno);
  if (text != nullptr) result.append(" (").append(text).append(")");
  return result;
}

Error Error::Sys(int sys_errno, std::string_view operation, std::string_view subject) {
  std::string message(operation);
  if (!subject.empty()) message.append(" ").append(subject);
  message.append(": ").append(ErrnoText(sys_errno));
  Error error(CodeFromErrno(sys_errno), std::move(message));
  error.sys_errno_ = sys_errno;
  return error;
}

std::string Error::ToString() const { return std::string(CodeName(code_)) + ": " + message_; }

Error Error::With(std::string_view context) && {
  message_.insert(0, std::string(context) + ": ");
  return std::move(*this);
}

namespace internal {

void DieOnBadResultAccess(const char* what, const Error* error) {
  std::fprintf(stderr, "fatal: %s%s%s\n", what, error != nullptr ? ": " : "",
               error != nullptr ? error->ToString().c_str() : "");
  std::abort();
}

void DieOnCheck(const char* condition, const char* file, int line) {
  std::fprintf(stderr, "fatal: check failed: %s at %s:%d\n", condition, file, line);
  std::abort();
}

}  // namespace internal
}  // namespace skiff

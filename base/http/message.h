// HTTP requests and responses as values.
#pragma once

#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"

namespace skiff::http {

// Header fields in the order they came. Names are compared without case.
class Headers {
 public:
  Headers() = default;
  Headers(std::initializer_list<std::pair<std::string, std::string>> fields) : fields_(fields) {}

  // The first field of that name, or the empty view.
  std::string_view Get(std::string_view name) const;
  std::vector<std::string_view> GetAll(std::string_view name) const;
  bool Has(std::string_view name) const;
  // Whether the comma-separated list in the fields of that name holds the token (Connection,
  // Accept-Encoding, ...), compared without case; parameters after ';' are ignored.
  bool HasToken(std::string_view name, std::string_view token) const;
  void Add(std::string_view name, std::string_view value);
  // Replaces all the fields of that name.
  void Set(std::string_view name, std::string_view value);
  void Remove(std::string_view name);
  const std::vector<std::pair<std::string, std::string>>& fields() const { return fields_; }

 private:
  std::vector<std::pair<std::string, std::string>> fields_;
};

// The decoded parameters of a query string, in order.
class Query {
 public:
  // "a=1&b=x%20y&flag"; '+' is a space. Bad escapes are InvalidArgument.
  static Result<Query> Parse(std::string_view text);

  std::optional<std::string_view> Get(std::string_view name) const;
  // The first value, or the empty view.
  std::string_view Value(std::string_view name) const { return Get(name).value_or(""); }
  std::vector<std::string_view> GetAll(std::string_view name) const;
  // Kubernetes' boolean parameters: "1", "t", "true", "" (present without value) are true.
  bool Flag(std::string_view name) const;
  bool empty() const { return parameters_.empty(); }
  const std::vector<std::pair<std::string, std::string>>& parameters() const { return parameters_; }

 private:
  std::vector<std::pair<std::string, std::string>> parameters_;
};

// Undoes %XX; InvalidArgument for a broken escape or an encoded NUL.
Result<std::string> PercentDecode(std::string_view text, bool plus_is_space);
std::string PercentEncode(std::string_view text);

// Who is at the other end, as far as the transport knows.
struct Peer {
  std::string address;  // "10.0.0.1:4711", or "unix"
  bool tls = false;
  // Whether the client showed a certificate signed by the client CA, and that one's subject.
  bool certificate = false;
  // Why the certificate shown was not accepted ("certificate has expired"); else empty.
  std::string certificate_error;
  std::string common_name;
  std::vector<std::string> organizations;
};

struct Request {
  std::string method;    // "GET"
  std::string target;    // as sent: "/a%20b?c=d"
  std::string raw_path;  // still encoded: "/a%20b"
  std::string path;      // decoded: "/a b"
  Query query;
  Headers headers;
  std::string body;
  Peer peer;
  // Whether the client asks to leave HTTP (Connection: Upgrade).
  bool IsUpgrade() const { return headers.HasToken("Connection", "upgrade"); }
};

struct Response {
  int status = 200;
  Headers headers;  // Content-Length, Date and Connection are the server's business
  std::string body;

  static Response Text(int status, std::string_view text);
};

// "Not Found" for 404.
std::string_view ReasonPhrase(int status);

}  // namespace skiff::http

#include "proto/codec/names.h"

#include "proto/codec/ascii.h"

namespace skiff::codec {
namespace {

constexpr size_t kMaxLabel = 63;
constexpr size_t kMaxSubdomain = 253;

constexpr const char kLabelRule[] =
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and "
    "must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used "
    "for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
constexpr const char kSubdomainRule[] =
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or "
    "'.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used "
    "for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
constexpr const char kDns1035Rule[] =
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an "
    "alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', "
    "regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
constexpr const char kNamePartRule[] =
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end "
    "with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for "
    "validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
constexpr const char kLabelValueRule[] =
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', "
    "and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or "
    "'12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";

bool Lower(char c) { return c >= 'a' && c <= 'z'; }
bool LowerAlnum(char c) { return Lower(c) || IsDigit(c); }
bool Alnum(char c) { return LowerAlnum(c) || (c >= 'A' && c <= 'Z'); }

bool IsLabel(std::string_view text) {
  if (text.empty() || !LowerAlnum(text.front()) || !LowerAlnum(text.back())) return false;
  for (char c : text) {
    if (!LowerAlnum(c) && c != '-') return false;
  }
  return true;
}

bool IsSubdomain(std::string_view text) {
  while (true) {
    size_t dot = text.find('.');
    if (!IsLabel(text.substr(0, dot))) return false;
    if (dot == text.npos) return true;
    text.remove_prefix(dot + 1);
  }
}

// [A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?
bool IsNamePart(std::string_view text) {
  if (text.empty() || !Alnum(text.front()) || !Alnum(text.back())) return false;
  for (char c : text) {
    if (!Alnum(c) && c != '-' && c != '_' && c != '.') return false;
  }
  return true;
}

std::string TooLong(size_t limit) {
  return "must be no more than " + std::to_string(limit) + " bytes";
}

}  // namespace

Complaints CheckDns1123Label(std::string_view name) {
  Complaints complaints;
  if (name.size() > kMaxLabel) complaints.push_back(TooLong(kMaxLabel));
  if (!IsLabel(name)) {
    complaints.push_back(IsSubdomain(name) ? "must not contain dots" : kLabelRule);
  }
  return complaints;
}

Complaints CheckDns1123Subdomain(std::string_view name) {
  Complaints complaints;
  if (name.size() > kMaxSubdomain) complaints.push_back(TooLong(kMaxSubdomain));
  if (!IsSubdomain(name)) complaints.push_back(kSubdomainRule);
  return complaints;
}

Complaints CheckDns1035Label(std::string_view name) {
  Complaints complaints;
  if (name.size() > kMaxLabel) complaints.push_back(TooLong(kMaxLabel));
  if (!IsLabel(name) || !Lower(name.front())) complaints.push_back(kDns1035Rule);
  return complaints;
}

Complaints CheckQualifiedName(std::string_view name) {
  Complaints complaints;
  std::string_view part = name;
  if (size_t slash = name.find('/'); slash != name.npos) {
    std::string_view prefix = name.substr(0, slash);
    part = name.substr(slash + 1);
    if (part.find('/') != part.npos) {
      return {
          std::string("a qualified name must consist of alphanumeric characters, '-', '_' or "
                      "'.', and must start and end with an alphanumeric character (e.g. "
                      "'MyName',  or 'my.name',  or '123-abc', regex used for validation is "
                      "'([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]') with an optional DNS "
                      "subdomain prefix and '/' (e.g. 'example.com/MyName')")};
    }
    if (prefix.empty()) {
      complaints.push_back("prefix part must be non-empty");
    } else {
      for (auto& complaint : CheckDns1123Subdomain(prefix)) {
        complaints.push_back("prefix part " + complaint);
      }
    }
  }
  if (part.empty()) {
    complaints.push_back("name part must be non-empty");
  } else if (part.size() > kMaxLabel) {
    complaints.push_back("name part " + TooLong(kMaxLabel));
  }
  if (!IsNamePart(part)) complaints.push_back(kNamePartRule);
  return complaints;
}

Complaints CheckLabelValue(std::string_view value) {
  Complaints complaints;
  if (value.size() > kMaxLabel) complaints.push_back(TooLong(kMaxLabel));
  if (!value.empty() && !IsNamePart(value)) complaints.push_back(kLabelValueRule);
  return complaints;
}

Complaints CheckPathSegment(std::string_view name) {
  if (name == "." || name == "..") return {"may not be '" + std::string(name) + "'"};
  Complaints complaints;
  for (char c : {'/', '%'}) {
    if (name.find(c) != name.npos) {
      complaints.push_back(std::string("may not contain '") + c + "'");
    }
  }
  return complaints;
}

}  // namespace skiff::codec

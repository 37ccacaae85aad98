#include "control-plane/api/kinds/label_rules.h"

#include <arpa/inet.h>
#include <google/protobuf/map.h>

#include <algorithm>
#include <array>
#include <map>

#include "base/net/ip.h"
#include "proto/codec/int_or_string.h"
#include "proto/k8s/intstr/int_or_string.pb.h"
#include "proto/k8s/meta/v1/object.pb.h"

namespace skiff::cp {
namespace {

constexpr char kPortRange[] = "must be between 1 and 65535, inclusive";

// Maps have no order; errors are told in the order of the keys.
std::map<std::string, std::string> Sorted(const StringMap& labels) {
  return {labels.begin(), labels.end()};
}

}  // namespace

void AddInvalid(const codec::Complaints& complaints, const FieldPath& path, std::string_view value,
                FieldErrors& errors) {
  for (const std::string& complaint : complaints) errors.Invalid(path, value, complaint);
}

void CheckLabelKey(std::string_view key, const FieldPath& path, FieldErrors& errors) {
  AddInvalid(codec::CheckQualifiedName(key), path, key, errors);
}

void CheckLabels(const StringMap& labels, const FieldPath& path, FieldErrors& errors) {
  for (const auto& [key, value] : Sorted(labels)) {
    CheckLabelKey(key, path, errors);
    AddInvalid(codec::CheckLabelValue(value), path, value, errors);
  }
}

void CheckLabelSelector(const k8s::meta::v1::LabelSelector& selector, const FieldPath& path,
                        FieldErrors& errors) {
  CheckLabels(selector.match_labels(), path.Child("matchLabels"), errors);
  for (int i = 0; i < selector.match_expressions_size(); ++i) {
    const auto& expression = selector.match_expressions(i);
    FieldPath at = path.Child("matchExpressions").Index(static_cast<size_t>(i));
    const std::string& op = expression.operator_();
    if (op == "In" || op == "NotIn") {
      if (expression.values().empty()) {
        errors.Required(at.Child("values"), "must be specified when `operator` is 'In' or 'NotIn'");
      }
    } else if (op == "Exists" || op == "DoesNotExist") {
      if (!expression.values().empty()) {
        errors.Forbidden(at.Child("values"),
                         "may not be specified when `operator` is 'Exists' or 'DoesNotExist'");
      }
    } else {
      errors.Invalid(at.Child("operator"), op, "not a valid selector operator");
    }
    CheckLabelKey(expression.key(), at.Child("key"), errors);
    for (int k = 0; k < expression.values_size(); ++k) {
      AddInvalid(codec::CheckLabelValue(expression.values(k)),
                 at.Child("values").Index(static_cast<size_t>(k)), expression.values(k), errors);
    }
  }
}

void CheckTaintEffect(std::string_view effect, bool allow_empty, const FieldPath& path,
                      FieldErrors& errors) {
  if (effect.empty() && allow_empty) return;
  CheckOneOf(effect, {"NoSchedule", "PreferNoSchedule", "NoExecute"}, path, errors);
}

void CheckOneOf(std::string_view value, const std::vector<std::string>& allowed,
                const FieldPath& path, FieldErrors& errors) {
  if (value.empty()) {
    errors.Required(path);
  } else if (std::find(allowed.begin(), allowed.end(), value) == allowed.end()) {
    errors.NotSupported(path, value, allowed);
  }
}

void CheckNonNegative(int64_t value, const FieldPath& path, FieldErrors& errors) {
  if (value < 0) errors.Invalid(path, value, "must be greater than or equal to 0");
}

void CheckPortNumber(int64_t port, const FieldPath& path, FieldErrors& errors) {
  if (port < 1 || port > 65535) errors.Invalid(path, port, kPortRange);
}

codec::Complaints CheckPortName(std::string_view name) {
  codec::Complaints complaints;
  auto lower = [](char c) { return c >= 'a' && c <= 'z'; };
  auto allowed = [&](char c) { return lower(c) || (c >= '0' && c <= '9') || c == '-'; };
  if (name.size() > 15) complaints.push_back("must be no more than 15 characters");
  if (!std::all_of(name.begin(), name.end(), allowed)) {
    complaints.push_back("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)");
  }
  if (std::none_of(name.begin(), name.end(), lower)) {
    complaints.push_back("must contain at least one letter (a-z)");
  }
  if (name.find("--") != std::string_view::npos) {
    complaints.push_back("must not contain consecutive hyphens");
  }
  if (!name.empty() && (name.front() == '-' || name.back() == '-')) {
    complaints.push_back("must not begin or end with a hyphen");
  }
  return complaints;
}

void CheckPortReference(const k8s::intstr::IntOrString& port, const FieldPath& path,
                        FieldErrors& errors) {
  if (codec::IsInt(port)) {
    CheckPortNumber(port.int_val(), path, errors);
  } else {
    AddInvalid(CheckPortName(port.str_val()), path, port.str_val(), errors);
  }
}

void CheckNonNegativeOrPercent(const k8s::intstr::IntOrString& value, const FieldPath& path,
                               FieldErrors& errors) {
  if (codec::IsInt(value)) {
    CheckNonNegative(value.int_val(), path, errors);
    return;
  }
  const std::string& text = value.str_val();
  bool percent =
      text.size() > 1 && text.back() == '%' &&
      std::all_of(text.begin(), text.end() - 1, [](char c) { return c >= '0' && c <= '9'; });
  if (!percent) {
    errors.Invalid(path, text,
                   "a valid percent string must be a numeric string followed by an ending '%' "
                   "(e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')");
  }
}

bool IsIpv6Address(const std::string& text) {
  std::array<unsigned char, sizeof(in6_addr)> address;
  return inet_pton(AF_INET6, text.c_str(), address.data()) == 1;
}

bool IsIpAddress(const std::string& text) {
  std::array<unsigned char, sizeof(in_addr)> address;
  return inet_pton(AF_INET, text.c_str(), address.data()) == 1 || IsIpv6Address(text);
}

void CheckRoutableAddress(const std::string& text, const FieldPath& path, FieldErrors& errors) {
  auto address = net::IpAddress::Parse(text);
  if (!address.ok()) {
    errors.Invalid(path, text, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)");
    return;
  }
  const uint8_t* bytes = address->bytes();
  const bool link_multicast = address->is_v4() ? bytes[0] == 224 && bytes[1] == 0 && bytes[2] == 0
                                               : bytes[0] == 0xff && (bytes[1] & 0x0f) == 0x02;
  if (address->is_unspecified()) {
    errors.Invalid(path, text, "may not be unspecified (0.0.0.0 or ::)");
  } else if (address->is_loopback()) {
    errors.Invalid(path, text, "may not be in the loopback range (127.0.0.0/8, ::1/128)");
  } else if (address->is_link_local()) {
    errors.Invalid(path, text, "may not be in the link-local range (169.254.0.0/16, fe80::/10)");
  } else if (link_multicast) {
    errors.Invalid(path, text,
                   "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)");
  }
}

}  // namespace skiff::cp

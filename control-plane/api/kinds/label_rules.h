// Checks that several kinds share: label keys, selectors, taints, amounts, ports. Pure functions,
// any thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "control-plane/api/field_errors.h"
#include "proto/codec/names.h"

namespace google::protobuf {
template <typename Key, typename T>
class Map;
}
namespace k8s::meta::v1 {
class LabelSelector;
}
namespace k8s::intstr {
class IntOrString;
}

namespace skiff::cp {

using StringMap = google::protobuf::Map<std::string, std::string>;

// The form of a qualified name: label keys, taint keys, resource names.
void CheckLabelKey(std::string_view key, const FieldPath& path, FieldErrors& errors);
void CheckLabels(const StringMap& labels, const FieldPath& path, FieldErrors& errors);
void CheckLabelSelector(const k8s::meta::v1::LabelSelector& selector, const FieldPath& path,
                        FieldErrors& errors);

// NoSchedule, PreferNoSchedule, NoExecute.
void CheckTaintEffect(std::string_view effect, bool allow_empty, const FieldPath& path,
                      FieldErrors& errors);

// One of the values, each in quotes in the error; `value` may not be empty.
void CheckOneOf(std::string_view value, const std::vector<std::string>& allowed,
                const FieldPath& path, FieldErrors& errors);
void CheckNonNegative(int64_t value, const FieldPath& path, FieldErrors& errors);
void CheckPortNumber(int64_t port, const FieldPath& path, FieldErrors& errors);
// The name of a port: [-a-z0-9], at most 15, with a letter.
codec::Complaints CheckPortName(std::string_view name);
// A number or name of a port.
void CheckPortReference(const k8s::intstr::IntOrString& port, const FieldPath& path,
                        FieldErrors& errors);
// A non-negative number or percentage.
void CheckNonNegativeOrPercent(const k8s::intstr::IntOrString& value, const FieldPath& path,
                               FieldErrors& errors);
// All complaints as Invalid.
void AddInvalid(const codec::Complaints& complaints, const FieldPath& path, std::string_view value,
                FieldErrors& errors);

bool IsIpAddress(const std::string& text);
bool IsIpv6Address(const std::string& text);
// An address that traffic may be sent to from anywhere: none that means "here", "this link" or
// "any".
void CheckRoutableAddress(const std::string& text, const FieldPath& path, FieldErrors& errors);

}  // namespace skiff::cp

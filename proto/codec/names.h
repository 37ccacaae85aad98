// The rules for names, label keys and values. Each returns what is wrong, in upstream's words, one
// complaint a string; empty when nothing is. Pure.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace skiff::codec {

using Complaints = std::vector<std::string>;

Complaints CheckDns1123Label(std::string_view name);      // pods of a StatefulSet, containers, ...
Complaints CheckDns1123Subdomain(std::string_view name);  // most objects
Complaints CheckDns1035Label(std::string_view name);      // services
Complaints CheckQualifiedName(std::string_view name);     // "example.com/key": labels, finalizers
Complaints CheckLabelValue(std::string_view value);
Complaints CheckPathSegment(std::string_view name);  // neither "." nor "..", no '/', no '%'

}  // namespace skiff::codec

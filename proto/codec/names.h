// The forms of names in the Kubernetes API. Each function returns what is wrong with the text, in
// upstream's words, or an empty string. Pure functions, any thread.
#pragma once

#include <string>
#include <string_view>

namespace skiff::codec {

// RFC 1123 subdomain: most object names. At most 253 characters.
std::string Dns1123SubdomainProblem(std::string_view text);
// RFC 1123 label: namespaces, containers, volumes. At most 63 characters.
std::string Dns1123LabelProblem(std::string_view text);
// RFC 1035 label: services. At most 63 characters.
std::string Dns1035LabelProblem(std::string_view text);
// "[prefix/]name": label and annotation keys, resource names.
std::string LabelKeyProblem(std::string_view text);
std::string LabelValueProblem(std::string_view text);
// A port's name: at most 15 of [-a-z0-9], with a letter.
std::string PortNameProblem(std::string_view text);
// Environment variable names, since Kubernetes 1.30: printable ASCII without '='.
std::string EnvVarNameProblem(std::string_view text);
// Keys of ConfigMaps and Secrets.
std::string ConfigKeyProblem(std::string_view text);
// A path segment: object names that follow no stricter rule.
std::string PathSegmentProblem(std::string_view text);

}  // namespace skiff::codec

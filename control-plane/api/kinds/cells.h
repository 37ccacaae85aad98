// What the printed columns of several kinds have in common. Pure functions, any thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "control-plane/api/kind.h"

namespace google::protobuf {
template <typename Key, typename T>
class Map;
}
namespace k8s::core::v1 {
class PodSpec;
}
namespace k8s::meta::v1 {
class LabelSelector;
class MicroTime;
class ObjectMeta;
class Time;
}  // namespace k8s::meta::v1

namespace skiff::cp {

// The first column of every kind.
TableColumn NameColumn();
// The column of the object's age.
TableColumn AgeColumn();
// A column; wide ones only with -o wide.
TableColumn Column(std::string_view name, std::string_view description,
                   std::string_view type = "string");
TableColumn WideColumn(std::string_view name, std::string_view description,
                       std::string_view type = "string");

TableCell AgeCell(const k8s::meta::v1::ObjectMeta& meta, WallTime now);
std::string Since(const k8s::meta::v1::Time& time, WallTime now);
std::string Since(const k8s::meta::v1::MicroTime& time, WallTime now);

std::string JoinText(const std::vector<std::string>& parts, std::string_view separator = ",");
std::string OrNone(std::string text);
// "a=b,c=d" with keys sorted, or "<none>".
std::string FormatLabels(const google::protobuf::Map<std::string, std::string>& labels);
// The selector's text form, "<none>" for one that matches everything, "<error>" for one that
// cannot be read.
std::string FormatLabelSelector(const k8s::meta::v1::LabelSelector& selector);
// "web,sidecar" and "nginx,busybox" of a pod template.
TableCell ContainerNamesCell(const k8s::core::v1::PodSpec& spec);
TableCell ContainerImagesCell(const k8s::core::v1::PodSpec& spec);

}  // namespace skiff::cp

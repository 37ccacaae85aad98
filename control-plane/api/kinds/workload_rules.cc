#include "control-plane/api/kinds/workload_rules.h"

#include "proto/codec/json_reader.h"

namespace skiff::cp {

ShownValue ShownLabels(const StringMap& labels) {
  std::map<std::string, std::string> sorted(labels.begin(), labels.end());
  std::string text;
  for (const auto& [key, value] : sorted) {
    text += text.empty() ? "{" : ",";
    codec::AppendJsonString(key, &text);
    text += ':';
    codec::AppendJsonString(value, &text);
  }
  return ShownValue::Raw(text.empty() ? "{}" : text + "}");
}

void ValidateLastingTemplate(const k8s::core::v1::PodTemplateSpec& pod_template,
                             std::string_view kind, FieldErrors& errors) {
  FieldPath path = FieldPath("spec").Child("template");
  ValidatePodTemplate(pod_template, path, errors);
  const auto& pod = pod_template.spec();
  if (pod.restart_policy() != "Always") {
    errors.NotSupported(path.Child("spec").Child("restartPolicy"), pod.restart_policy(),
                        {"Always"});
  }
  if (pod.has_active_deadline_seconds()) {
    errors.Forbidden(path.Child("spec").Child("activeDeadlineSeconds"),
                     "activeDeadlineSeconds in " + std::string(kind) + " is not Supported");
  }
}

std::vector<TableColumn> ReplicaColumns() {
  return {
      NameColumn(),
      Column("Desired", "The number of pods asked for", "integer"),
      Column("Current", "The number of pods there are", "integer"),
      Column("Ready", "The number of pods that are ready", "integer"),
      AgeColumn(),
      WideColumn("Containers", "Names of each container in the template."),
      WideColumn("Images", "Images referenced by each container in the template."),
      WideColumn("Selector", "Label selector for pods."),
  };
}

}  // namespace skiff::cp

// What the kinds that keep pods running have in common: their template, how they change, how they
// are counted. Pure functions, any thread.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "control-plane/api/kind.h"
#include "control-plane/api/kinds/cells.h"
#include "control-plane/api/kinds/label_rules.h"
#include "control-plane/api/kinds/pod_rules.h"
#include "control-plane/api/kinds/spec_generation.h"
#include "proto/k8s/core/v1/pod.pb.h"
#include "proto/k8s/meta/v1/object.pb.h"

namespace skiff::cp {

// Labels as a JSON object, keys sorted, as error messages show them.
ShownValue ShownLabels(const StringMap& labels);

// A template whose pods are to run for ever. kind: who says so in the message.
void ValidateLastingTemplate(const k8s::core::v1::PodTemplateSpec& pod_template,
                             std::string_view kind, FieldErrors& errors);

// Name, desired, current, ready, age; wide: containers, images, selector.
std::vector<TableColumn> ReplicaColumns();
// The row below them.
template <class Object>
std::vector<TableCell> ReplicaRow(const Object& object, std::string selector, WallTime now) {
  const auto& pod = object.spec().template_().spec();
  return {object.metadata().name(),
          int64_t{object.spec().replicas()},
          int64_t{object.status().replicas()},
          int64_t{object.status().ready_replicas()},
          AgeCell(object.metadata(), now),
          ContainerNamesCell(pod),
          ContainerImagesCell(pod),
          std::move(selector)};
}

// A status counts no more ready pods than there are, no more available than ready ones.
template <class Object>
void ValidateReplicaCounts(const Object& object, const Object&, FieldErrors& errors) {
  FieldPath path("status");
  const auto& status = object.status();
  CheckNonNegative(status.replicas(), path.Child("replicas"), errors);
  if (status.ready_replicas() > status.replicas()) {
    errors.Invalid(path.Child("readyReplicas"), status.ready_replicas(),
                   "cannot be greater than status.replicas");
  }
  if (status.available_replicas() > status.ready_replicas()) {
    errors.Invalid(path.Child("availableReplicas"), status.available_replicas(),
                   "cannot be greater than readyReplicas");
  }
}

template <class Object>
std::map<std::string, std::string> ReplicaFields(const Object& object) {
  return {{"status.replicas", std::to_string(object.status().replicas())}};
}

// A kind with a spec, whose changes raise the generation, a status of its own and a scale.
template <class Object, class List>
KindInfo WorkloadKind(std::string_view group, std::string_view name, std::string_view plural,
                      std::string_view singular, std::string_view short_name) {
  KindInfo kind;
  kind.group = group;
  kind.version = "v1";
  kind.kind = name;
  kind.plural = plural;
  kind.singular = singular;
  kind.short_names = {std::string(short_name)};
  kind.categories = {"all"};
  kind.prototype = &Object::default_instance();
  kind.list_prototype = &List::default_instance();
  kind.has_status = true;
  kind.has_scale = true;
  kind.rules.prepare_create = [](Message& message) {
    auto& object = static_cast<Object&>(message);
    object.clear_status();
    object.mutable_metadata()->set_generation(1);
  };
  kind.rules.prepare_update = [](Message& message, const Message& before) {
    auto& object = static_cast<Object&>(message);
    const auto& old = static_cast<const Object&>(before);
    *object.mutable_status() = old.status();
    RaiseGeneration(object.spec(), old.spec(), old.metadata(), object.mutable_metadata());
  };
  kind.rules.prepare_status_update = [](Message& message, const Message& before) {
    *static_cast<Object&>(message).mutable_spec() = static_cast<const Object&>(before).spec();
  };
  return kind;
}

}  // namespace skiff::cp

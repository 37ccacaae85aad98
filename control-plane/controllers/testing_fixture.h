// ControllerTest: controllers against the fake API in virtual time, with a stand-in for nodes.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "base/async/executor.h"
#include "control-plane/api/testing/fake_client.h"
#include "control-plane/controllers/framework/controller.h"
#include "control-plane/controllers/framework/objects.h"
#include "control-plane/controllers/framework/pods.h"
#include "proto/k8s/core/v1/container.pb.h"
#include "proto/k8s/core/v1/event.pb.h"
#include "proto/k8s/core/v1/pod.pb.h"

namespace skiff::cp {

class ControllerTest : public testing::Test {
 protected:
  void Run(std::shared_ptr<Controller> controller) {
    controller->Start();
    controllers_.push_back(std::move(controller));
    Settle();
  }
  void Settle() { executor_.RunUntilIdle(); }
  void Advance(std::chrono::nanoseconds by) { executor_.Advance(by); }

  template <class T>
  std::shared_ptr<const T> Get(const std::string& ns, const std::string& name) {
    auto object = client_.Get<T>(ns, name);
    return object.ok() ? *object : nullptr;
  }
  template <class T>
  std::vector<std::shared_ptr<const T>> List(const std::string& selector = {}) {
    return client_.List<T>({.label_selector = selector}).value().items;
  }
  template <class T, class Change>
  void Update(const std::string& ns, const std::string& name, Change change) {
    T object = *client_.Get<T>(ns, name).value();
    change(object);
    (void)client_.Update(object).value();
    Settle();
  }

  std::vector<std::shared_ptr<const k8s::core::v1::Pod>> LivePods() {
    auto pods = List<k8s::core::v1::Pod>();
    std::erase_if(pods, [](const auto& pod) { return !IsPodActive(*pod); });
    return pods;
  }
  void SetReady(const k8s::core::v1::Pod& pod, bool ready) {
    k8s::core::v1::Pod updated =
        *Get<k8s::core::v1::Pod>(pod.metadata().namespace_(), pod.metadata().name());
    updated.mutable_status()->set_phase("Running");
    RemoveCondition(updated.mutable_status(), "Ready");
    auto* condition = updated.mutable_status()->add_conditions();
    condition->set_type("Ready");
    condition->set_status(ready ? "True" : "False");
    SetTime(condition->mutable_last_transition_time(), executor_.clock().WallNow());
    (void)client_.UpdateStatus(updated).value();
  }
  // A node that works: what is pending becomes ready, what is to end ends.
  void RunPods() {
    for (const auto& pod : List<k8s::core::v1::Pod>()) {
      if (IsBeingDeleted(pod->metadata())) {
        client_.Remove(*pod, pod->metadata().namespace_(), pod->metadata().name());
      } else if (!IsPodReady(*pod)) {
        if (pod->spec().node_name().empty()) {
          (void)client_.Bind(pod->metadata().namespace_(), pod->metadata().name(), "", "n1");
        }
        SetReady(*pod, true);
      }
    }
    Settle();
  }
  // "Normal ScalingReplicaSet Scaled up ..." of all events, oldest first.
  std::vector<std::string> Events() {
    std::vector<std::shared_ptr<const k8s::core::v1::Event>> events = List<k8s::core::v1::Event>();
    std::ranges::sort(events, [](const auto& a, const auto& b) {
      return a->metadata().uid().size() != b->metadata().uid().size()
                 ? a->metadata().uid().size() < b->metadata().uid().size()
                 : a->metadata().uid() < b->metadata().uid();
    });
    std::vector<std::string> lines;
    for (const auto& event : events) {
      lines.push_back(event->type() + " " + event->reason() + " " + event->message());
    }
    return lines;
  }

  ManualExecutor executor_;
  FakeClient client_{executor_.clock()};
  std::vector<std::shared_ptr<Controller>> controllers_;
};

// A pod template of one container with the image, labelled app=NAME.
inline k8s::core::v1::PodTemplateSpec PodTemplate(const std::string& app,
                                                  const std::string& image) {
  k8s::core::v1::PodTemplateSpec pod_template;
  (*pod_template.mutable_metadata()->mutable_labels())["app"] = app;
  auto* container = pod_template.mutable_spec()->add_containers();
  container->set_name("main");
  container->set_image(image);
  return pod_template;
}

}  // namespace skiff::cp

// What pod workers work with. Everything is owned by the daemon and outlives the workers.
#pragma once

#include <functional>
#include <string>

#include "agent/cri_client/cri_client.h"
#include "agent/desired/object_source.h"
#include "agent/events/recorder.h"
#include "agent/pods/cgroups.h"
#include "agent/pods/id_ranges.h"
#include "agent/pods/traffic_rules.h"
#include "agent/probes/runner.h"
#include "agent/spec/node_context.h"
#include "agent/volumes/volumes.h"
#include "base/async/executor.h"
#include "proto/k8s/fwd.h"

namespace skiff::agent {

struct PodDeps {
  Executor& executor;  // runs the workers' strands; nothing on it blocks
  Executor& blocking;  // runtime calls and disk
  Executor& pulls;     // image pulls, which may take minutes: bounds how many go on at once
  CriClient& cri;
  PodVolumes& volumes;
  ProbeRunner& probes;
  EventRecorder& events;
  const ObjectSource& objects;
  PodCgroups& cgroups;
  IdRanges& id_ranges;
  std::function<NodeContext()> node;  // any thread
  std::string runtime_name;           // of container ids: "skiff"
  // Where "<pod>_<namespace>_<container>-<id>.log" links go (/var/log/containers); empty: nowhere.
  std::string log_links_dir;
  // A pod's status changed. Called on the pod's strand.
  std::function<void(const k8s::core::v1::Pod&, const k8s::core::v1::PodStatus&)> report_status;
  // Nothing of a deleted pod is left on the node. Called on the pod's strand.
  std::function<void(const k8s::core::v1::Pod&)> report_gone;
  TrafficRules* traffic = nullptr;  // null: there are none, pods start at once
};

}  // namespace skiff::agent

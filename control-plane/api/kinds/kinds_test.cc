// The hand-written rules of every kind, case by case.
#include "control-plane/api/kinds/testing_kinds.h"
#include "proto/codec/meta.h"
#include "proto/codec/yaml.h"
#include "proto/k8s/core/v1/config.pb.h"
#include "proto/k8s/core/v1/event.pb.h"
#include "proto/k8s/core/v1/namespace.pb.h"
#include "proto/k8s/core/v1/pod.pb.h"
#include "proto/k8s/core/v1/service.pb.h"
#include "proto/k8s/events/v1/events.pb.h"

namespace skiff::cp {
namespace {

namespace core = k8s::core::v1;

const KindInfo& Pods() { return Kind("", "pods"); }

TEST(KindsTest, RowsFitTheirColumns) {
  Kinds kinds = BuiltinKinds();
  for (const auto& kind : kinds.all()) {
    if (!kind->rules.table_row) continue;
    MessagePtr empty(kind->prototype->New());
    EXPECT_EQ(kind->rules.table_row(*empty, WallTime{}).size(), kind->rules.columns.size())
        << kind->kind;
  }
}

TEST(KindsTest, DefaultsAreIdempotent) {
  Kinds kinds = BuiltinKinds();
  for (const auto& kind : kinds.all()) {
    if (!kind->rules.set_defaults) continue;
    MessagePtr object(kind->prototype->New());
    kind->rules.set_defaults(*object);
    std::string once = codec::EncodeJson(*object);
    kind->rules.set_defaults(*object);
    EXPECT_EQ(codec::EncodeJson(*object), once) << kind->kind;
  }
}

TEST(PodDefaultsTest, AreUpstreams) {
  MessagePtr object = Read(Pods(), R"(
spec:
  containers:
  - name: a
    image: registry:5000/nginx
    ports: [{containerPort: 80}]
    livenessProbe: {httpGet: {port: 80}}
    resources: {limits: {cpu: 1}}
    env: [{name: X, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]
  - {name: b, image: "nginx:1.2"}
  - {name: c, image: "nginx@sha256:0"}
  volumes:
  - {name: e}
  - {name: s, secret: {secretName: x}}
)");
  const auto& spec = static_cast<const core::Pod&>(*object).spec();
  EXPECT_EQ(spec.dns_policy(), "ClusterFirst");
  EXPECT_EQ(spec.restart_policy(), "Always");
  EXPECT_EQ(spec.termination_grace_period_seconds(), 30);
  EXPECT_EQ(spec.scheduler_name(), "default-scheduler");
  EXPECT_TRUE(spec.enable_service_links());
  EXPECT_TRUE(spec.has_security_context());
  const core::Container& a = spec.containers(0);
  EXPECT_EQ(a.image_pull_policy(), "Always");
  EXPECT_EQ(spec.containers(1).image_pull_policy(), "IfNotPresent");
  EXPECT_EQ(spec.containers(2).image_pull_policy(), "IfNotPresent");
  EXPECT_EQ(a.termination_message_path(), "/dev/termination-log");
  EXPECT_EQ(a.termination_message_policy(), "File");
  EXPECT_EQ(a.ports(0).protocol(), "TCP");
  EXPECT_EQ(a.liveness_probe().period_seconds(), 10);
  EXPECT_EQ(a.liveness_probe().timeout_seconds(), 1);
  EXPECT_EQ(a.liveness_probe().success_threshold(), 1);
  EXPECT_EQ(a.liveness_probe().failure_threshold(), 3);
  EXPECT_EQ(a.liveness_probe().handler().http_get().path(), "/");
  EXPECT_EQ(a.liveness_probe().handler().http_get().scheme(), "HTTP");
  EXPECT_EQ(a.resources().requests().at("cpu").string(), "1");
  EXPECT_EQ(a.env(0).value_from().field_ref().api_version(), "v1");
  EXPECT_TRUE(spec.volumes(0).volume_source().has_empty_dir());
  EXPECT_EQ(spec.volumes(1).volume_source().secret().default_mode(), 0644);
}

TEST(PodDefaultsTest, TellTheQualityOfService) {
  const std::pair<const char*, const char*> cases[] = {
      {"{}", "BestEffort"},
      {"{requests: {cpu: 1}}", "Burstable"},
      {"{limits: {cpu: 1, memory: 1Mi}}", "Guaranteed"},
      {"{limits: {cpu: 1, memory: 1Mi}, requests: {cpu: 500m}}", "Burstable"},
      {"{limits: {cpu: 0}}", "BestEffort"},
  };
  for (const auto& [resources, qos] : cases) {
    MessagePtr pod = Read(Pods(), std::string("spec: {containers: [{name: a, image: b, "
                                              "resources: ") +
                                      resources + "}]}");
    Pods().rules.prepare_create(*pod);
    EXPECT_EQ(static_cast<core::Pod&>(*pod).status().qos_class(), qos) << resources;
    EXPECT_EQ(static_cast<core::Pod&>(*pod).status().phase(), "Pending");
  }
}

struct ValidationCase {
  const char* yaml;
  Errors errors;
};

TEST(PodValidationTest, SpeaksAsUpstream) {
  const ValidationCase cases[] = {
      {"spec: {containers: [{name: a, image: b}]}", {}},
      {"spec: {}", {"spec.containers: Required value"}},
      {"spec: {containers: [{name: a}]}", {"spec.containers[0].image: Required value"}},
      {"spec: {containers: [{name: A_, image: b}]}",
       {"spec.containers[0].name: Invalid value: \"A_\": a lowercase RFC 1123 label must consist "
        "of lower case alphanumeric characters or '-', and must start and end with an "
        "alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is "
        "'[a-z0-9]([-a-z0-9]*[a-z0-9])?')"}},
      {"spec: {containers: [{name: a, image: b}, {name: a, image: b}]}",
       {"spec.containers[1].name: Duplicate value: \"a\""}},
      {"spec: {restartPolicy: Sometimes, containers: [{name: a, image: b}]}",
       {"spec.restartPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", "
        "\"OnFailure\", \"Never\""}},
      {"spec: {containers: [{name: a, image: b, ports: [{containerPort: 70000}]}]}",
       {"spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and "
        "65535, inclusive"}},
      {"spec: {containers: [{name: a, image: b, volumeMounts: [{name: v, mountPath: /v}]}]}",
       {"spec.containers[0].volumeMounts[0].name: Not found: \"v\""}},
      {"spec: {containers: [{name: a, image: b, resources: {requests: {cpu: 2}, limits: {cpu: "
       "1}}}]}",
       {"spec.containers[0].resources.requests: Invalid value: \"2\": must be less than or equal "
        "to cpu limit of 1"}},
      {"spec: {containers: [{name: a, image: b, livenessProbe: {}}]}",
       {"spec.containers[0].livenessProbe: Required value: must specify a handler type"}},
      {"spec: {containers: [{name: a, image: b, env: [{name: '', value: x}]}]}",
       {"spec.containers[0].env[0].name: Required value"}},
      {"spec: {containers: [{name: a, image: b}], volumes: [{name: v, emptyDir: {}, hostPath: "
       "{path: /x}}]}",
       {"spec.volumes[0].emptyDir: Forbidden: may not specify more than 1 volume type"}},
      {"spec: {containers: [{name: a, image: b}], volumes: [{name: v, hostPath: {path: ../x}}]}",
       {"spec.volumes[0].hostPath.path: Invalid value: \"../x\": must not contain '..'"}},
      {"spec: {containers: [{name: a, image: b}], initContainers: [{name: i, image: b, "
       "livenessProbe: {exec: {command: [x]}}}]}",
       {"spec.initContainers[0].livenessProbe: Forbidden: may not be set for init containers "
        "without restartPolicy=Always"}},
      {"spec: {containers: [{name: a, image: b}], tolerations: [{key: k, operator: X}]}",
       {"spec.tolerations[0].operator: Unsupported value: \"X\": supported values: \"Equal\", "
        "\"Exists\""}},
      {"spec: {containers: [{name: a, image: b}], nodeSelector: {-a: b}}",
       {"spec.nodeSelector: Invalid value: \"-a\": name part must consist of alphanumeric "
        "characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. "
        "'MyName',  or 'my.name',  or '123-abc', regex used for validation is "
        "'([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"}},
      {"spec: {containers: [{name: a, image: b}], affinity: {nodeAffinity: "
       "{requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchFields: [{key: "
       "metadata.uid, operator: Exists}]}]}, preferredDuringSchedulingIgnoredDuringExecution: "
       "[{weight: 101, preference: {matchExpressions: [{key: a, operator: Gt}]}}]}}}",
       {"spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution."
        "nodeSelectorTerms[0].matchFields[0].operator: Invalid value: \"Exists\": not a valid "
        "selector operator",
        "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution."
        "nodeSelectorTerms[0].matchFields[0].key: Invalid value: \"metadata.uid\": not a valid "
        "field selector key",
        "spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight: "
        "Invalid value: 101: must be in the range 1-100",
        "spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].preference."
        "matchExpressions[0].values: Required value: must be specified single value when "
        "`operator` "
        "is 'Lt' or 'Gt'"}},
      {"spec: {containers: [{name: a, image: b}], affinity: {podAntiAffinity: "
       "{preferredDuringSchedulingIgnoredDuringExecution: [{weight: 1, podAffinityTerm: "
       "{matchLabelKeys: [a]}}]}}}",
       {"spec.affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution[0]."
        "podAffinityTerm.matchLabelKeys: Forbidden: must not be specified when labelSelector is "
        "not set",
        "spec.affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution[0]."
        "podAffinityTerm.topologyKey: Required value: can not be empty"}},
      {"spec: {containers: [{name: a, image: b}], topologySpreadConstraints: [{maxSkew: 1, "
       "topologyKey: zone, whenUnsatisfiable: ScheduleAnyway, minDomains: 2}, {maxSkew: 0, "
       "topologyKey: zone, whenUnsatisfiable: ScheduleAnyway}]}",
       {"spec.topologySpreadConstraints[0].minDomains: Invalid value: 2: can only use minDomains "
        "if "
        "whenUnsatisfiable=DoNotSchedule, not ScheduleAnyway",
        "spec.topologySpreadConstraints[1].maxSkew: Invalid value: 0: must be greater than zero",
        "spec.topologySpreadConstraints[1].{topologyKey, whenUnsatisfiable}: Duplicate value: "
        "\"{zone, ScheduleAnyway}\""}},
      {"spec: {hostUsers: false, hostNetwork: true, hostPID: true, hostIPC: true, containers: "
       "[{name: a, image: b}]}",
       {"spec.hostNetwork: Forbidden: when `hostUsers` is false",
        "spec.HostPID: Forbidden: when `hostUsers` is false",
        "spec.HostIPC: Forbidden: when `hostUsers` is false"}},
      {"spec: {activeDeadlineSeconds: 0, containers: [{name: a, image: b}]}",
       {"spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, "
        "inclusive"}},
  };
  for (const ValidationCase& c : cases) EXPECT_EQ(Validate(Pods(), c.yaml), c.errors) << c.yaml;
}

constexpr char kPod[] = "spec: {containers: [{name: a, image: b}]}";

TEST(PodUpdateTest, ChangesOnlyWhatMayChange) {
  EXPECT_EQ(ValidateUpdate(Pods(), kPod, "spec: {containers: [{name: a, image: c}]}"), Errors{});
  EXPECT_EQ(ValidateUpdate(Pods(), kPod,
                           "spec: {activeDeadlineSeconds: 5, tolerations: [{operator: Exists}], "
                           "containers: [{name: a, image: b}]}"),
            Errors{});
  Errors renamed = ValidateUpdate(Pods(), kPod, "spec: {containers: [{name: z, image: b}]}");
  ASSERT_EQ(renamed.size(), 1u);
  EXPECT_TRUE(renamed[0].starts_with("spec: Forbidden: pod updates may not change fields other"));
  EXPECT_EQ(ValidateUpdate(Pods(), kPod,
                           "spec: {containers: [{name: a, image: b}, {name: c, image: d}]}"),
            Errors{"spec.containers: Forbidden: pod updates may not add or remove containers"});
}

TEST(PodTableTest, TellsTheReason) {
  const std::string meta =
      "metadata: {name: p, creationTimestamp: 2020-01-01T00:00:00Z%}\n"
      "spec: {nodeName: node1, containers: [{name: a, image: b}]^}\nstatus: ";
  auto row = [&](std::string status, std::string more_meta = "", std::string more_spec = "") {
    std::string yaml = meta + status;
    yaml.replace(yaml.find('%'), 1, more_meta);
    yaml.replace(yaml.find('^'), 1, more_spec);
    std::string text = Row(Pods(), yaml);
    return text.substr(0, text.find(" | <none>"));
  };
  EXPECT_EQ(row("{phase: Pending}"), "p | 0/1 | Pending | 0 | 2m5s");
  EXPECT_EQ(row("{phase: Running, podIPs: [{ip: 10.0.0.1}], containerStatuses: [{name: a, ready: "
                "true, state: {running: {}}}]}"),
            "p | 1/1 | Running | 0 | 2m5s | 10.0.0.1 | node1");
  EXPECT_EQ(row("{phase: Pending, containerStatuses: [{name: a, state: {waiting: {reason: "
                "ContainerCreating}}}]}"),
            "p | 0/1 | ContainerCreating | 0 | 2m5s");
  EXPECT_EQ(row("{phase: Running, containerStatuses: [{name: a, restartCount: 3, state: {waiting: "
                "{reason: CrashLoopBackOff}}, lastState: {terminated: {exitCode: 1, finishedAt: "
                "2020-01-01T00:01:00Z}}}]}"),
            "p | 0/1 | CrashLoopBackOff | 3 (65s ago) | 2m5s");
  EXPECT_EQ(row("{phase: Succeeded, containerStatuses: [{name: a, state: {terminated: {exitCode: "
                "0, reason: Completed}}}]}"),
            "p | 0/1 | Completed | 0 | 2m5s");
  EXPECT_EQ(row("{phase: Failed, containerStatuses: [{name: a, state: {terminated: {exitCode: "
                "3}}}]}"),
            "p | 0/1 | ExitCode:3 | 0 | 2m5s");
  EXPECT_EQ(row("{phase: Pending, initContainerStatuses: [{name: i, state: {running: {}}}]}", "",
                ", initContainers: [{name: i, image: b}, {name: j, image: b}]"),
            "p | 0/1 | Init:0/2 | 0 | 2m5s");
  EXPECT_EQ(row("{phase: Pending, initContainerStatuses: [{name: i, state: {terminated: {exitCode: "
                "1, reason: Error}}}]}",
                "", ", initContainers: [{name: i, image: b}]"),
            "p | 0/1 | Init:Error | 0 | 2m5s");
  EXPECT_EQ(row("{phase: Running}", ", deletionTimestamp: 2020-01-01T00:01:00Z"),
            "p | 0/1 | Terminating | 0 | 2m5s");
  EXPECT_EQ(row("{phase: Failed, reason: Evicted}"), "p | 0/1 | Evicted | 0 | 2m5s");
}

TEST(ServiceTest, HasUpstreamsDefaults) {
  MessagePtr object = Read(Services(), "spec: {type: NodePort, ports: [{port: 80}]}");
  const auto& spec = static_cast<const core::Service&>(*object).spec();
  EXPECT_EQ(spec.session_affinity(), "None");
  EXPECT_EQ(spec.ports(0).protocol(), "TCP");
  EXPECT_EQ(spec.ports(0).target_port().int_val(), 80);
  EXPECT_EQ(spec.external_traffic_policy(), "Cluster");
  EXPECT_EQ(spec.internal_traffic_policy(), "Cluster");
}

TEST(ServiceTest, ValidatesAsUpstream) {
  const ValidationCase cases[] = {
      {"spec: {ports: [{port: 80}]}", {}},
      {"spec: {clusterIP: None}", {}},
      {"spec: {}", {"spec.ports: Required value"}},
      {"spec: {ports: [{port: 80}, {port: 81}]}",
       {"spec.ports[0].name: Required value", "spec.ports[1].name: Required value"}},
      {"spec: {ports: [{name: a, port: 80}, {name: a, port: 81}]}",
       {"spec.ports[1].name: Duplicate value: \"a\""}},
      {"spec: {ports: [{port: 0}]}",
       {"spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
        "spec.ports[0].targetPort: Invalid value: 0: must be between 1 and 65535, inclusive"}},
      {"spec: {ports: [{port: 80, nodePort: 30000}]}",
       {"spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'"}},
      {"spec: {type: X, ports: [{port: 80}]}",
       {"spec.type: Unsupported value: \"X\": supported values: \"ClusterIP\", \"ExternalName\", "
        "\"LoadBalancer\", \"NodePort\""}},
      {"spec: {type: ExternalName}", {"spec.externalName: Required value"}},
      {"spec: {clusterIP: 1.2.3, ports: [{port: 80}]}",
       {"spec.clusterIPs[0]: Invalid value: \"1.2.3\": must be a valid IP address, (e.g. 10.9.8.7 "
        "or 2001:db8::ffff)"}},
  };
  for (const ValidationCase& c : cases) {
    EXPECT_EQ(Validate(Services(), c.yaml), c.errors) << c.yaml;
  }
}

TEST(ServiceTest, KeepsItsAddress) {
  EXPECT_EQ(ValidateUpdate(Services(), "spec: {clusterIP: 10.0.0.1, ports: [{port: 80}]}",
                           "spec: {clusterIP: 10.0.0.2, ports: [{port: 80}]}"),
            Errors{"spec.clusterIPs[0]: Invalid value: [\"10.0.0.2\"]: may not change once set"});
}

TEST(ServiceTest, PrintsItsColumns) {
  const std::string meta = "metadata: {name: s, creationTimestamp: 2020-01-01T00:00:00Z}\nspec: ";
  EXPECT_EQ(Row(Services(), meta + "{type: NodePort, clusterIP: 10.0.0.1, selector: {a: b}, ports: "
                                   "[{port: 80, nodePort: 30080}, {port: 53, protocol: UDP}]}"),
            "s | NodePort | 10.0.0.1 | <none> | 80:30080/TCP,53/UDP | 2m5s | a=b");
  EXPECT_EQ(Row(Services(), meta + "{type: ExternalName, externalName: x.org}"),
            "s | ExternalName | <none> | x.org | <none> | 2m5s | <none>");
  EXPECT_EQ(Row(Services(), meta + "{type: LoadBalancer, clusterIP: 10.0.0.1, ports: [{port: 1}]}"),
            "s | LoadBalancer | 10.0.0.1 | <pending> | 1/TCP | 2m5s | <none>");
}

TEST(NodeTest, PrintsItsColumns) {
  EXPECT_EQ(
      Row(Kind("", "nodes"), R"(
metadata:
  name: n1
  creationTimestamp: 2020-01-01T00:00:00Z
  labels: {node-role.kubernetes.io/worker: "", node-role.kubernetes.io/control-plane: ""}
spec: {unschedulable: true}
status:
  conditions: [{type: Ready, status: "True"}]
  addresses: [{type: InternalIP, address: 10.0.0.1}]
  nodeInfo: {kubeletVersion: v1, osImage: Debian}
)"),
      "n1 | Ready,SchedulingDisabled | control-plane,worker | 2m5s | v1 | 10.0.0.1 | <none> | "
      "Debian | <unknown> | <unknown>");
  EXPECT_TRUE(
      Row(Kind("", "nodes"), "metadata: {name: n1}").starts_with("n1 | Unknown | <none> |"));
}

TEST(NodeTest, ValidatesTaints) {
  EXPECT_EQ(Validate(Kind("", "nodes"), "spec: {taints: [{key: a, effect: Never}]}"),
            Errors{"spec.taints[0].effect: Unsupported value: \"Never\": supported values: "
                   "\"NoSchedule\", \"PreferNoSchedule\", \"NoExecute\""});
}

TEST(ConfigTest, ValidatesKeysAndImmutability) {
  const KindInfo& maps = Kind("", "configmaps");
  EXPECT_EQ(Validate(maps, "data: {a.b: x}"), Errors{});
  EXPECT_EQ(Validate(maps, "data: {..a: x}"),
            Errors{"data[..a]: Invalid value: \"..a\": must not start with '..'"});
  EXPECT_EQ(ValidateUpdate(maps, "{immutable: true, data: {a: x}}",
                           "{immutable: true, data: {a: "
                           "z}}"),
            Errors{"data: Forbidden: field is immutable when `immutable` is set"});
}

TEST(SecretTest, TurnsTextIntoData) {
  const KindInfo& secrets = Kind("", "secrets");
  MessagePtr object = Read(secrets, "{data: {a: b2xk, b: eA==}, stringData: {a: new}}");
  const auto& secret = static_cast<const core::Secret&>(*object);
  EXPECT_EQ(secret.type(), "Opaque");
  EXPECT_EQ(secret.data().at("a"), "new");
  EXPECT_EQ(secret.data().at("b"), "x");
  EXPECT_TRUE(secret.string_data().empty());
  EXPECT_EQ(Validate(secrets, "{type: kubernetes.io/tls, data: {tls.crt: eA==}}"),
            Errors{"data[tls.key]: Required value"});
  EXPECT_EQ(ValidateUpdate(secrets, "type: a", "type: b"),
            Errors{"type: Invalid value: \"b\": field is immutable"});
}

TEST(NamespaceTest, BeginsActiveWithItsFinalizer) {
  const KindInfo& namespaces = Kind("", "namespaces");
  MessagePtr object = Read(namespaces, "metadata: {name: n1}");
  namespaces.rules.prepare_create(*object);
  const auto& ns = static_cast<const core::Namespace&>(*object);
  EXPECT_EQ(ns.metadata().labels().at("kubernetes.io/metadata.name"), "n1");
  EXPECT_EQ(ns.status().phase(), "Active");
  EXPECT_EQ(ns.spec().finalizers(0), "kubernetes");
  EXPECT_FALSE(namespaces.rules.validate_name("a.b").empty());
}

TEST(EventTest, PrintsItsColumns) {
  EXPECT_EQ(Row(Kind("", "events"), R"(
metadata: {name: e}
firstTimestamp: 2020-01-01T00:00:00Z
lastTimestamp: 2020-01-01T00:02:00Z
count: 4
type: Warning
reason: BackOff
message: " text\n"
source: {component: agent, host: h}
involvedObject: {kind: Pod, name: p, fieldPath: "spec.containers{a}"}
)"),
            "5s | Warning | BackOff | pod/p | spec.containers{a} | agent, h | text | 2m5s | 4 | e");
}

TEST(EventTest, IsOneObjectInTwoShapes) {
  const KindInfo& shown = Kind("events.k8s.io", "events");
  MessagePtr event = Read(shown, R"(
metadata: {name: e, namespace: default}
eventTime: 2020-01-01T00:00:00.5Z
reportingController: c
reportingInstance: i
action: Act
reason: R
regarding: {kind: Pod, name: p}
note: text
type: Normal
series: {count: 2, lastObservedTime: 2020-01-01T00:00:01Z}
)");
  core::Event stored;
  shown.view->to_stored(*event, stored);
  EXPECT_EQ(stored.involved_object().name(), "p");
  EXPECT_EQ(stored.message(), "text");
  MessagePtr again(shown.prototype->New());
  shown.view->from_stored(stored, *again);
  ASSERT_TRUE(codec::Normalize(again.get()).ok());
  EXPECT_EQ(codec::EncodeJson(*again), codec::EncodeJson(*event));
}

TEST(EndpointsTest, PrintsThreeAndCountsTheRest) {
  EXPECT_EQ(Row(Kind("", "endpoints"),
                "metadata: {name: e}\nsubsets: [{addresses: [{ip: 1.1.1.1}, {ip: 1.1.1.2}, {ip: "
                "1.1.1.3}, {ip: 1.1.1.4}], ports: [{port: 80}]}]"),
            "e | 1.1.1.1:80,1.1.1.2:80,1.1.1.3:80 + 1 more... | <unknown>");
  EXPECT_EQ(Row(Kind("discovery.k8s.io", "endpointslices"),
                "{metadata: {name: e}, addressType: IPv4, endpoints: [{addresses: [1.1.1.1]}], "
                "ports: null}"),
            "e | IPv4 | <unset> | 1.1.1.1 | <unknown>");
}

TEST(EndpointSliceTest, ChecksAddressesAgainstTheirType) {
  const KindInfo& slices = Kind("discovery.k8s.io", "endpointslices");
  EXPECT_EQ(Validate(slices, "{addressType: IPv4, endpoints: [{addresses: ['::1']}], ports: []}"),
            Errors{"endpoints[0].addresses[0]: Invalid value: \"::1\": must be a valid IPv4 "
                   "address"});
  EXPECT_EQ(Validate(slices, "{addressType: IPv4, endpoints: [{addresses: []}], ports: []}"),
            Errors{"endpoints[0].addresses: Required value: must contain at least 1 address"});
}

}  // namespace
}  // namespace skiff::cp

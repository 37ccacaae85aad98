#include "control-plane/api/kinds/openapi/paths.h"

#include <google/protobuf/message.h>

namespace skiff::cp {
namespace {

enum class ParameterType { kString, kInteger, kBoolean };

class PathWriter {
 public:
  PathWriter(const KindInfo& kind, OpenApiVersion version) : kind_(kind), version_(version) {}

  void Write(Json* paths) {
    std::string root = kind_.group.empty() ? "/api/" + kind_.version
                                           : "/apis/" + kind_.group + "/" + kind_.version;
    std::string collection =
        root + (kind_.namespaced ? "/namespaces/{namespace}/" : "/") + kind_.plural;
    Json& all = (*paths)[collection];
    all = {{"post", Operation("post", "create", BodyOf(*kind_.prototype), WriteParameters())}};
    if (kind_.namespaced) all["parameters"].push_back(PathParameter("namespace"));
    if (!kind_.stored) return;
    all["get"] = Operation("list", "list", Json(), ListParameters(), kind_.list_prototype);
    all["delete"] = Operation("deletecollection", "deleteCollection", Json(), ListParameters());
    Json& one = (*paths)[collection + "/{name}"];
    one = {{"get", Operation("get", "read", Json(), Json::array())},
           {"put", Operation("put", "replace", BodyOf(*kind_.prototype), WriteParameters())},
           {"patch", Patch()},
           {"delete", Operation("delete", "delete", Json(), WriteParameters())}};
    one["parameters"].push_back(PathParameter("name"));
    if (kind_.namespaced) one["parameters"].push_back(PathParameter("namespace"));
    if (kind_.namespaced) {
      (*paths)[root + "/" + kind_.plural] = {
          {"get", Operation("list", "listAll", Json(), ListParameters(), kind_.list_prototype)}};
    }
  }

 private:
  bool v3() const { return version_ == OpenApiVersion::kV3; }

  Json TypeOf(ParameterType type) const {
    switch (type) {
      case ParameterType::kInteger: return {{"type", "integer"}};
      case ParameterType::kBoolean: return {{"type", "boolean"}};
      case ParameterType::kString: break;
    }
    return {{"type", "string"}};
  }

  Json Parameter(const char* in, const char* name, ParameterType type) const {
    Json parameter{{"name", name}, {"in", in}};
    if (v3()) {
      parameter["schema"] = TypeOf(type);
    } else {
      parameter.update(TypeOf(type));
    }
    return parameter;
  }
  Json PathParameter(const char* name) const {
    Json parameter = Parameter("path", name, ParameterType::kString);
    parameter["required"] = true;
    return parameter;
  }

  Json WriteParameters() const {
    return Json::array({Parameter("query", "dryRun", ParameterType::kString),
                        Parameter("query", "fieldManager", ParameterType::kString),
                        Parameter("query", "fieldValidation", ParameterType::kString)});
  }
  Json ListParameters() const {
    return Json::array({Parameter("query", "continue", ParameterType::kString),
                        Parameter("query", "fieldSelector", ParameterType::kString),
                        Parameter("query", "labelSelector", ParameterType::kString),
                        Parameter("query", "limit", ParameterType::kInteger),
                        Parameter("query", "resourceVersion", ParameterType::kString),
                        Parameter("query", "timeoutSeconds", ParameterType::kInteger),
                        Parameter("query", "watch", ParameterType::kBoolean)});
  }

  // The schema of a request's body.
  Json BodyOf(const google::protobuf::Message& message) const {
    return SchemaReference(*message.GetDescriptor(), version_);
  }

  Json Patch() const {
    Json parameters = WriteParameters();
    parameters.push_back(Parameter("query", "force", ParameterType::kBoolean));
    return Operation("patch", "patch", {{"type", "object"}}, std::move(parameters));
  }

  // action is what upstream's x-kubernetes-action says; verb begins the operation's id.
  Json Operation(const char* action, const char* verb, Json body, Json parameters,
                 const google::protobuf::Message* answer = nullptr) const {
    const auto* shown = answer != nullptr ? answer : kind_.prototype;
    Json schema = SchemaReference(*shown->GetDescriptor(), version_);
    bool patch = std::string_view(action) == "patch";
    Json consumes = patch ? Json{"application/json-patch+json", "application/merge-patch+json",
                                 "application/strategic-merge-patch+json"}
                          : Json{"application/json"};
    Json operation{{"operationId", std::string(verb) + OperationName()},
                   {"x-kubernetes-action", action},
                   {"x-kubernetes-group-version-kind",
                    {{"group", kind_.group}, {"version", kind_.version}, {"kind", kind_.kind}}}};
    Json ok{{"description", "OK"}};
    if (v3()) {
      ok["content"]["application/json"]["schema"] = schema;
      if (!body.is_null()) {
        Json content;
        for (const Json& type : consumes) content[type.get<std::string>()]["schema"] = body;
        operation["requestBody"] = {{"content", content}, {"required", true}};
      }
    } else {
      ok["schema"] = schema;
      operation["consumes"] = consumes;
      operation["produces"] = {"application/json", "application/vnd.kubernetes.protobuf"};
      if (!body.is_null()) {
        parameters.push_back(
            {{"name", "body"}, {"in", "body"}, {"required", true}, {"schema", body}});
      }
    }
    operation["parameters"] = std::move(parameters);
    operation["responses"]["200"] = ok;
    return operation;
  }

  // "CoreV1NamespacedPod"
  std::string OperationName() const {
    std::string group = kind_.group.empty() ? "core" : kind_.group.substr(0, kind_.group.find('.'));
    group[0] = static_cast<char>(group[0] - 'a' + 'A');
    std::string version = kind_.version;
    version[0] = 'V';
    return group + version + (kind_.namespaced ? "Namespaced" : "") + kind_.kind;
  }

  const KindInfo& kind_;
  OpenApiVersion version_;
};

}  // namespace

void AddPaths(const KindInfo& kind, OpenApiVersion version, Json* paths) {
  PathWriter(kind, version).Write(paths);
}

}  // namespace skiff::cp

// JSON schemas of message types. For the sources of this folder only: it includes the JSON library.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace google::protobuf {
class Descriptor;
}

namespace skiff::cp {

using Json = nlohmann::json;

// The two dialects differ in where schemas stand and in how alternatives are said.
enum class OpenApiVersion { kV2, kV3 };

// "io.k8s.api.apps.v1.Deployment", as upstream names the definition.
std::string SchemaName(const google::protobuf::Descriptor& type);

// {"$ref": ...} of a type's schema.
Json SchemaReference(const google::protobuf::Descriptor& type, OpenApiVersion version);

// Adds the schema of the type, and of all types it needs, to *schemas by name.
void AddSchemas(const google::protobuf::Descriptor& type, OpenApiVersion version, Json* schemas);

}  // namespace skiff::cp

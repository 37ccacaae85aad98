// Label and field selectors. Immutable once made; any thread.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace google::protobuf {
class Message;
template <typename Key, typename T>
class Map;
}  // namespace google::protobuf
namespace k8s::meta::v1 {
class LabelSelector;
}

namespace skiff::codec {

using LabelMap = google::protobuf::Map<std::string, std::string>;

class LabelSelector {
 public:
  enum class Operator { kIn, kNotIn, kExists, kDoesNotExist, kGreaterThan, kLessThan };
  struct Requirement {
    std::string key;
    Operator op;
    std::vector<std::string> values;  // sorted
  };

  // Matches every object.
  LabelSelector() = default;
  static LabelSelector Nothing();
  // "a=b,c!=d,e in (f,g),h notin (i),j,!k,l>1". Empty text matches everything.
  // InvalidArgument: `unable to parse requirement: ...` in upstream's words.
  static Result<LabelSelector> Parse(std::string_view text);
  // An empty selector matches everything; a caller for whom an unset one matches nothing says so.
  static Result<LabelSelector> From(const k8s::meta::v1::LabelSelector& message);
  // All labels of the set, as Services and ReplicationControllers select.
  static LabelSelector FromSet(const LabelMap& labels);

  bool Matches(const LabelMap& labels) const;
  bool MatchesEverything() const { return !nothing_ && requirements_.empty(); }
  const std::vector<Requirement>& requirements() const { return requirements_; }
  // The string form, keys sorted; parses to an equal selector.
  std::string ToString() const;

 private:
  std::vector<Requirement> requirements_;
  bool nothing_ = false;
};

class FieldSelector {
 public:
  struct Requirement {
    std::string field;  // "metadata.name"
    bool equal;         // = and ==, or !=
    std::string value;
  };

  FieldSelector() = default;
  // "metadata.name=a,status.phase!=Running", with \ escaping , = and \ in values.
  static Result<FieldSelector> Parse(std::string_view text);

  // `value_of` gives the text of a field of the object, "" if unset.
  bool Matches(const std::function<std::string(std::string_view field)>& value_of) const;
  // By reflection: FieldText of each field.
  bool Matches(const google::protobuf::Message& object) const;
  bool MatchesEverything() const { return requirements_.empty(); }
  const std::vector<Requirement>& requirements() const { return requirements_; }
  // The value the field must equal, if the selector says so.
  std::optional<std::string> RequiredValue(std::string_view field) const;

 private:
  std::vector<Requirement> requirements_;
};

// The text of a scalar field by its JSON path ("spec.nodeName"): numbers in decimal, booleans as
// true and false, "" if a step is unset or no scalar stands there.
std::string FieldText(const google::protobuf::Message& object, std::string_view path);

}  // namespace skiff::codec

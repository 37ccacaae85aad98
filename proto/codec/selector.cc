#include "proto/codec/selector.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/map.h>
#include <google/protobuf/message.h>

#include <algorithm>
#include <charconv>

#include "proto/codec/names.h"
#include "proto/codec/plan.h"
#include "proto/k8s/meta/v1/object.pb.h"

namespace skiff::codec {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using Operator = LabelSelector::Operator;
using Requirement = LabelSelector::Requirement;

constexpr size_t kMaxSelectorBytes = 64 * 1024;

Error Unparsable(const std::string& why) {
  return Error(Code::kInvalidArgument, "unable to parse requirement: " + why);
}

// The tokens of a selector: operators and separators, or a word up to the next one or a blank.
class Lexer {
 public:
  explicit Lexer(std::string_view text) : text_(text) { Advance(); }

  // Empty at the end.
  std::string_view token() const { return token_; }
  bool is_word() const { return is_word_; }
  void Advance() {
    size_t start = text_.find_first_not_of(" \t\r\n");
    if (start == std::string_view::npos) start = text_.size();
    text_.remove_prefix(start);
    is_word_ = false;
    size_t length = 0;
    for (std::string_view op : {"==", "!=", "=", "!", "(", ")", ",", ">", "<"}) {
      if (text_.starts_with(op)) {
        length = op.size();
        break;
      }
    }
    if (length == 0 && !text_.empty()) {
      is_word_ = true;
      length = std::min(text_.find_first_of(" \t\r\n=!(),<>"), text_.size());
    }
    token_ = text_.substr(0, length);
    text_.remove_prefix(length);
  }
  bool Take(std::string_view expected) {
    if (token_ != expected) return false;
    Advance();
    return true;
  }

 private:
  std::string_view text_;
  std::string_view token_;
  bool is_word_ = false;
};

std::string Joined(const Complaints& complaints) {
  std::string text;
  for (const std::string& complaint : complaints) {
    text += (text.empty() ? "" : "; ") + complaint;
  }
  return text;
}

Result<Requirement> MakeRequirement(std::string key, Operator op, std::vector<std::string> values) {
  if (std::string why = Joined(CheckQualifiedName(key)); !why.empty()) {
    return Unparsable("key: Invalid value: \"" + key + "\": " + why);
  }
  bool compares = op == Operator::kGreaterThan || op == Operator::kLessThan;
  for (const std::string& value : values) {
    if (std::string why = Joined(CheckLabelValue(value)); !why.empty()) {
      return Unparsable("values[0][" + key + "]: Invalid value: \"" + value + "\": " + why);
    }
    int64_t number;
    auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
    if (compares && (error != std::errc() || end != value.data() + value.size())) {
      return Unparsable("values[0]: Invalid value: \"" + value +
                        "\": for 'Gt', 'Lt' operators, the value must be an integer");
    }
  }
  std::sort(values.begin(), values.end());
  values.erase(std::unique(values.begin(), values.end()), values.end());
  return Requirement{std::move(key), op, std::move(values)};
}

// "(a,b,)": an empty place stands for the empty value.
Result<std::vector<std::string>> ParseSet(Lexer* lexer) {
  if (!lexer->Take("(")) {
    return Unparsable("found '" + std::string(lexer->token()) + "', expected: '('");
  }
  std::vector<std::string> values;
  for (;;) {
    if (lexer->is_word()) {
      values.emplace_back(lexer->token());
      lexer->Advance();
    } else {
      values.emplace_back();
    }
    if (lexer->Take(")")) return values;
    if (!lexer->Take(",")) {
      return Unparsable("found '" + std::string(lexer->token()) + "', expected: ',' or ')'");
    }
  }
}

Result<Requirement> ParseRequirement(Lexer* lexer) {
  bool negated = lexer->Take("!");
  if (!lexer->is_word()) {
    return Unparsable("found '" + std::string(lexer->token()) +
                      "', expected: !, identifier, or 'end of string'");
  }
  std::string key(lexer->token());
  lexer->Advance();
  if (lexer->token().empty() || lexer->token() == ",") {
    return MakeRequirement(key, negated ? Operator::kDoesNotExist : Operator::kExists, {});
  }
  if (negated) {
    return Unparsable("found '" + std::string(lexer->token()) +
                      "', expected: ',' or 'end of string'");
  }
  if (lexer->Take("in")) return MakeRequirement(key, Operator::kIn, TRY(ParseSet(lexer)));
  if (lexer->Take("notin")) return MakeRequirement(key, Operator::kNotIn, TRY(ParseSet(lexer)));
  Operator op;
  if (lexer->Take("=") || lexer->Take("==")) {
    op = Operator::kIn;
  } else if (lexer->Take("!=")) {
    op = Operator::kNotIn;
  } else if (lexer->Take(">")) {
    op = Operator::kGreaterThan;
  } else if (lexer->Take("<")) {
    op = Operator::kLessThan;
  } else {
    return Unparsable("found '" + std::string(lexer->token()) +
                      "', expected: in, notin, =, ==, !=, gt, lt");
  }
  std::string value;
  if (lexer->is_word()) {
    value = lexer->token();
    lexer->Advance();
  }
  return MakeRequirement(key, op, {value});
}

bool MatchesOne(const Requirement& requirement, const std::string* value) {
  auto contained = [&] {
    return std::binary_search(requirement.values.begin(), requirement.values.end(), *value);
  };
  switch (requirement.op) {
    case Operator::kIn: return value != nullptr && contained();
    case Operator::kNotIn: return value == nullptr || !contained();
    case Operator::kExists: return value != nullptr;
    case Operator::kDoesNotExist: return value == nullptr;
    case Operator::kGreaterThan:
    case Operator::kLessThan: break;
  }
  int64_t number, limit;
  if (value == nullptr || value->empty()) return false;
  auto parse = [](const std::string& text, int64_t* out) {
    auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *out);
    return error == std::errc() && end == text.data() + text.size();
  };
  if (!parse(*value, &number) || !parse(requirement.values[0], &limit)) return false;
  return requirement.op == Operator::kGreaterThan ? number > limit : number < limit;
}

std::string RequirementText(const Requirement& requirement) {
  std::string joined;
  for (const std::string& value : requirement.values) {
    if (&value != &requirement.values.front()) joined += ',';
    joined += value;
  }
  bool single = requirement.values.size() == 1;
  const std::string& key = requirement.key;
  switch (requirement.op) {
    case Operator::kIn: return single ? key + "=" + joined : key + " in (" + joined + ")";
    case Operator::kNotIn: return single ? key + "!=" + joined : key + " notin (" + joined + ")";
    case Operator::kExists: return key;
    case Operator::kDoesNotExist: return "!" + key;
    case Operator::kGreaterThan: return key + ">" + joined;
    case Operator::kLessThan: return key + "<" + joined;
  }
  return key;
}

void SortByKey(std::vector<Requirement>* requirements) {
  std::stable_sort(requirements->begin(), requirements->end(),
                   [](const Requirement& a, const Requirement& b) { return a.key < b.key; });
}

}  // namespace

LabelSelector LabelSelector::Nothing() {
  LabelSelector selector;
  selector.nothing_ = true;
  return selector;
}

Result<LabelSelector> LabelSelector::Parse(std::string_view text) {
  if (text.size() > kMaxSelectorBytes) return Unparsable("the selector is too long");
  LabelSelector selector;
  Lexer lexer(text);
  while (!lexer.token().empty()) {
    selector.requirements_.push_back(TRY(ParseRequirement(&lexer)));
    if (lexer.token().empty()) break;
    if (!lexer.Take(",")) {
      return Unparsable("found '" + std::string(lexer.token()) +
                        "', expected: ',' or 'end of string'");
    }
    if (lexer.token().empty()) {
      return Unparsable("found '', expected: identifier after ','");
    }
  }
  SortByKey(&selector.requirements_);
  return selector;
}

Result<LabelSelector> LabelSelector::From(const k8s::meta::v1::LabelSelector& message) {
  LabelSelector selector;
  for (const auto& [key, value] : message.match_labels()) {
    selector.requirements_.push_back(TRY(MakeRequirement(key, Operator::kIn, {value})));
  }
  for (const auto& expression : message.match_expressions()) {
    Operator op;
    if (expression.operator_() == "In") {
      op = Operator::kIn;
    } else if (expression.operator_() == "NotIn") {
      op = Operator::kNotIn;
    } else if (expression.operator_() == "Exists") {
      op = Operator::kExists;
    } else if (expression.operator_() == "DoesNotExist") {
      op = Operator::kDoesNotExist;
    } else {
      return Error(Code::kInvalidArgument,
                   "\"" + expression.operator_() + "\" is not a valid label selector operator");
    }
    std::vector<std::string> values(expression.values().begin(), expression.values().end());
    bool wants_values = op == Operator::kIn || op == Operator::kNotIn;
    if (wants_values == values.empty()) {
      return Error(Code::kInvalidArgument,
                   wants_values ? "for 'in', 'notin' operators, values set can't be empty"
                                : "values set must be empty for exists and does not exist");
    }
    selector.requirements_.push_back(TRY(MakeRequirement(expression.key(), op, std::move(values))));
  }
  SortByKey(&selector.requirements_);
  return selector;
}

LabelSelector LabelSelector::FromSet(const LabelMap& labels) {
  LabelSelector selector;
  for (const auto& [key, value] : labels) {
    selector.requirements_.push_back({key, Operator::kIn, {value}});
  }
  SortByKey(&selector.requirements_);
  return selector;
}

bool LabelSelector::Matches(const LabelMap& labels) const {
  if (nothing_) return false;
  return std::all_of(requirements_.begin(), requirements_.end(), [&](const Requirement& r) {
    auto found = labels.find(r.key);
    return MatchesOne(r, found == labels.end() ? nullptr : &found->second);
  });
}

std::string LabelSelector::ToString() const {
  std::string text;
  for (const Requirement& requirement : requirements_) {
    text += (text.empty() ? "" : ",") + RequirementText(requirement);
  }
  return text;
}

Result<FieldSelector> FieldSelector::Parse(std::string_view text) {
  FieldSelector selector;
  auto invalid = [&](std::string_view term) {
    return Error(Code::kInvalidArgument, "invalid selector: '" + std::string(text) +
                                             "'; can't understand '" + std::string(term) + "'");
  };
  if (text.size() > kMaxSelectorBytes) return invalid("a selector of this length");
  for (size_t at = 0; at < text.size();) {
    // A term ends at the next comma that no backslash escapes.
    size_t end = at;
    while (end < text.size() && text[end] != ',') end += text[end] == '\\' ? 2 : 1;
    end = std::min(end, text.size());
    std::string_view term = text.substr(at, end - at);
    at = end + 1;
    if (term.empty()) continue;
    size_t sign = term.find('=');
    if (sign == std::string_view::npos || sign == 0) return invalid(term);
    bool equal = term[sign - 1] != '!';
    Requirement requirement{std::string(term.substr(0, equal ? sign : sign - 1)), equal, {}};
    std::string_view value = term.substr(sign + 1);
    if (equal && value.starts_with('=')) value.remove_prefix(1);
    for (size_t i = 0; i < value.size(); ++i) {
      if (value[i] == '\\') {
        if (++i == value.size() || (value[i] != '\\' && value[i] != ',' && value[i] != '=')) {
          return invalid(term);
        }
      } else if (value[i] == '=') {
        return invalid(term);
      }
      requirement.value += value[i];
    }
    selector.requirements_.push_back(std::move(requirement));
  }
  return selector;
}

bool FieldSelector::Matches(
    const std::function<std::string(std::string_view field)>& value_of) const {
  return std::all_of(requirements_.begin(), requirements_.end(), [&](const Requirement& r) {
    return (value_of(r.field) == r.value) == r.equal;
  });
}

bool FieldSelector::Matches(const Message& object) const {
  return Matches([&](std::string_view field) { return FieldText(object, field); });
}

std::optional<std::string> FieldSelector::RequiredValue(std::string_view field) const {
  for (const Requirement& requirement : requirements_) {
    if (requirement.equal && requirement.field == field) return requirement.value;
  }
  return std::nullopt;
}

std::string FieldText(const Message& object, std::string_view path) {
  const Message* message = &object;
  for (;;) {
    size_t dot = path.find('.');
    const TypePlan& plan = PlanOf(*message->GetDescriptor());
    auto found = plan.keys.find(path.substr(0, dot));
    if (found == plan.keys.end()) return {};
    for (const FieldDescriptor* step : found->second.through) {
      message = &message->GetReflection()->GetMessage(*message, step);
    }
    const FieldDescriptor* field = found->second.field->field;
    const google::protobuf::Reflection& reflection = *message->GetReflection();
    if (field->is_repeated()) return {};
    bool is_message = field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE;
    if (is_message != (dot != std::string_view::npos)) return {};
    if (is_message) {
      message = &reflection.GetMessage(*message, field);
      path.remove_prefix(dot + 1);
      continue;
    }
    switch (field->cpp_type()) {
      case FieldDescriptor::CPPTYPE_STRING: return reflection.GetString(*message, field);
      case FieldDescriptor::CPPTYPE_BOOL:
        return reflection.GetBool(*message, field) ? "true" : "false";
      case FieldDescriptor::CPPTYPE_INT32:
        return std::to_string(reflection.GetInt32(*message, field));
      case FieldDescriptor::CPPTYPE_INT64:
        return std::to_string(reflection.GetInt64(*message, field));
      default: return {};
    }
  }
}

}  // namespace skiff::codec

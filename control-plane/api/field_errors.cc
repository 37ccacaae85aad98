#include "control-plane/api/field_errors.h"

#include <cstdio>

namespace skiff::cp {
namespace {

// As Go's %q: what a terminal would not show is escaped.
std::string Quote(std::string_view text) {
  std::string quoted = "\"";
  for (char c : text) {
    switch (c) {
      case '"': quoted += "\\\""; break;
      case '\\': quoted += "\\\\"; break;
      case '\n': quoted += "\\n"; break;
      case '\r': quoted += "\\r"; break;
      case '\t': quoted += "\\t"; break;
      default:
        if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
          char escape[8];
          std::snprintf(escape, sizeof escape, "\\x%02x", static_cast<unsigned char>(c));
          quoted += escape;
        } else {
          quoted += c;
        }
    }
  }
  return quoted += '"';
}

std::string WithDetail(std::string message, std::string_view detail) {
  if (!detail.empty()) message.append(": ").append(detail);
  return message;
}

}  // namespace

FieldPath FieldPath::Child(std::string_view name) const {
  FieldPath path = *this;
  if (!path.text_.empty()) path.text_ += '.';
  path.text_ += name;
  return path;
}

FieldPath FieldPath::Index(size_t index) const {
  return FieldPath(text_ + "[" + std::to_string(index) + "]");
}

FieldPath FieldPath::Key(std::string_view key) const {
  return FieldPath(text_ + "[" + std::string(key) + "]");
}

ShownValue::ShownValue(std::string_view text) : text_(Quote(text)) {}

ShownValue ShownValue::Raw(std::string_view text) {
  ShownValue value;
  value.text_ = text;
  return value;
}

std::string FieldError::ToString() const {
  return field.empty() ? message : field + ": " + message;
}

void FieldErrors::Required(const FieldPath& field, std::string_view detail) {
  errors_.push_back({"FieldValueRequired", field.text(), WithDetail("Required value", detail)});
}

void FieldErrors::Invalid(const FieldPath& field, const ShownValue& value,
                          std::string_view detail) {
  errors_.push_back(
      {"FieldValueInvalid", field.text(), WithDetail("Invalid value: " + value.text(), detail)});
}

void FieldErrors::TypeInvalid(const FieldPath& field, const ShownValue& value,
                              std::string_view detail) {
  errors_.push_back({"FieldValueTypeInvalid", field.text(),
                     WithDetail("Invalid value: " + value.text(), detail)});
}

void FieldErrors::NotSupported(const FieldPath& field, const ShownValue& value,
                               const std::vector<std::string>& supported) {
  std::string list;
  for (const auto& item : supported) {
    if (!list.empty()) list += ", ";
    list += Quote(item);
  }
  std::string message = "Unsupported value: " + value.text();
  if (!list.empty()) message += ": supported values: " + list;
  errors_.push_back({"FieldValueNotSupported", field.text(), std::move(message)});
}

void FieldErrors::Forbidden(const FieldPath& field, std::string_view detail) {
  errors_.push_back({"FieldValueForbidden", field.text(), WithDetail("Forbidden", detail)});
}

void FieldErrors::Duplicate(const FieldPath& field, const ShownValue& value) {
  errors_.push_back({"FieldValueDuplicate", field.text(), "Duplicate value: " + value.text()});
}

void FieldErrors::NotFound(const FieldPath& field, const ShownValue& value) {
  errors_.push_back({"FieldValueNotFound", field.text(), "Not found: " + value.text()});
}

void FieldErrors::TooLong(const FieldPath& field, size_t max_bytes) {
  errors_.push_back({"FieldValueTooLong", field.text(),
                     "Too long: may not be more than " + std::to_string(max_bytes) + " bytes"});
}

void FieldErrors::TooMany(const FieldPath& field, size_t actual, size_t max_items) {
  errors_.push_back({"FieldValueTooMany", field.text(),
                     "Too many: " + std::to_string(actual) + ": must have at most " +
                         std::to_string(max_items) + " items"});
}

std::string FieldErrors::ToString() const {
  if (errors_.size() == 1) return errors_.front().ToString();
  std::string text = "[";
  for (const auto& error : errors_) {
    if (text.size() > 1) text += ", ";
    text += error.ToString();
  }
  return text + "]";
}

}  // namespace skiff::cp

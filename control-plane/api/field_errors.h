// What validation finds: field paths and errors in Kubernetes' own words, which clients show as
// they are ("spec.replicas: Invalid value: -1: must be greater than or equal to 0").
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace skiff::cp {

// Where a value stands: FieldPath("spec").Child("containers").Index(0).Child("name") is
// "spec.containers[0].name".
class FieldPath {
 public:
  FieldPath() = default;  // the object itself
  explicit FieldPath(std::string_view root) : text_(root) {}
  FieldPath Child(std::string_view name) const;
  FieldPath Index(size_t index) const;
  FieldPath Key(std::string_view key) const;
  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

struct FieldError {
  std::string reason;   // of the cause in Status.details: "FieldValueRequired", ...
  std::string field;    // "spec.containers[0].name"
  std::string message;  // without the field: "Required value: must be set"
  std::string ToString() const;
};

// A value as error messages show it: strings quoted, numbers and booleans bare.
class ShownValue {
 public:
  ShownValue(std::string_view text);                                           // NOLINT implicit
  ShownValue(const std::string& text) : ShownValue(std::string_view(text)) {}  // NOLINT implicit
  ShownValue(const char* text) : ShownValue(std::string_view(text)) {}         // NOLINT implicit
  template <class T>
  requires(std::is_integral_v<T>) ShownValue(T value)  // NOLINT implicit
      : text_(std::is_same_v<T, bool> ? (value ? "true" : "false") : std::to_string(value)) {}
  // Text that is shown as it is (JSON of a struct, a list).
  static ShownValue Raw(std::string_view text);
  const std::string& text() const { return text_; }

 private:
  ShownValue() = default;
  std::string text_;
};

// The errors of one object, in the order they were found. Value type.
class FieldErrors {
 public:
  void Required(const FieldPath& field, std::string_view detail = {});
  void Invalid(const FieldPath& field, const ShownValue& value, std::string_view detail);
  void TypeInvalid(const FieldPath& field, const ShownValue& value, std::string_view detail);
  void NotSupported(const FieldPath& field, const ShownValue& value,
                    const std::vector<std::string>& supported);
  void Forbidden(const FieldPath& field, std::string_view detail);
  void Duplicate(const FieldPath& field, const ShownValue& value);
  void NotFound(const FieldPath& field, const ShownValue& value);
  void TooLong(const FieldPath& field, size_t max_bytes);
  void TooMany(const FieldPath& field, size_t actual, size_t max_items);

  bool empty() const { return errors_.empty(); }
  const std::vector<FieldError>& errors() const { return errors_; }
  // One error as it is; more as "[a, b]".
  std::string ToString() const;

 private:
  std::vector<FieldError> errors_;
};

}  // namespace skiff::cp

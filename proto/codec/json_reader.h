// A pull parser over JSON text, for the codec itself: no tree, no copies of what has no escapes.
//
// Every function returns false once the text is malformed; error() then says what and where, in
// the words of Go's encoding/json. One reader, one text, one thread.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace skiff::codec {

enum class JsonType { kNull, kBool, kNumber, kString, kArray, kObject };
// "object", as errors name it.
std::string_view JsonTypeName(JsonType type);

class JsonReader {
 public:
  JsonReader(std::string_view text, int max_depth) : text_(text), max_depth_(max_depth) {}

  // The type of the next value, which is not consumed.
  bool Peek(JsonType* type);

  bool ReadNull();
  bool ReadBool(bool* value);
  // The number as written.
  bool ReadNumber(std::string_view* token);
  // Points into the text or, if there were escapes, into *scratch.
  bool ReadString(std::string* scratch, std::string_view* value);

  // Containers: Enter, then Next until it sets *more to false. The value (after NextKey: of that
  // key) must be read or skipped before the following Next.
  bool EnterObject();
  bool NextKey(bool* more, std::string* scratch, std::string_view* key);
  bool EnterArray();
  bool NextElement(bool* more);

  // Steps over one value of any type; *raw (may be null) is its text.
  bool SkipValue(std::string_view* raw);
  // Nothing but blanks may follow.
  bool AtEnd();

  const std::string& error() const { return error_; }

 private:
  void SkipBlanks();
  bool Literal(std::string_view word);
  bool Fail(std::string_view context);
  bool FailText(std::string message);
  bool ReadEscape(std::string* out);
  bool ReadHex4(unsigned* value);
  bool SkipString();
  bool Leave();

  std::string_view text_;
  size_t at_ = 0;
  int depth_ = 0;
  int max_depth_;
  bool fresh_ = false;  // the container just entered has given no element yet
  std::string error_;
};

// Appends the code point in UTF-8.
void AppendUtf8(unsigned code_point, std::string* out);
// The length of the UTF-8 sequence at the start of the text, 0 if it is malformed.
size_t Utf8Length(std::string_view text);
// Appends the text as a JSON string with quotes; malformed UTF-8 becomes U+FFFD.
void AppendJsonString(std::string_view text, std::string* out);
// Well-formed JSON without the blanks between its tokens.
std::string CompactJson(std::string_view json);

}  // namespace skiff::codec

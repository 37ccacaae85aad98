#include "proto/codec/json_reader.h"

#include <utility>

#include "proto/codec/ascii.h"

namespace skiff::codec {
namespace {

bool IsContinuation(char c) { return (static_cast<unsigned char>(c) & 0xC0) == 0x80; }

// A character as encoding/json quotes it.
std::string QuoteCharacter(char c) {
  static constexpr char kHex[] = "0123456789abcdef";
  if (c == '\'') return R"('\'')";
  if (c == '"') return R"('"')";
  if (c == '\n') return R"('\n')";
  auto byte = static_cast<unsigned char>(c);
  if (byte >= 0x20 && byte < 0x7F) return {'\'', c, '\''};
  return {'\'', '\\', 'x', kHex[byte >> 4], kHex[byte & 15], '\''};
}

// Malformed UTF-8 replaced by U+FFFD.
std::string_view Sanitize(std::string_view text, std::string* scratch) {
  size_t at = 0;
  while (at < text.size()) {
    size_t length = Utf8Length(text.substr(at));
    if (length == 0) break;
    at += length;
  }
  if (at == text.size()) return text;
  std::string clean;
  for (at = 0; at < text.size();) {
    size_t length = Utf8Length(text.substr(at));
    if (length == 0) {
      clean += "\xEF\xBF\xBD";
      ++at;
    } else {
      clean.append(text.substr(at, length));
      at += length;
    }
  }
  *scratch = std::move(clean);
  return *scratch;
}

}  // namespace

std::string_view JsonTypeName(JsonType type) {
  switch (type) {
    case JsonType::kNull: return "null";
    case JsonType::kBool: return "bool";
    case JsonType::kNumber: return "number";
    case JsonType::kString: return "string";
    case JsonType::kArray: return "array";
    case JsonType::kObject: return "object";
  }
  return "value";
}

void AppendUtf8(unsigned code_point, std::string* out) {
  auto put = [out](unsigned byte) { out->push_back(static_cast<char>(byte)); };
  if (code_point < 0x80) {
    put(code_point);
  } else if (code_point < 0x800) {
    put(0xC0 | (code_point >> 6));
    put(0x80 | (code_point & 0x3F));
  } else if (code_point < 0x10000) {
    put(0xE0 | (code_point >> 12));
    put(0x80 | ((code_point >> 6) & 0x3F));
    put(0x80 | (code_point & 0x3F));
  } else {
    put(0xF0 | (code_point >> 18));
    put(0x80 | ((code_point >> 12) & 0x3F));
    put(0x80 | ((code_point >> 6) & 0x3F));
    put(0x80 | (code_point & 0x3F));
  }
}

// Table 3-7 of the Unicode standard: no overlong forms, no surrogates.
size_t Utf8Length(std::string_view text) {
  if (text.empty()) return 0;
  auto at = [text](size_t i) { return static_cast<unsigned char>(text[i]); };
  unsigned char first = at(0);
  if (first < 0x80) return 1;
  if (first < 0xC2 || first > 0xF4) return 0;
  size_t length = first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
  if (text.size() < length) return 0;
  for (size_t i = 1; i < length; ++i) {
    if (!IsContinuation(text[i])) return 0;
  }
  if ((first == 0xE0 && at(1) < 0xA0) || (first == 0xED && at(1) > 0x9F) ||
      (first == 0xF0 && at(1) < 0x90) || (first == 0xF4 && at(1) > 0x8F)) {
    return 0;
  }
  return length;
}

void AppendJsonString(std::string_view text, std::string* out) {
  static constexpr char kHex[] = "0123456789abcdef";
  out->push_back('"');
  size_t start = 0;  // of the run not yet appended
  for (size_t i = 0; i < text.size();) {
    auto c = static_cast<unsigned char>(text[i]);
    size_t length = 1;
    if (c >= 0x80) {
      length = Utf8Length(text.substr(i));
    }
    if (length != 0 && c >= 0x20 && c != '"' && c != '\\') {
      i += length;
      continue;
    }
    out->append(text.substr(start, i - start));
    switch (c) {
      case '"': *out += "\\\""; break;
      case '\\': *out += "\\\\"; break;
      case '\n': *out += "\\n"; break;
      case '\r': *out += "\\r"; break;
      case '\t': *out += "\\t"; break;
      default:
        if (c >= 0x80) {
          *out += "\xEF\xBF\xBD";
        } else {
          *out += "\\u00";
          out->push_back(kHex[c >> 4]);
          out->push_back(kHex[c & 15]);
        }
    }
    start = ++i;
  }
  out->append(text.substr(start));
  out->push_back('"');
}

std::string CompactJson(std::string_view json) {
  std::string out;
  out.reserve(json.size());
  bool in_string = false;
  for (size_t i = 0; i < json.size(); ++i) {
    char c = json[i];
    if (!in_string && (c == ' ' || c == '\n' || c == '\t' || c == '\r')) continue;
    out.push_back(c);
    if (in_string && c == '\\' && i + 1 < json.size()) {
      out.push_back(json[++i]);
    } else if (c == '"') {
      in_string = !in_string;
    }
  }
  return out;
}

void JsonReader::SkipBlanks() {
  while (at_ < text_.size() &&
         (text_[at_] == ' ' || text_[at_] == '\n' || text_[at_] == '\t' || text_[at_] == '\r')) {
    ++at_;
  }
}

bool JsonReader::FailText(std::string message) {
  if (error_.empty()) error_ = std::move(message);
  return false;
}

bool JsonReader::Fail(std::string_view context) {
  if (at_ >= text_.size()) return FailText("unexpected end of JSON input");
  return FailText("invalid character " + QuoteCharacter(text_[at_]) + " " + std::string(context) +
                  " (at offset " + std::to_string(at_) + ")");
}

bool JsonReader::Peek(JsonType* type) {
  SkipBlanks();
  if (at_ >= text_.size()) return Fail({});
  switch (text_[at_]) {
    case '{': *type = JsonType::kObject; return true;
    case '[': *type = JsonType::kArray; return true;
    case '"': *type = JsonType::kString; return true;
    case 't':
    case 'f': *type = JsonType::kBool; return true;
    case 'n': *type = JsonType::kNull; return true;
    default: break;
  }
  if (text_[at_] != '-' && !IsDigit(text_[at_])) return Fail("looking for beginning of value");
  *type = JsonType::kNumber;
  return true;
}

bool JsonReader::Literal(std::string_view word) {
  SkipBlanks();
  for (char c : word) {
    if (at_ >= text_.size() || text_[at_] != c) {
      return Fail("in literal " + std::string(word) + " (expecting " + QuoteCharacter(c) + ")");
    }
    ++at_;
  }
  return true;
}

bool JsonReader::ReadNull() { return Literal("null"); }

bool JsonReader::ReadBool(bool* value) {
  SkipBlanks();
  *value = at_ < text_.size() && text_[at_] == 't';
  return Literal(*value ? "true" : "false");
}

bool JsonReader::ReadNumber(std::string_view* token) {
  SkipBlanks();
  size_t start = at_;
  auto digits = [this] {
    size_t first = at_;
    while (at_ < text_.size() && IsDigit(text_[at_])) ++at_;
    return at_ > first;
  };
  if (at_ < text_.size() && text_[at_] == '-') ++at_;
  if (at_ < text_.size() && text_[at_] == '0') {
    ++at_;
  } else if (!digits()) {
    return Fail("in numeric literal");
  }
  if (at_ < text_.size() && text_[at_] == '.') {
    ++at_;
    if (!digits()) return Fail("after decimal point in numeric literal");
  }
  if (at_ < text_.size() && (text_[at_] == 'e' || text_[at_] == 'E')) {
    ++at_;
    if (at_ < text_.size() && (text_[at_] == '+' || text_[at_] == '-')) ++at_;
    if (!digits()) return Fail("in exponent of numeric literal");
  }
  *token = text_.substr(start, at_ - start);
  return true;
}

bool JsonReader::ReadHex4(unsigned* value) {
  *value = 0;
  for (int i = 0; i < 4; ++i, ++at_) {
    char c = at_ < text_.size() ? text_[at_] : '\0';
    unsigned digit;
    if (IsDigit(c)) {
      digit = static_cast<unsigned>(c - '0');
    } else if (c >= 'a' && c <= 'f') {
      digit = static_cast<unsigned>(c - 'a') + 10;
    } else if (c >= 'A' && c <= 'F') {
      digit = static_cast<unsigned>(c - 'A') + 10;
    } else {
      return Fail("in \\u hexadecimal character escape");
    }
    *value = *value * 16 + digit;
  }
  return true;
}

// After the backslash. A surrogate without its partner becomes U+FFFD.
bool JsonReader::ReadEscape(std::string* out) {
  if (at_ >= text_.size()) return Fail({});
  switch (text_[at_++]) {
    case '"': out->push_back('"'); return true;
    case '\\': out->push_back('\\'); return true;
    case '/': out->push_back('/'); return true;
    case 'b': out->push_back('\b'); return true;
    case 'f': out->push_back('\f'); return true;
    case 'n': out->push_back('\n'); return true;
    case 'r': out->push_back('\r'); return true;
    case 't': out->push_back('\t'); return true;
    case 'u': break;
    default: --at_; return Fail("in string escape code");
  }
  unsigned code = 0;
  if (!ReadHex4(&code)) return false;
  if (code >= 0xD800 && code < 0xDC00 && text_.substr(at_, 2) == "\\u") {
    size_t before = at_;
    unsigned low = 0;
    at_ += 2;
    if (!ReadHex4(&low)) return false;
    if (low >= 0xDC00 && low < 0xE000) {
      code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
    } else {
      at_ = before;
    }
  }
  AppendUtf8(code >= 0xD800 && code < 0xE000 ? 0xFFFD : code, out);
  return true;
}

bool JsonReader::ReadString(std::string* scratch, std::string_view* value) {
  SkipBlanks();
  if (at_ >= text_.size() || text_[at_] != '"') return Fail("looking for beginning of string");
  size_t start = ++at_;
  bool escaped = false;
  bool ascii = true;
  for (;;) {
    if (at_ >= text_.size()) return Fail({});
    auto c = static_cast<unsigned char>(text_[at_]);
    if (c == '"') break;
    if (c < 0x20) return Fail("in string literal");
    ascii = ascii && c < 0x80;
    if (c != '\\') {
      if (escaped) scratch->push_back(text_[at_]);
      ++at_;
      continue;
    }
    if (!escaped) {
      *scratch = text_.substr(start, at_ - start);
      escaped = true;
    }
    ++at_;
    if (!ReadEscape(scratch)) return false;
  }
  *value = escaped ? std::string_view(*scratch) : text_.substr(start, at_ - start);
  ++at_;
  if (!ascii) *value = Sanitize(*value, scratch);
  return true;
}

bool JsonReader::EnterObject() {
  SkipBlanks();
  if (at_ >= text_.size() || text_[at_] != '{') return Fail("looking for beginning of object");
  if (++depth_ > max_depth_) return FailText("exceeded max depth");
  ++at_;
  fresh_ = true;
  return true;
}

bool JsonReader::EnterArray() {
  SkipBlanks();
  if (at_ >= text_.size() || text_[at_] != '[') return Fail("looking for beginning of array");
  if (++depth_ > max_depth_) return FailText("exceeded max depth");
  ++at_;
  fresh_ = true;
  return true;
}

bool JsonReader::Leave() {
  ++at_;
  --depth_;
  fresh_ = false;
  return true;
}

bool JsonReader::NextKey(bool* more, std::string* scratch, std::string_view* key) {
  SkipBlanks();
  if (at_ < text_.size() && text_[at_] == '}') {
    *more = false;
    return Leave();
  }
  if (!fresh_) {
    if (at_ >= text_.size() || text_[at_] != ',') return Fail("after object key:value pair");
    ++at_;
    SkipBlanks();
  }
  fresh_ = false;
  *more = true;
  if (at_ >= text_.size() || text_[at_] != '"') {
    return Fail("looking for beginning of object key string");
  }
  if (!ReadString(scratch, key)) return false;
  SkipBlanks();
  if (at_ >= text_.size() || text_[at_] != ':') return Fail("after object key");
  ++at_;
  return true;
}

bool JsonReader::NextElement(bool* more) {
  SkipBlanks();
  if (at_ < text_.size() && text_[at_] == ']') {
    *more = false;
    return Leave();
  }
  if (!fresh_) {
    if (at_ >= text_.size() || text_[at_] != ',') return Fail("after array element");
    ++at_;
    SkipBlanks();
    if (at_ < text_.size() && text_[at_] == ']') return Fail("looking for beginning of value");
  }
  fresh_ = false;
  *more = true;
  return true;
}

bool JsonReader::SkipString() {
  std::string scratch;
  std::string_view value;
  return ReadString(&scratch, &value);
}

// Recursion is bounded by max_depth.
bool JsonReader::SkipValue(std::string_view* raw) {
  JsonType type;
  if (!Peek(&type)) return false;
  size_t start = at_;
  bool ok = true;
  bool more = true;
  bool flag;
  std::string_view ignored;
  switch (type) {
    case JsonType::kNull: ok = ReadNull(); break;
    case JsonType::kBool: ok = ReadBool(&flag); break;
    case JsonType::kNumber: ok = ReadNumber(&ignored); break;
    case JsonType::kString: ok = SkipString(); break;
    case JsonType::kArray:
      ok = EnterArray();
      while (ok && (ok = NextElement(&more)) && more) ok = SkipValue(nullptr);
      break;
    case JsonType::kObject: {
      std::string scratch;
      ok = EnterObject();
      while (ok && (ok = NextKey(&more, &scratch, &ignored)) && more) ok = SkipValue(nullptr);
      break;
    }
  }
  if (ok && raw != nullptr) *raw = text_.substr(start, at_ - start);
  return ok;
}

bool JsonReader::AtEnd() {
  SkipBlanks();
  return at_ >= text_.size() || Fail("after top-level value");
}

}  // namespace skiff::codec

#include "proto/codec/patch.h"

#include <charconv>

#include "proto/codec/json_reader.h"
#include "proto/codec/patch_document.h"

namespace skiff::codec {
namespace {

constexpr size_t kMaxOperations = 10000;

// RFC 6901. The tokens of "/a/b~1c", or an error for text that does not begin with a slash.
Result<std::vector<std::string>> ParsePointer(const std::string& pointer) {
  std::vector<std::string> tokens;
  if (pointer.empty()) return tokens;
  if (pointer[0] != '/') return Malformed("invalid JSON pointer \"" + pointer + "\"");
  for (size_t i = 0; i < pointer.size(); ++i) {
    if (pointer[i] == '/') {
      tokens.emplace_back();
    } else if (pointer[i] != '~') {
      tokens.back() += pointer[i];
    } else {
      char code = i + 1 < pointer.size() ? pointer[++i] : '\0';
      if (code != '0' && code != '1') return Malformed("invalid JSON pointer \"" + pointer + "\"");
      tokens.back() += code == '0' ? '~' : '/';
    }
  }
  return tokens;
}

// An index into an array of this size; `end` allows one past the last element, also as "-".
Result<size_t> ParseIndex(const std::string& token, size_t size, bool end,
                          const std::string& path) {
  size_t limit = end ? size + 1 : size;
  if (end && token == "-") return size;
  size_t index = 0;
  auto [rest, error] = std::from_chars(token.data(), token.data() + token.size(), index);
  bool number = error == std::errc() && rest == token.data() + token.size();
  if (!number || (token.size() > 1 && token[0] == '0')) {
    return NotApplicable("path \"" + path + "\": \"" + token + "\" is no index of an array");
  }
  if (index >= limit) {
    return NotApplicable("path \"" + path + "\": index " + token + " is out of bounds");
  }
  return index;
}

Error Missing(const std::string& operation, const std::string& path) {
  return NotApplicable(operation + " operation does not apply: doc is missing path: \"" + path +
                       "\": missing value");
}

// One operation of a patch, checked.
struct Operation {
  std::string op;
  std::string path;
  std::vector<std::string> tokens;
  std::string from;
  std::vector<std::string> from_tokens;
  const Json* value = nullptr;
};

Result<Operation> ReadOperation(const Json& item) {
  if (!item.is_object()) return Malformed("a JSON patch consists of objects");
  auto text = [&](const char* key) {
    auto found = item.find(key);
    return found != item.end() && found->is_string() ? found->get_ptr<const std::string*>()
                                                     : nullptr;
  };
  Operation operation;
  const std::string* op = text("op");
  const std::string* path = text("path");
  if (op == nullptr) return Malformed("a JSON patch operation needs \"op\"");
  if (path == nullptr) return Malformed("JSON patch operation \"" + *op + "\" needs \"path\"");
  operation.op = *op;
  operation.path = *path;
  operation.tokens = TRY(ParsePointer(*path));
  if (*op == "move" || *op == "copy") {
    const std::string* from = text("from");
    if (from == nullptr) return Malformed("JSON patch operation \"" + *op + "\" needs \"from\"");
    operation.from = *from;
    operation.from_tokens = TRY(ParsePointer(*from));
  } else if (*op == "add" || *op == "replace" || *op == "test") {
    auto found = item.find("value");
    static const Json null;
    if (found == item.end() && *op != "test") {
      return Malformed("JSON patch operation \"" + *op + "\" needs \"value\"");
    }
    operation.value = found == item.end() ? &null : &*found;
  } else if (*op != "remove") {
    return Malformed("unexpected JSON patch operation \"" + *op + "\"");
  }
  return operation;
}

// The value that all tokens but the last lead to; nullptr with an error's message otherwise.
Result<Json*> Parent(Json* document, const std::vector<std::string>& tokens,
                     const std::string& operation, const std::string& path) {
  Json* at = document;
  for (size_t i = 0; i + 1 < tokens.size(); ++i) {
    if (at->is_object()) {
      auto found = at->find(tokens[i]);
      if (found == at->end()) return Missing(operation, path);
      at = &*found;
    } else if (at->is_array()) {
      at = &(*at)[TRY(ParseIndex(tokens[i], at->size(), false, path))];
    } else {
      return Missing(operation, path);
    }
  }
  return at;
}

Result<Json*> Find(Json* document, const std::vector<std::string>& tokens,
                   const std::string& operation, const std::string& path) {
  if (tokens.empty()) return document;
  Json* parent = TRY(Parent(document, tokens, operation, path));
  if (parent->is_array()) {
    return &(*parent)[TRY(ParseIndex(tokens.back(), parent->size(), false, path))];
  }
  auto found = parent->is_object() ? parent->find(tokens.back()) : parent->end();
  if (found == parent->end()) return Missing(operation, path);
  return &*found;
}

Result<> Add(Json* document, const std::vector<std::string>& tokens, Json value,
             const std::string& operation, const std::string& path) {
  if (tokens.empty()) {
    *document = std::move(value);
    return {};
  }
  Json* parent = TRY(Parent(document, tokens, operation, path));
  if (parent->is_object()) {
    (*parent)[tokens.back()] = std::move(value);
  } else if (parent->is_array()) {
    size_t index = TRY(ParseIndex(tokens.back(), parent->size(), true, path));
    parent->insert(parent->begin() + static_cast<ptrdiff_t>(index), std::move(value));
  } else {
    return Missing(operation, path);
  }
  return {};
}

Result<Json> Remove(Json* document, const std::vector<std::string>& tokens,
                    const std::string& operation, const std::string& path) {
  if (tokens.empty()) return NotApplicable("the whole document cannot be removed");
  Json* parent = TRY(Parent(document, tokens, operation, path));
  Json* target = TRY(Find(document, tokens, operation, path));
  Json removed = std::move(*target);
  if (parent->is_array()) {
    parent->erase(parent->begin() + (target - &(*parent)[0]));
  } else {
    parent->erase(tokens.back());
  }
  return removed;
}

Result<> Apply(const Operation& operation, Json* document, size_t* copied) {
  const std::string& op = operation.op;
  const std::string& path = operation.path;
  if (op == "add") return Add(document, operation.tokens, *operation.value, op, path);
  if (op == "remove") {
    TRY(Remove(document, operation.tokens, op, path));
    return {};
  }
  if (op == "replace") {
    *TRY(Find(document, operation.tokens, op, path)) = *operation.value;
    return {};
  }
  if (op == "test") {
    auto found = Find(document, operation.tokens, op, path);
    // As upstream: a missing path equals null.
    bool equal = found ? **found == *operation.value : operation.value->is_null();
    if (!equal) return NotApplicable("testing value " + path + " failed: test failed");
    return {};
  }
  if (op == "copy") {
    Json value = *TRY(Find(document, operation.from_tokens, op, operation.from));
    *copied += value.dump().size();
    if (*copied > kMaxPatchBytes) {
      return Error(Code::kResourceExhausted, "the JSON patch copies too much");
    }
    return Add(document, operation.tokens, std::move(value), op, path);
  }
  if (path.starts_with(operation.from + "/")) {
    return NotApplicable("cannot move \"" + operation.from + "\" into itself");
  }
  Json value = TRY(Remove(document, operation.from_tokens, op, operation.from));
  return Add(document, operation.tokens, std::move(value), op, path);
}

// RFC 7386, section 2. Recursion is bounded by the patch's depth.
void Merge(Json* target, const Json& patch) {
  if (!patch.is_object()) {
    *target = patch;
    return;
  }
  if (!target->is_object()) *target = Json::object();
  for (const auto& [key, value] : patch.items()) {
    if (value.is_null()) {
      target->erase(key);
    } else {
      Merge(&(*target)[key], value);
    }
  }
}

}  // namespace

Result<Json> ParseDocument(std::string_view text, std::string_view what) {
  if (text.size() > kMaxPatchBytes) {
    return Error(Code::kResourceExhausted, "the " + std::string(what) + " is too large");
  }
  // Checked first by our own reader: for the depth, and for errors in the words users know.
  JsonReader reader(text, kMaxPatchDepth);
  if (!reader.SkipValue(nullptr) || !reader.AtEnd()) {
    return Malformed("error decoding " + std::string(what) + ": " + reader.error());
  }
  Json document = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (document.is_discarded()) {
    return Malformed("error decoding " + std::string(what) + ": malformed JSON");
  }
  return document;
}

Result<std::string> DumpDocument(const Json& document) {
  std::string text = document.dump(-1, ' ', false, Json::error_handler_t::replace);
  if (text.size() > kMaxPatchBytes) {
    return Error(Code::kResourceExhausted, "the patched object is too large");
  }
  return text;
}

Result<std::string> ApplyJsonPatch(std::string_view document, std::string_view patch) {
  Json target = TRY(ParseDocument(document, "object"));
  const Json operations = TRY(ParseDocument(patch, "patch"));
  if (!operations.is_array()) return Malformed("a JSON patch is an array of operations");
  if (operations.size() > kMaxOperations) {
    return Error(Code::kResourceExhausted, "The allowed maximum operations in a JSON patch is " +
                                               std::to_string(kMaxOperations) + ", got " +
                                               std::to_string(operations.size()));
  }
  size_t copied = 0;
  for (const Json& item : operations) {
    Operation operation = TRY(ReadOperation(item));
    TRY(Apply(operation, &target, &copied));
  }
  return DumpDocument(target);
}

Result<std::string> ApplyMergePatch(std::string_view document, std::string_view patch) {
  Json target = TRY(ParseDocument(document, "object"));
  const Json changes = TRY(ParseDocument(patch, "patch"));
  if (!changes.is_object()) return Malformed("a merge patch is an object");
  Merge(&target, changes);
  return DumpDocument(target);
}

}  // namespace skiff::codec

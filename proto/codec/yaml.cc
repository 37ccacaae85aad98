#include "proto/codec/yaml.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/parser.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <sstream>
#include <utility>

#include "proto/codec/json_reader.h"
#include "proto/codec/yaml_scalar.h"

namespace skiff::codec {
namespace {

// Ends a parse from within yaml-cpp, which reports its own errors by exception too. Neither leaves
// this file.
struct Refused {
  int line;  // from 0; negative if unknown
  std::string why;
};

// One node of a document. Aliases share the node of their anchor, so a tree is no larger than the
// text it was read from, whatever it expands to.
struct Node {
  enum class Kind { kScalar, kSequence, kMap } kind;
  int line;
  std::string json;                                // of a scalar
  std::vector<std::string> keys;                   // of a map
  std::vector<std::shared_ptr<const Node>> items;  // elements, or the values of the keys
};
using NodePtr = std::shared_ptr<const Node>;

constexpr size_t kMaxNodes = 2'000'000;  // of one document, aliases expanded

// Builds the tree as yaml-cpp reports nodes.
class TreeBuilder : public YAML::EventHandler {
 public:
  explicit TreeBuilder(int max_depth) : max_depth_(max_depth) {}

  NodePtr TakeRoot() { return std::move(root_); }
  // Where the document began, from 0.
  int start() const { return start_; }

  void OnDocumentStart(const YAML::Mark& mark) override {
    line_ = mark.line;
    start_ = mark.pos;
  }
  int line() const { return line_; }
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    Scalar(mark, anchor, "null", "null");
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    auto found = anchors_.find(anchor);
    if (found == anchors_.end()) throw Refused{mark.line, "anchor value contains itself"};
    if (AtKey()) throw Refused{mark.line, "an alias cannot be a key"};
    Add(found->second);
  }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    // "?" is an unquoted scalar without a tag, "!" a quoted one.
    bool resolve = tag.empty() || tag == "?" || tag == "tag:yaml.org,2002:int" ||
                   tag == "tag:yaml.org,2002:float" || tag == "tag:yaml.org,2002:bool" ||
                   tag == "tag:yaml.org,2002:null";
    std::string json;
    if (resolve) {
      json = PlainScalarToJson(value);
    } else {
      AppendJsonString(value, &json);
    }
    Scalar(mark, anchor, std::move(json), value);
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    Open(mark, anchor, Node::Kind::kSequence);
  }
  void OnSequenceEnd() override { Close(); }
  void OnMapStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    Open(mark, anchor, Node::Kind::kMap);
  }
  void OnMapEnd() override { Close(); }

 private:
  struct Frame {
    std::shared_ptr<Node> node;
    YAML::anchor_t anchor;
  };

  bool AtKey() const {
    if (open_.empty()) return false;
    const Node& node = *open_.back().node;
    return node.kind == Node::Kind::kMap && node.keys.size() == node.items.size();
  }

  void Add(NodePtr node) {
    if (open_.empty()) {
      root_ = std::move(node);
    } else {
      open_.back().node->items.push_back(std::move(node));
    }
  }

  void Scalar(const YAML::Mark& mark, YAML::anchor_t anchor, std::string json,
              const std::string& yaml) {
    if (AtKey()) {
      // JSON keys are strings: 8080: and true: become "8080" and "true".
      open_.back().node->keys.push_back(json.front() == '"' ? yaml : json);
      return;
    }
    NodePtr node(new Node{Node::Kind::kScalar, mark.line, std::move(json), {}, {}});
    if (anchor != YAML::NullAnchor) anchors_[anchor] = node;
    Add(std::move(node));
  }

  void Open(const YAML::Mark& mark, YAML::anchor_t anchor, Node::Kind kind) {
    if (AtKey()) throw Refused{mark.line, "invalid map key: a map or a list"};
    if (static_cast<int>(open_.size()) >= max_depth_) {
      throw Refused{mark.line, "exceeded max depth of " + std::to_string(max_depth_)};
    }
    open_.push_back({std::make_shared<Node>(Node{kind, mark.line, {}, {}, {}}), anchor});
  }

  void Close() {
    Frame frame = std::move(open_.back());
    open_.pop_back();
    // Only now: an alias within its own anchor finds nothing.
    if (frame.anchor != YAML::NullAnchor) anchors_[frame.anchor] = frame.node;
    Add(std::move(frame.node));
  }

  int max_depth_;
  int line_ = 0;
  int start_ = 0;
  NodePtr root_;
  std::vector<Frame> open_;
  std::map<YAML::anchor_t, NodePtr> anchors_;
};

// Writes a tree as JSON, aliases expanded, within the limits.
class Expander {
 public:
  explicit Expander(const YamlLimits& limits) : limits_(limits) {}

  std::string Run(const NodePtr& root) {
    if (root != nullptr) Value(*root, 0);
    return out_.empty() ? "null" : std::move(out_);
  }

 private:
  using Seen = std::set<std::string_view>;

  void Value(const Node& node, int depth) {
    // A bomb is stopped by what it writes, and by its depth where it writes nothing.
    if (out_.size() > limits_.max_json_bytes || ++nodes_ > kMaxNodes) {
      throw Refused{node.line, "document contains excessive aliasing"};
    }
    if (depth > limits_.max_depth) {
      throw Refused{node.line, "exceeded max depth of " + std::to_string(limits_.max_depth)};
    }
    bool first = true;
    switch (node.kind) {
      case Node::Kind::kScalar: out_ += node.json; return;
      case Node::Kind::kSequence:
        out_ += '[';
        for (const NodePtr& item : node.items) {
          if (!std::exchange(first, false)) out_ += ',';
          Value(*item, depth + 1);
        }
        out_ += ']';
        return;
      case Node::Kind::kMap: {
        Seen own(node.keys.begin(), node.keys.end());
        out_ += '{';
        Entries(node, depth, nullptr, &first);
        for (size_t i = 0; i < node.keys.size(); ++i) {
          if (node.keys[i] == kMergeKey) Merge(*node.items[i], depth, &own, &first);
        }
        out_ += '}';
        return;
      }
    }
  }

  // The entries of a map, except those in *seen (if given), which they are added to.
  void Entries(const Node& map, int depth, Seen* seen, bool* first) {
    for (size_t i = 0; i < map.keys.size(); ++i) {
      if (map.keys[i] == kMergeKey) continue;
      if (seen != nullptr && !seen->insert(map.keys[i]).second) continue;
      if (!std::exchange(*first, false)) out_ += ',';
      AppendJsonString(map.keys[i], &out_);
      out_ += ':';
      Value(*map.items[i], depth + 1);
    }
  }

  // "<<": a map, or a list of maps of which earlier ones win (YAML 1.1's merge key).
  void Merge(const Node& value, int depth, Seen* seen, bool* first) {
    if (depth > limits_.max_depth || ++nodes_ > kMaxNodes) {
      throw Refused{value.line, "document contains excessive aliasing"};
    }
    if (value.kind == Node::Kind::kMap) {
      Entries(value, depth, seen, first);
      for (size_t i = 0; i < value.keys.size(); ++i) {
        if (value.keys[i] == kMergeKey) Merge(*value.items[i], depth + 1, seen, first);
      }
      return;
    }
    for (const NodePtr& item : value.items) {
      if (item->kind != Node::Kind::kMap) break;
      Merge(*item, depth + 1, seen, first);
    }
    bool maps = value.kind == Node::Kind::kSequence &&
                std::all_of(value.items.begin(), value.items.end(),
                            [](const NodePtr& item) { return item->kind == Node::Kind::kMap; });
    if (!maps) throw Refused{value.line, "map merge requires map or sequence of maps as the value"};
  }

  static constexpr std::string_view kMergeKey = "<<";

  const YamlLimits& limits_;
  std::string out_;
  size_t nodes_ = 0;
};

Error Failure(int line, const std::string& why) {
  std::string text = "error converting YAML to JSON: yaml: ";
  if (line >= 0) text += "line " + std::to_string(line + 1) + ": ";
  return Error(Code::kInvalidArgument, text + why);
}

Result<std::vector<std::string>> Convert(std::string_view yaml, const YamlLimits& limits,
                                         size_t max_documents) {
  if (yaml.size() > limits.max_bytes) {
    return Error(Code::kResourceExhausted, "the document has " + std::to_string(yaml.size()) +
                                               " bytes, more than the limit of " +
                                               std::to_string(limits.max_bytes));
  }
  // Control characters are no YAML; yaml-cpp would read some of them as ends of the stream.
  for (char c : yaml) {
    auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 && c != '\n' && c != '\r' && c != '\t') {
      return Failure(-1, "control characters are not allowed");
    }
  }
  std::vector<std::string> documents;
  std::istringstream stream{std::string(yaml)};
  try {
    YAML::Parser parser(stream);
    for (int last_start = -1; documents.size() < max_documents;) {
      TreeBuilder builder(limits.max_depth);
      if (!parser.HandleNextDocument(builder)) break;
      // At a stray token, such as a closing bracket, yaml-cpp reports empty documents for ever.
      if (builder.start() == last_start) {
        return Failure(builder.line(), "did not find expected <document start>");
      }
      last_start = builder.start();
      documents.push_back(Expander(limits).Run(builder.TakeRoot()));
    }
  } catch (const Refused& refused) {
    return Failure(refused.line, refused.why);
  } catch (const YAML::Exception& exception) {
    return Failure(exception.mark.line, exception.msg);
  }
  return documents;
}

}  // namespace

Result<std::string> YamlToJson(std::string_view yaml, const YamlLimits& limits) {
  std::vector<std::string> documents = TRY(Convert(yaml, limits, 1));
  return documents.empty() ? std::string("null") : std::move(documents.front());
}

Result<std::vector<std::string>> YamlStreamToJson(std::string_view yaml, const YamlLimits& limits) {
  std::vector<std::string> documents = TRY(Convert(yaml, limits, SIZE_MAX));
  std::erase(documents, "null");
  return documents;
}

}  // namespace skiff::codec

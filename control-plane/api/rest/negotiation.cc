#include "control-plane/api/rest/negotiation.h"

#include <algorithm>
#include <cctype>

namespace skiff::cp {
namespace {

constexpr std::string_view kAcceptedTypes =
    "application/json, application/yaml, application/vnd.kubernetes.protobuf";
constexpr std::string_view kProtobufType = "application/vnd.kubernetes.protobuf";
constexpr size_t kMaxRanges = 64;

std::string_view Trim(std::string_view text) {
  while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
  while (!text.empty() && text.back() == ' ') text.remove_suffix(1);
  return text;
}

std::string Lower(std::string_view text) {
  std::string lower(text);
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return lower;
}

// Splits off the first part up to the separator.
std::string_view Next(std::string_view& text, char separator) {
  size_t end = std::min(text.find(separator), text.size());
  std::string_view part = Trim(text.substr(0, end));
  text.remove_prefix(std::min(end + 1, text.size()));
  return part;
}

// "0.9" in thousandths; 1000 for what is no number.
int Quality(std::string_view text) {
  if (text.empty() || text.front() != '0') return 1000;
  int value = 0;
  int scale = 100;
  for (size_t i = 2; i < text.size() && scale > 0; ++i, scale /= 10) {
    if (text[i] < '0' || text[i] > '9') return 1000;
    value += (text[i] - '0') * scale;
  }
  return value;
}

MediaRange ParseRange(std::string_view text) {
  MediaRange range;
  range.type = Lower(Next(text, ';'));
  while (!text.empty()) {
    std::string_view parameter = Next(text, ';');
    std::string name = Lower(Next(parameter, '='));
    if (name == "q") {
      range.quality = Quality(parameter);
    } else if (!name.empty()) {
      range.parameters.emplace_back(std::move(name), std::string(Trim(parameter)));
    }
  }
  return range;
}

bool FormatOf(const MediaRange& range, Format* format) {
  if (range.type == "application/json" || range.type == "*/*" || range.type == "application/*") {
    *format = Format::kJson;
  } else if (range.type == "application/yaml") {
    *format = Format::kYaml;
  } else if (range.type == kProtobufType) {
    *format = Format::kProtobuf;
  } else {
    return false;
  }
  return true;
}

// Whether we can give what the range asks for.
bool Offer(const MediaRange& range, bool shapes, Accepted* accepted) {
  if (range.quality == 0 || !FormatOf(range, &accepted->format)) return false;
  std::string_view as = range.Parameter("as");
  if (as.empty()) return true;
  std::string_view version = range.Parameter("v");
  bool known = range.Parameter("g") == "meta.k8s.io" && (version == "v1" || version == "v1beta1");
  if (!shapes || !known) return false;
  accepted->shape_version = version;
  if (as == "Table") {
    accepted->shape = Shape::kTable;
    return accepted->format != Format::kProtobuf;  // tables have no protobuf form
  }
  accepted->shape = Shape::kPartialMetadata;
  return as == "PartialObjectMetadata" || as == "PartialObjectMetadataList";
}

}  // namespace

std::string_view MediaRange::Parameter(std::string_view name) const {
  for (const auto& [key, value] : parameters) {
    if (key == name) return value;
  }
  return {};
}

std::vector<MediaRange> ParseAccept(const http::Request& request) {
  std::vector<MediaRange> ranges;
  for (std::string_view list : request.headers.GetAll("Accept")) {
    while (!list.empty() && ranges.size() < kMaxRanges) {
      std::string_view text = Next(list, ',');
      if (!text.empty()) ranges.push_back(ParseRange(text));
    }
  }
  if (ranges.empty()) ranges.push_back(ParseRange("*/*"));
  std::stable_sort(ranges.begin(), ranges.end(),
                   [](const MediaRange& a, const MediaRange& b) { return a.quality > b.quality; });
  return ranges;
}

ApiResult<Accepted> NegotiateAnswer(const http::Request& request, bool shapes) {
  for (const MediaRange& range : ParseAccept(request)) {
    Accepted accepted;
    if (Offer(range, shapes, &accepted)) return accepted;
  }
  return ApiError::NotAcceptable(kAcceptedTypes);
}

ApiResult<Format> BodyFormat(const http::Request& request) {
  std::string_view header = request.headers.Get("Content-Type");
  if (Trim(header).empty()) return Format::kJson;
  MediaRange range = ParseRange(header);
  Format format;
  if (!range.type.starts_with("*") && range.type != "application/*" && FormatOf(range, &format)) {
    return format;
  }
  // What some old clients call it.
  if (range.type == "text/json") {
    return Format::kJson;
  }
  return ApiError::UnsupportedMediaType(
      "the body of the request was in an unknown format - accepted media types include: " +
      std::string(kAcceptedTypes));
}

std::string ContentType(Format format, bool watch) {
  switch (format) {
    case Format::kJson: return "application/json";
    case Format::kYaml: return "application/yaml";
    case Format::kProtobuf:
      return watch ? std::string(kProtobufType) + ";stream=watch" : std::string(kProtobufType);
  }
  return {};
}

}  // namespace skiff::cp

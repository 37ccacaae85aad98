#include "cni/spec/error.h"

#include "cni/spec/document.h"

namespace skiff::cni {

std::string PluginError::ToString() const {
  std::string text = "code " + std::to_string(code);
  if (!message.empty()) text += ": " + message;
  if (!details.empty()) text += ": " + details;
  return text;
}

std::string RenderPluginError(const PluginError& error, const CniVersion& version) {
  Json document{{"cniVersion", ToString(version)}, {"code", error.code}, {"msg", error.message}};
  if (!error.details.empty()) document["details"] = error.details;
  return RenderDocument(document) + "\n";
}

std::optional<PluginError> ParsePluginError(std::string_view text) {
  auto document = ParseDocument(text);
  if (!document.ok()) return std::nullopt;
  auto code = NumberField(*document, "code");
  auto message = TextField(*document, "msg");
  auto details = TextField(*document, "details");
  if (!code.ok() || !message.ok() || !details.ok()) return std::nullopt;
  // One of the two says that it is an error; some plugins leave out the code.
  if (!*code && message->empty()) return std::nullopt;
  return PluginError{code->value_or(0), *std::move(message), *std::move(details)};
}

Code CodeOf(const PluginError& error) {
  switch (static_cast<CniCode>(error.code)) {
    case CniCode::kIncompatibleVersion:
    case CniCode::kUnsupportedField:
    case CniCode::kInvalidConfig: return Code::kFailedPrecondition;
    case CniCode::kUnknownContainer: return Code::kNotFound;
    case CniCode::kTryAgainLater:
    case CniCode::kNotAvailable:
    case CniCode::kLimitedConnectivity: return Code::kUnavailable;
    default: return Code::kInternal;
  }
}

}  // namespace skiff::cni

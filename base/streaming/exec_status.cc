// The v1.Status that ends a remote command, and the terminal size messages.

#include <charconv>
#include <nlohmann/json.hpp>

#include "base/streaming/exec_session.h"

namespace skiff::streaming {

namespace {

using Json = nlohmann::ordered_json;

std::string Dump(const Json& json) {
  // Replace, not throw: messages may hold a command's own bytes.
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

// The member when it is there and of the type.
std::string TextOf(const Json& object, const char* name) {
  auto found = object.find(name);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

std::optional<int> ExitCodeOf(const Json& status) {
  auto details = status.find("details");
  if (details == status.end() || !details->is_object()) return std::nullopt;
  auto causes = details->find("causes");
  if (causes == details->end() || !causes->is_array()) return std::nullopt;
  for (const Json& cause : *causes) {
    if (!cause.is_object() || TextOf(cause, "reason") != "ExitCode") continue;
    std::string text = TextOf(cause, "message");
    int code = 0;
    auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), code);
    if (error == std::errc() && end == text.data() + text.size()) return code;
  }
  return std::nullopt;
}

}  // namespace

ExecStatus ExecStatus::Exited(int exit_code) {
  if (exit_code == 0) return Success();
  return {.success = false,
          .exit_code = exit_code,
          .reason = "NonZeroExitCode",
          .message =
              "command terminated with non-zero exit code: command terminated with exit "
              "code " +
              std::to_string(exit_code)};
}

ExecStatus ExecStatus::InternalError(std::string_view message) {
  return {.success = false,
          .http_code = 500,
          .reason = "InternalError",
          .message = "Internal error occurred: " + std::string(message)};
}

std::string ExecStatus::ToJson() const {
  Json json = {{"metadata", Json::object()}, {"status", success ? "Success" : "Failure"}};
  if (!success) {
    json["message"] = message;
    if (!reason.empty()) json["reason"] = reason;
    if (exit_code) {
      json["details"]["causes"] =
          Json::array({{{"reason", "ExitCode"}, {"message", std::to_string(*exit_code)}}});
    }
    if (http_code != 0) json["code"] = http_code;
  }
  return Dump(json);
}

Result<ExecStatus> ExecStatus::FromJson(std::string_view text) {
  Json json = Json::parse(text, nullptr, false);
  if (!json.is_object()) return Error(Code::kInvalidArgument, "not a v1.Status");
  std::string word = TextOf(json, "status");
  if (word != "Success" && word != "Failure") {
    return Error(Code::kInvalidArgument, "not a v1.Status");
  }
  ExecStatus status;
  status.success = word == "Success";
  if (status.success) return status;
  status.reason = TextOf(json, "reason");
  status.message = TextOf(json, "message");
  status.exit_code = ExitCodeOf(json);
  if (auto code = json.find("code"); code != json.end() && code->is_number_integer()) {
    status.http_code = code->get<int>();
  }
  return status;
}

std::string FormatTerminalSize(TerminalSize size) {
  return Dump(Json{{"Width", size.width}, {"Height", size.height}});
}

Result<TerminalSize> ParseTerminalSize(std::string_view text) {
  Json json = Json::parse(text, nullptr, false);
  auto dimension = [&json](const char* name) -> std::optional<uint16_t> {
    auto found = json.find(name);
    if (found == json.end() || !found->is_number_unsigned() || found->get<uint64_t>() > 65535) {
      return std::nullopt;
    }
    return found->get<uint16_t>();
  };
  if (!json.is_object() || !dimension("Width") || !dimension("Height")) {
    return Error(Code::kInvalidArgument, "not a terminal size");
  }
  return TerminalSize{*dimension("Width"), *dimension("Height")};
}

}  // namespace skiff::streaming

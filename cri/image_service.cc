#include "cri/image_service.h"

#include <charconv>
#include <nlohmann/json.hpp>

#include "base/log.h"
#include "cri/render.h"
#include "runtime/image/reference.h"

namespace skiff::cri {
namespace {

using Json = nlohmann::json;

// The image's user as CRI splits it: a number, or a name; its group is not CRI's matter.
void RenderUser(const std::string& user, api::Image* message) {
  const std::string_view name = std::string_view(user).substr(0, user.find(':'));
  if (name.empty()) return;
  int64_t uid = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), uid);
  if (error == std::errc() && end == name.data() + name.size()) {
    message->mutable_uid()->set_value(uid);
  } else {
    message->set_username(std::string(name));
  }
}

api::Image RenderImage(const runtime::Image& image) {
  api::Image message;
  message.set_id(image.id.text());
  for (const std::string& tag : image.repo_tags) message.add_repo_tags(tag);
  for (const std::string& digest : image.repo_digests) message.add_repo_digests(digest);
  message.set_size(image.size_bytes);
  message.set_pinned(image.pinned);
  message.mutable_spec()->set_image(image.id.text());
  RenderUser(image.config.user, &message);
  return message;
}

std::string ImageInfo(const runtime::Image& image) {
  const runtime::ImageRunConfig& run = image.config;
  Json layers = Json::array();
  for (const runtime::ImageLayer& layer : image.layers) layers.push_back(layer.diff_id.text());
  return Json{{"chainLayers", layers},
              {"imageSpec",
               {{"architecture", image.platform.architecture},
                {"os", image.platform.os},
                {"config",
                 {{"Entrypoint", run.entrypoint},
                  {"Cmd", run.command},
                  {"Env", run.env},
                  {"User", run.user},
                  {"WorkingDir", run.working_directory},
                  {"StopSignal", run.stop_signal},
                  {"Labels", run.labels}}}}}}
      .dump(-1, ' ', false, Json::error_handler_t::replace);
}

// Credentials for one registry must not reach another: they count where the address names the
// image's host, or names none.
Result<runtime::RegistryCredentials> PlanCredentials(const api::AuthConfig& auth,
                                                     const std::string& image) {
  std::string_view address = auth.server_address();
  if (const size_t scheme = address.find("://"); scheme != std::string_view::npos) {
    address.remove_prefix(scheme + 3);
  }
  address = address.substr(0, address.find('/'));
  if (address == "index.docker.io" || address == "registry-1.docker.io") address = "docker.io";
  const runtime::ImageReference reference = TRY(runtime::ImageReference::Parse(image));
  if (!address.empty() && address != reference.host) return runtime::RegistryCredentials();
  runtime::RegistryCredentials credentials;
  if (!auth.auth().empty()) {
    credentials = TRY(runtime::CredentialsFromBasicAuth(auth.auth()));
  }
  if (!auth.username().empty()) {
    credentials.username = auth.username();
    credentials.password = auth.password();
  }
  credentials.identity_token = auth.identity_token();
  credentials.registry_token = auth.registry_token();
  return credentials;
}

}  // namespace

Result<> ImageService::ListImages(const api::ListImagesRequest& request,
                                  api::ListImagesResponse* response) {
  const std::string& wanted = request.filter().image().image();
  if (!wanted.empty()) {
    if (const auto image = images_.Find(wanted)) *response->add_images() = RenderImage(*image);
    return {};
  }
  for (const auto& image : images_.List()) *response->add_images() = RenderImage(*image);
  return {};
}

Result<> ImageService::ImageStatus(const api::ImageStatusRequest& request,
                                   api::ImageStatusResponse* response) {
  if (request.image().image().empty()) {
    return Error(Code::kInvalidArgument, "the image's name is empty");
  }
  const auto image = images_.Find(request.image().image());
  if (image == nullptr) return {};  // an absent image is an empty answer
  *response->mutable_image() = RenderImage(*image);
  if (request.verbose()) (*response->mutable_info())["info"] = ImageInfo(*image);
  return {};
}

Result<> ImageService::PullImage(const api::PullImageRequest& request,
                                 api::PullImageResponse* response) {
  runtime::PullRequest pull;
  pull.reference = request.image().image();
  pull.credentials = TRY(PlanCredentials(request.auth(), pull.reference));
  auto image = images_.Pull(pull);
  if (!image.ok()) {
    // kubelet looks for this word to tell a dead registry from a missing image.
    if (image.error().code() == Code::kUnavailable) {
      return std::move(image).error().With("RegistryUnavailable");
    }
    return std::move(image).error();
  }
  log::Info("image pulled", {{"image", pull.reference}, {"id", (*image)->id.text()}});
  response->set_image_ref((*image)->id.text());
  return {};
}

Result<> ImageService::RemoveImage(const api::RemoveImageRequest& request,
                                   api::RemoveImageResponse*) {
  if (request.image().image().empty()) {
    return Error(Code::kInvalidArgument, "the image's name is empty");
  }
  return images_.Remove(request.image().image());
}

Result<> ImageService::ImageFsInfo(const api::ImageFsInfoRequest&,
                                   api::ImageFsInfoResponse* response) {
  const runtime::ImageUsage usage = images_.Usage();
  api::FilesystemUsage* images = response->add_image_filesystems();
  images->set_timestamp(Nanoseconds(Clock::Real().WallNow()));
  images->mutable_fs_id()->set_mountpoint(images_.root());
  images->mutable_used_bytes()->set_value(usage.used_bytes);
  images->mutable_inodes_used()->set_value(usage.inodes_used);
  // Writable layers lie on the same file system.
  *response->add_container_filesystems() = *images;
  return {};
}

}  // namespace skiff::cri

// ImageService: the calls of runtime.v1.ImageService as plain blocking methods over the image
// store. Thread-safe.
#pragma once

#include "base/result.h"
#include "proto/cri/runtime/v1/api.pb.h"
#include "runtime/image/image_store.h"

namespace skiff::cri {

namespace api = ::runtime::v1;

class ImageService {
 public:
  explicit ImageService(runtime::ImageStore& images) : images_(images) {}

  Result<> ListImages(const api::ListImagesRequest&, api::ListImagesResponse*);
  Result<> ImageStatus(const api::ImageStatusRequest&, api::ImageStatusResponse*);
  Result<> PullImage(const api::PullImageRequest&, api::PullImageResponse*);
  Result<> RemoveImage(const api::RemoveImageRequest&, api::RemoveImageResponse*);
  Result<> ImageFsInfo(const api::ImageFsInfoRequest&, api::ImageFsInfoResponse*);

 private:
  runtime::ImageStore& images_;
};

}  // namespace skiff::cri

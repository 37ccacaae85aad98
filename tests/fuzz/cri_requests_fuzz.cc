// CRI requests of any content: each becomes a plan that keeps its promises, or an error.
//
// The input is a CreateContainerRequest, which has a sandbox's and a container's configuration in
// it: protobuf, or after a '#' its text form, of which what comes before a fault counts.
#include <google/protobuf/io/tokenizer.h>
#include <google/protobuf/stubs/logging.h>
#include <google/protobuf/text_format.h>

#include <cstdint>
#include <string>

#include "cri/translate.h"

namespace {

namespace cri = skiff::cri;

class Silent : public google::protobuf::io::ErrorCollector {
  void AddError(int, int, const std::string&) override {}
  void AddWarning(int, int, const std::string&) override {}
};

bool Parse(std::string_view input, cri::api::CreateContainerRequest* request) {
  if (!input.starts_with('#')) {
    return request->ParseFromArray(input.data(), static_cast<int>(input.size()));
  }
  Silent silent;
  google::protobuf::TextFormat::Parser parser;
  parser.RecordErrorsTo(&silent);
  parser.SetRecursionLimit(100);
  (void)parser.MergeFromString(std::string(input), request);  // a part will do
  return true;
}

void CheckPaths(const skiff::runtime::ContainerSpec& spec) {
  for (const skiff::runtime::MountSpec& mount : spec.mounts) {
    CHECK(mount.target.starts_with('/'));
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const google::protobuf::LogSilencer unheard;  // of every text that is no UTF-8
  cri::api::CreateContainerRequest request;
  if (!Parse({reinterpret_cast<const char*>(data), size}, &request)) return 0;
  (void)cri::PlanSandbox(request.sandbox_config(), "", request.pod_sandbox_id());
  (void)cri::RenderResolvConf(request.sandbox_config().dns_config());
  (void)cri::PlanResources(request.config().linux().resources());
  (void)cri::ParseSignal(request.pod_sandbox_id());
  skiff::runtime::Image image;
  image.config.entrypoint = {"/entry"};
  image.config.env = {"PATH=/bin"};
  const cri::ContainerContext context{"c1",
                                      "s1",
                                      request.sandbox_config(),
                                      image,
                                      {{"/layer"}, "/rw"},
                                      {"/f/resolv.conf", "/f/hostname", "/f/hosts"},
                                      "",
                                      {},
                                      {}};
  if (const auto spec = cri::PlanContainer(request.config(), context); spec.ok()) CheckPaths(*spec);
  return 0;
}

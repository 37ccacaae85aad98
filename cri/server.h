// CriServer: the CRI v1 runtime and image services over runtime/, its images and a pod network.
//
//   auto server = TRY(CriServer::Start({...}));
//   auto stubs = InProcessStubs(*server);      // cri/in_process.h
//
// Serves gRPC on a root-only unix socket and streaming sessions (exec, attach, port-forward) on a
// loopback port. The daemon needs no other part of Kubernetes for it: with a network whose ranges
// are set from its configuration, this is a standalone runtime for crictl or another kubelet.
#pragma once

#include <memory>
#include <string>

#include "base/result.h"
#include "runtime/image/image_store.h"
#include "runtime/runtime.h"

namespace skiff::cni {
class PodNetwork;
}

namespace skiff::cri {

class RuntimeService;
class ImageService;
class GrpcFront;

struct CriOptions {
  std::string socket = "/run/skiff/skiff.sock";  // empty: in-process calls only
  std::string state_dir = "/run/skiff/cri";      // files that sandboxes share: resolv.conf, hosts
  std::string streaming_address = "127.0.0.1:0";
  runtime::RuntimeConfig runtime;
  runtime::ImageStore::Options images;
  cni::PodNetwork* network = nullptr;  // must outlive the server
  // How every container's log is rotated by its writer (the path is each container's own). Not at
  // all by default: then whoever uses the runtime does it, by ReopenContainerLog.
  runtime::LogSpec logs;
  // Where CDI devices are described; the later override the earlier (cdi.h).
  std::vector<std::string> cdi_dirs = {"/etc/cdi", "/var/run/cdi"};
  std::string version = "0.1.0";
};

class CriServer {
 public:
  // Opens runtime and images, finishes what a killed predecessor began, tells the network which
  // sandboxes live, and serves. FailedPrecondition when another process has the state directories.
  static Result<std::unique_ptr<CriServer>> Start(CriOptions options);
  // Stops serving; everything that runs goes on running.
  ~CriServer();

  // Stops and removes every sandbox and container: for taking the node down.
  Result<> RemoveAll();

  RuntimeService& runtime_service();
  ImageService& image_service();
  GrpcFront& front();
  runtime::ImageStore& images();

 private:
  struct Parts;
  explicit CriServer(std::unique_ptr<Parts> parts);
  std::unique_ptr<Parts> parts_;
};

}  // namespace skiff::cri

// skiff-control-plane: see control_plane.h for the parts, config.h for the settings.

#include <signal.h>
#include <systemd/sd-daemon.h>

#include <cstdio>

#include "base/log.h"
#include "base/os/heap.h"
#include "control-plane/daemon/config.h"
#include "control-plane/daemon/control_plane.h"

int main(int argc, char** argv) {
  using namespace skiff;
  LimitHeap();
  auto line = cp::ReadCommandLine(argc, argv);
  if (!line.ok()) {
    std::fprintf(stderr, "skiff-control-plane: %s\n", line.error().message().c_str());
    return 2;
  }
  if (!line->run) return line->exit_code;
  log::SetLevel(log::ParseLevel(line->config.log_level).value());

  // Blocked before the first thread starts, so that all of them leave these to sigwait below.
  sigset_t stop;
  sigemptyset(&stop);
  sigaddset(&stop, SIGTERM);
  sigaddset(&stop, SIGINT);
  pthread_sigmask(SIG_BLOCK, &stop, nullptr);
  signal(SIGPIPE, SIG_IGN);

  auto control_plane = cp::ControlPlane::Start(line->config);
  if (!control_plane.ok()) {
    log::Error("control plane cannot start", {{"error", control_plane.error()}});
    return 1;
  }
  sd_notify(0, "READY=1");
  int signal_number = 0;
  sigwait(&stop, &signal_number);
  log::Info("stopping", {{"signal", signal_number}});
  sd_notify(0, "STOPPING=1");
  return 0;
}

// skiff-dns-bench: the cluster DNS of a node with so many services, on loopback, for dnsperf. Says
// when it is ready and ends with its standard input.
//
//   skiff-dns-bench --services 1000 --port 5300
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <string>

#include "agent/dns/server.h"
#include "proto/k8s/core/v1/service.pb.h"
#include "proto/k8s/discovery/v1/discovery.pb.h"

namespace skiff::agent::dns {
namespace {

constexpr int kEndpoints = 3;

std::string AddressOf(int network, int number) {
  return "10." + std::to_string(network) + "." + std::to_string(number / 250) + "." +
         std::to_string(number % 250 + 1);
}

// "svcN" has an address, "headlessN" three endpoints.
void AddServices(DnsServer& server, int count) {
  for (int i = 0; i < count; ++i) {
    k8s::core::v1::Service service;
    service.mutable_metadata()->set_namespace_("bench");
    service.mutable_metadata()->set_name("svc" + std::to_string(i));
    service.mutable_spec()->set_cluster_ip(AddressOf(96, i));
    server.SetService(service);
    service.mutable_metadata()->set_name("headless" + std::to_string(i));
    service.mutable_spec()->set_cluster_ip("None");
    server.SetService(service);
    k8s::discovery::v1::EndpointSlice slice;
    slice.mutable_metadata()->set_namespace_("bench");
    slice.mutable_metadata()->set_name("headless" + std::to_string(i) + "-1");
    (*slice.mutable_metadata()->mutable_labels())["kubernetes.io/service-name"] =
        service.metadata().name();
    for (int k = 0; k < kEndpoints; ++k) {
      slice.add_endpoints()->add_addresses(AddressOf(244 + k, i));
    }
    server.SetEndpointSlice(slice);
  }
  server.SyncDone();
  (void)server.GetStats();  // waits for all of it
}

int Main(int argc, char** argv) {
  CLI::App app("The cluster DNS alone, for measurements.", "skiff-dns-bench");
  int services = 1000;
  ServerConfig config;
  config.addresses = {net::IpAddress::V4(127, 0, 0, 1)};
  config.port = 5300;
  config.forward.resolv_conf.clear();
  app.add_option("--services", services)->capture_default_str();
  app.add_option("--port", config.port)->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  auto server = DnsServer::Start(std::move(config));
  if (!server.ok()) {
    std::fprintf(stderr, "%s\n", server.error().ToString().c_str());
    return 1;
  }
  AddServices(**server, services);
  std::printf("ready\n");
  std::fflush(stdout);
  char byte;
  while (::read(STDIN_FILENO, &byte, 1) > 0) {
  }
  return 0;
}

}  // namespace
}  // namespace skiff::agent::dns

int main(int argc, char** argv) { return skiff::agent::dns::Main(argc, argv); }

// NodeLink: the control plane's end of the node link (proto/skiff/node/v1): joins nodes, tells each
// what it must run, takes in what it reports, and carries logs, exec, attach and port-forward
// through the connection the node made. Nothing here ever dials a node.
//
//   auto link = NodeLink::Make();
//   ... give link->tunnels() to the API server, which then offers a Client ...
//   TRY(link->Start(client, options));
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/pki/pki.h"
#include "base/result.h"
#include "control-plane/api/client.h"
#include "control-plane/api/node_tunnels.h"

namespace skiff::cp {

struct NodeLinkOptions {
  std::string listen = "0.0.0.0:6444";  // port 0: any
  pki::KeyPair ca;                      // signs the nodes' certificates
  pki::KeyPair server;                  // names the addresses nodes dial

  // What nodes are told of the cluster.
  std::string cluster_domain = "cluster.local";
  std::vector<std::string> cluster_dns;
  std::vector<std::string> service_cidrs;
  std::vector<std::string> cluster_cidrs;
  std::string api_server;  // "https://10.0.0.1:6443"
};

// Thread-safe.
class NodeLink {
 public:
  static std::unique_ptr<NodeLink> Make();
  // Stops.
  virtual ~NodeLink() = default;

  // Valid as long as this; before Start every node counts as not connected.
  virtual NodeTunnels& tunnels() = 0;

  // Listens and serves. client must outlive Stop. Unavailable when the address is taken.
  virtual Result<> Start(Client& client, NodeLinkOptions options) = 0;
  // The port bound.
  virtual int port() const = 0;
  // A renewed server certificate; new connections use it.
  virtual void ReloadServerCertificate(const pki::KeyPair& server) = 0;
  // Ends all streams and tunnels. Idempotent.
  virtual void Stop() = 0;

  // Names of the nodes connected now, sorted.
  virtual std::vector<std::string> ConnectedNodes() const = 0;
};

}  // namespace skiff::cp

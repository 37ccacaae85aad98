// Namespaces: what each begins with, and how its content goes when it is deleted.
#pragma once

#include <memory>
#include <string>

#include "control-plane/controllers/framework/controller.h"

namespace skiff::cp {

// Makes the namespaces of the system (default, kube-system, kube-public, kube-node-lease), and in
// every namespace the ServiceAccount "default" and the ConfigMap "kube-root-ca.crt".
std::shared_ptr<Controller> MakeNamespaceDefaultsController(Client& client, Executor& executor,
                                                            std::string cluster_ca_pem);
// Empties namespaces that are being deleted and then lets them go.
std::shared_ptr<Controller> MakeNamespaceDeletionController(Client& client, Executor& executor);

}  // namespace skiff::cp

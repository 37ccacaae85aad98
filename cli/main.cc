// skiff: sets up a cluster, administers its join tokens and brings images onto its nodes.

#include <CLI/CLI.hpp>
#include <cstdio>
#include <functional>

#include "cli/commands.h"
#include "cli/images.h"

namespace {

using namespace skiff;
using namespace skiff::cli;

constexpr const char* kAdminKubeconfig = "/etc/skiff/admin.kubeconfig";
constexpr const char* kControlPlaneConfig = "/etc/skiff/control-plane.yaml";
constexpr const char* kAgentConfig = "/etc/skiff/agent.yaml";
constexpr const char* kAgentSocket = "unix:///run/skiff/skiff.sock";

using Command = std::function<Result<>()>;

void AddKubeconfig(CLI::App* app, std::string* path) {
  app->add_option("--kubeconfig", *path, "The administrator's kubeconfig")->capture_default_str();
}

void AddToken(CLI::App& app, Command& command) {
  CLI::App* token = app.add_subcommand("token", "Create, list and delete join tokens");
  token->require_subcommand(1);

  CLI::App* create = token->add_subcommand("create", "Make a join token");
  static TokenCreateOptions options{.kubeconfig = kAdminKubeconfig,
                                    .control_plane_config = kControlPlaneConfig};
  static std::string ttl = "24h";
  AddKubeconfig(create, &options.kubeconfig);
  create
      ->add_option("--control-plane-config", options.control_plane_config,
                   "Where the node link's address is looked up")
      ->capture_default_str();
  create->add_option("--server", options.server, "The node link's HOST:PORT to print");
  create->add_option("--ttl", ttl, "How long it is valid: 30m, 24h, 7d; 0 for ever")
      ->capture_default_str();
  create->add_option("--uses", options.request.max_uses, "How many nodes it joins; 0: any number")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  create->add_option("--description", options.request.description, "What it is for");
  create->callback([&command] {
    command = []() -> Result<> {
      options.request.ttl = TRY(ParseTtl(ttl));
      return RunTokenCreate(options);
    };
  });

  static std::string kubeconfig = kAdminKubeconfig;
  CLI::App* list = token->add_subcommand("list", "List the join tokens");
  AddKubeconfig(list, &kubeconfig);
  list->callback([&command] { command = [] { return RunTokenList(kubeconfig); }; });

  static std::string id;
  CLI::App* remove = token->add_subcommand("delete", "Revoke a join token");
  AddKubeconfig(remove, &kubeconfig);
  remove->add_option("ID", id, "The token or its first six characters")->required();
  remove->callback([&command] { command = [] { return RunTokenDelete(kubeconfig, id); }; });
}

void AddJoin(CLI::App& app, Command& command) {
  static JoinOptions options{.config = kAgentConfig};
  static bool no_start = false;
  CLI::App* join = app.add_subcommand("join", "Make this machine a node of a cluster");
  join->add_option("--server", options.server, "The control plane's node link, HOST:PORT")
      ->required();
  join->add_option("--token", options.token, "The join token")->required();
  join->add_option("--ca-hash", options.ca_hash, "The pin of the cluster's CA, sha256:HEX")
      ->required();
  join->add_option("--node-name", options.node_name, "The node's name; the hostname if not given");
  join->add_option("--config", options.config, "The agent's configuration")->capture_default_str();
  join->add_flag("--no-start", no_start, "Only write the configuration");
  join->callback([&command] {
    command = [] {
      options.start = !no_start;
      return RunJoin(options);
    };
  });
}

void AddInit(CLI::App& app, Command& command) {
  static InitOptions options{.config = kControlPlaneConfig, .kubeconfig = kAdminKubeconfig};
  static bool no_start = false;
  CLI::App* init = app.add_subcommand("init", "Make this machine a control plane");
  init->add_option("--config", options.config, "The control plane's configuration")
      ->capture_default_str();
  init->add_option("--kubeconfig", options.kubeconfig, "Where it writes the kubeconfig")
      ->capture_default_str();
  init->add_option("--advertise-address", options.advertise_address,
                   "The address that nodes and clients reach this machine by");
  init->add_option("--cluster-cidr", options.cluster_cidr,
                   "The pods' ranges: one, or one of each family with a comma between them");
  init->add_option("--service-cidr", options.service_cidr, "The services' ranges, likewise");
  init->add_flag("--no-start", no_start, "Only write the configuration");
  init->callback([&command] {
    command = [] {
      options.start = !no_start;
      return RunInit(options);
    };
  });
}

void AddKubeconfigCommand(CLI::App& app, Command& command) {
  static std::string path = kAdminKubeconfig, server;
  CLI::App* show = app.add_subcommand("kubeconfig", "Print the administrator's kubeconfig");
  AddKubeconfig(show, &path);
  show->add_option("--server", server, "Another server URL to put into it");
  show->callback([&command] { command = [] { return RunKubeconfig(path, server); }; });
}

void AddImage(CLI::App& app, Command& command) {
  CLI::App* image = app.add_subcommand("image", "Import and list the images of this node");
  image->require_subcommand(1);
  static ImageImportOptions options{.socket = kAgentSocket};
  CLI::App* import =
      image->add_subcommand("import", "Take in an image archive, without a registry");
  import->add_option("FILE", options.file, "An OCI layout or docker save archive; - for stdin")
      ->required();
  import->add_option("--name", options.name, "The image's name, instead of the archive's names");
  CLI::App* list = image->add_subcommand("list", "List the images");
  for (CLI::App* each : {import, list}) {
    each->add_option("--socket", options.socket, "The agent's socket")->capture_default_str();
  }
  import->callback([&command] { command = [] { return RunImageImport(options);
};
}  // namespace
);
list->callback([&command] { command = [] { return RunImageList(options.socket); }; });
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app(
      "Sets up a Skiff cluster, administers its join tokens and brings images onto its nodes. "
      "Everyday work is done with kubectl.",
      "skiff");
  app.require_subcommand(1);
  Command command;
  AddInit(app, command);
  AddToken(app, command);
  AddJoin(app, command);
  AddImage(app, command);
  AddKubeconfigCommand(app, command);
  app.add_subcommand("version", "Print the version")->callback([&command] {
    command = []() -> Result<> {
      std::puts("skiff " SKIFF_VERSION);
      return {};
    };
  });
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  Result<> outcome = command();
  if (outcome.ok()) return 0;
  std::fprintf(stderr, "skiff: %s\n", outcome.error().message().c_str());
  return 1;
}

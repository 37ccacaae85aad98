#include "cni/plugin/commands.h"

#include "base/net/rtnl.h"
#include "cni/plugin/session.h"

namespace skiff::cni {
namespace {

// Codes of our own, beside CNI's (docs/cni.md).
constexpr uint32_t kFailedCode = static_cast<uint32_t>(CniCode::kOwn);
constexpr uint32_t kTakenCode = kFailedCode + 1;      // an address, a port, an interface
constexpr uint32_t kExhaustedCode = kFailedCode + 2;  // every address

PluginError ToPluginError(const Error& error, const char* doing) {
  uint32_t code = kFailedCode;
  switch (error.code()) {
    case Code::kInvalidArgument: code = static_cast<uint32_t>(CniCode::kInvalidConfig); break;
    case Code::kUnavailable: code = static_cast<uint32_t>(CniCode::kTryAgainLater); break;
    case Code::kAlreadyExists: code = kTakenCode; break;
    case Code::kResourceExhausted: code = kExhaustedCode; break;
    default: break;
  }
  return {code, doing, error.message()};
}

// As the specification has them: the node's interfaces first, without a sandbox.
Result<AddResult> DescribeAttachment(const PluginRequest& request, const Attachment& attachment) {
  AddResult result = request.previous.value_or(AddResult());
  net::Rtnl node = TRY(net::Rtnl::Open());
  for (const std::string& name : {request.settings.bridge, attachment.host_interface}) {
    const net::Link link = TRY(node.GetLink(name));
    result.interfaces.push_back({.name = name, .mac = link.mac, .mtu = link.mtu});
  }
  const auto index = static_cast<uint32_t>(result.interfaces.size());
  result.interfaces.push_back({.name = attachment.interface,
                               .mac = attachment.mac,
                               .mtu = attachment.mtu,
                               .sandbox = request.attach.netns_path});
  for (const PodAddress& address : attachment.addresses) {
    result.ips.push_back({.address = address.address,
                          .prefix_length = address.address.bits(),
                          .gateway = address.gateway,
                          .interface = index});
    result.routes.push_back(
        {.destination = net::IpPrefix::Of(address.gateway, 0), .gateway = address.gateway});
  }
  const ResultDns& dns = request.settings.dns;
  if (!(dns == ResultDns())) result.dns = dns;
  return result;
}

bool MayBeHeldByTheDead(Code code) {
  return code == Code::kResourceExhausted || code == Code::kAlreadyExists;
}

Result<std::string> RunAdd(const PluginRequest& request) {
  auto session = TRY(PluginSession::Open(request.settings, request.interface));
  TRY(session->SetUp());
  BridgeNetwork& network = session->network();
  const std::string& id = request.attach.sandbox_id;
  if (network.Get(id).ok() && network.Check(id).ok()) {
    return Error(Code::kAlreadyExists, "interface " + request.interface + " is there already");
  }
  auto attachment = network.Attach(request.attach);
  if (!attachment.ok() && MayBeHeldByTheDead(attachment.error().code())) {
    TRY(session->DropDead());
    attachment = network.Attach(request.attach);
  }
  TRY(attachment);
  auto described = DescribeAttachment(request, *attachment);
  if (!described.ok()) {
    (void)network.Detach(id);  // the runtime's DEL finishes it
    return std::move(described).error();
  }
  return RenderDocument(RenderAddResult(*described, request.version)) + "\n";
}

Result<std::string> RunDel(const PluginRequest& request) {
  auto session = TRY(PluginSession::Open(request.settings, request.interface));
  TRY(session->network().Detach(request.attach.sandbox_id));
  TRY(session->network().FinishRemovals());
  return std::string();
}

Result<std::string> RunCheck(const PluginRequest& request) {
  if (!request.previous) return Error(Code::kInvalidArgument, "\"prevResult\" is missing");
  auto session = TRY(PluginSession::Open(request.settings, request.interface));
  const Attachment attachment = TRY(session->network().Get(request.attach.sandbox_id));
  for (const ResultIp& ip : request.previous->ips) {
    if (!ip.interface) continue;
    const ResultInterface& interface = request.previous->interfaces[*ip.interface];
    if (interface.name != request.interface || interface.sandbox.empty()) continue;
    bool ours = false;
    for (const PodAddress& address : attachment.addresses) ours |= address.address == ip.address;
    if (ours) continue;
    return Error(Code::kFailedPrecondition, ip.address.ToString() + " is not the attachment's");
  }
  TRY(session->network().Check(request.attach.sandbox_id));
  if (!TRY(session->RulesStand())) {
    return Error(Code::kFailedPrecondition, "the network's packet filter rules are gone");
  }
  return std::string();
}

Result<std::string> RunStatus(const PluginRequest& request) {
  auto session = TRY(PluginSession::Open(request.settings, ""));
  TRY(session->CheckIptables());
  auto free = session->CheckFree();
  if (free.ok()) return std::string();
  TRY(session->DropDead());
  TRY(session->CheckFree());
  return std::string();
}

Result<std::string> RunGc(const PluginRequest& request) {
  auto session = TRY(PluginSession::Open(request.settings, ""));
  TRY(session->SetUp());
  TRY(session->network().Recover(request.valid));
  return std::string();
}

std::string VersionAnswer(const PluginRequest& request) {
  Json versions = Json::array();
  for (const CniVersion& version : PluginVersions()) versions.push_back(ToString(version));
  return RenderDocument({{"cniVersion", ToString(request.version)},
                         {"supportedVersions", std::move(versions)}}) +
         "\n";
}

struct Command {
  const char* failure;
  Result<std::string> (*run)(const PluginRequest& request);
};

Command CommandFor(PluginCommand command) {
  switch (command) {
    case PluginCommand::kAdd: return {"cannot attach the container", RunAdd};
    case PluginCommand::kDel: return {"cannot detach the container", RunDel};
    case PluginCommand::kCheck: return {"the container's network is damaged", RunCheck};
    case PluginCommand::kStatus: return {"no container can be attached", RunStatus};
    case PluginCommand::kGc: return {"cannot collect garbage", RunGc};
    case PluginCommand::kVersion: break;
  }
  return {"",
          [](const PluginRequest& request) { return Result<std::string>(VersionAnswer(request)); }};
}

}  // namespace

PluginReply RunPluginRequest(const PluginRequest& request) {
  const Command command = CommandFor(request.command);
  auto output = command.run(request);
  if (output.ok()) return {0, *std::move(output)};
  PluginError error = ToPluginError(output.error(), command.failure);
  if (request.command == PluginCommand::kStatus) {
    error.code = static_cast<uint32_t>(CniCode::kNotAvailable);
  }
  return {1, RenderPluginError(error, request.version)};
}

PluginReply RefusePluginRequest(const RequestOrError& refused) {
  return {1, RenderPluginError(refused.error, refused.version)};
}

}  // namespace skiff::cni

#include "agent/spec/dns.h"

#include <algorithm>

#include "proto/k8s/core/v1/pod.pb.h"

namespace skiff::agent {
namespace {

namespace core = k8s::core::v1;

// What libc's resolver honours (resolv.conf(5)), and Kubernetes' own bound on searches.
constexpr size_t kMaxServers = 3;
constexpr size_t kMaxSearches = 32;
constexpr size_t kMaxSearchBytes = 2048;

std::vector<std::string> Words(std::string_view line) {
  std::vector<std::string> words;
  size_t i = 0;
  while (i < line.size()) {
    size_t start = line.find_first_not_of(" \t\r", i);
    if (start == std::string_view::npos) break;
    size_t end = std::min(line.find_first_of(" \t\r", start), line.size());
    words.emplace_back(line.substr(start, end - start));
    i = end;
  }
  return words;
}

void AppendUnique(std::vector<std::string>* list, std::string item) {
  if (item.size() > 1 && item.ends_with('.')) item.pop_back();
  if (!item.empty() && std::find(list->begin(), list->end(), item) == list->end()) {
    list->push_back(std::move(item));
  }
}

// dnsConfig's options replace those of the same name.
void MergeOptions(const core::PodDNSConfig& config, std::vector<std::string>* options) {
  for (const core::PodDNSConfigOption& option : config.options()) {
    std::erase_if(*options, [&](const std::string& present) {
      return present.substr(0, present.find(':')) == option.name();
    });
    options->push_back(option.value().empty() ? option.name()
                                              : option.name() + ":" + option.value());
  }
}

std::string DomainOf(const core::Pod& pod, const NodeContext& node) {
  if (pod.spec().subdomain().empty()) return {};
  return pod.spec().subdomain() + "." + pod.metadata().namespace_() + ".svc." + node.cluster_domain;
}

std::string ShortHostname(const core::Pod& pod) {
  std::string name = pod.spec().hostname().empty() ? pod.metadata().name() : pod.spec().hostname();
  if (name.size() > 63) name.resize(63);
  while (!name.empty() && (name.back() == '-' || name.back() == '.')) name.pop_back();
  return name;
}

}  // namespace

DnsConfig ParseResolvConf(std::string_view text) {
  DnsConfig config;
  while (!text.empty()) {
    size_t end = std::min(text.find('\n'), text.size());
    std::vector<std::string> words = Words(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
    if (words.size() < 2 || words[0].starts_with('#') || words[0].starts_with(';')) continue;
    if (words[0] == "nameserver") {
      config.servers.push_back(words[1]);
    } else if (words[0] == "search" || words[0] == "domain") {
      config.searches.clear();  // the last line wins
      for (size_t i = 1; i < words.size(); ++i) AppendUnique(&config.searches, words[i]);
    } else if (words[0] == "options") {
      for (size_t i = 1; i < words.size(); ++i) AppendUnique(&config.options, words[i]);
    }
  }
  return config;
}

DnsConfig PodDns(const core::Pod& pod, const NodeContext& node, const DnsConfig& host) {
  DnsConfig dns;
  const std::string& policy = pod.spec().dns_policy();
  bool cluster = policy == "ClusterFirstWithHostNet" ||
                 ((policy == "ClusterFirst" || policy.empty()) && !pod.spec().host_network());
  if (cluster && !node.cluster_dns.empty()) {
    dns.servers = node.cluster_dns;
    const std::string& domain = node.cluster_domain;
    for (const std::string& search :
         {pod.metadata().namespace_() + ".svc." + domain, "svc." + domain, domain}) {
      AppendUnique(&dns.searches, search);
    }
    for (const std::string& search : host.searches) AppendUnique(&dns.searches, search);
    dns.options = {"ndots:5"};
  } else if (policy != "None") {
    dns = host;
  }
  const core::PodDNSConfig& own = pod.spec().dns_config();
  for (const std::string& server : own.nameservers()) AppendUnique(&dns.servers, server);
  for (const std::string& search : own.searches()) AppendUnique(&dns.searches, search);
  MergeOptions(own, &dns.options);
  if (dns.servers.size() > kMaxServers) dns.servers.resize(kMaxServers);
  if (dns.searches.size() > kMaxSearches) dns.searches.resize(kMaxSearches);
  size_t bytes = 0;
  for (size_t i = 0; i < dns.searches.size(); ++i) {
    bytes += dns.searches[i].size() + 1;
    if (bytes > kMaxSearchBytes) {
      dns.searches.resize(i);
      break;
    }
  }
  return dns;
}

std::string PodHostname(const core::Pod& pod, const NodeContext& node) {
  if (pod.spec().host_network()) return {};
  std::string name = ShortHostname(pod);
  std::string domain = DomainOf(pod, node);
  if (pod.spec().set_hostname_as_fqdn() && !domain.empty()) {
    std::string full = name + "." + domain;
    if (full.size() <= 64) return full;  // the kernel's limit (uname(2))
  }
  return name;
}

std::string HostsFile(const core::Pod& pod, const NodeContext& node,
                      const std::vector<std::string>& pod_ips, std::string_view host_file) {
  std::string text;
  if (pod.spec().host_network()) {
    text = "# Kubernetes-managed hosts file (host network).\n";
    text += host_file;
  } else {
    text =
        "# Kubernetes-managed hosts file.\n"
        "127.0.0.1\tlocalhost\n"
        "::1\tlocalhost ip6-localhost ip6-loopback\n"
        "fe00::0\tip6-localnet\n"
        "fe00::0\tip6-mcastprefix\n"
        "fe00::1\tip6-allnodes\n"
        "fe00::2\tip6-allrouters\n";
    std::string name = ShortHostname(pod);
    std::string domain = DomainOf(pod, node);
    for (const std::string& ip : pod_ips) {
      text += ip + "\t" + (domain.empty() ? name : name + "." + domain + "\t" + name) + "\n";
    }
  }
  if (!pod.spec().host_aliases().empty()) {
    text += "\n# Entries added by HostAliases.\n";
    for (const core::HostAlias& alias : pod.spec().host_aliases()) {
      text += alias.ip();
      for (const std::string& name : alias.hostnames()) text += "\t" + name;
      text += "\n";
    }
  }
  return text;
}

}  // namespace skiff::agent

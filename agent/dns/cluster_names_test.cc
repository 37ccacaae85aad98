#include "agent/dns/cluster_names.h"

#include <gmock/gmock.h>
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include "proto/k8s/core/v1/service.pb.h"
#include "proto/k8s/discovery/v1/discovery.pb.h"

namespace skiff::agent::dns {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::UnorderedElementsAre;

template <class Message>
Message Parse(const std::string& text) {
  Message message;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &message)) << text;
  return message;
}
k8s::core::v1::Service Service(const std::string& text) {
  return Parse<k8s::core::v1::Service>(text);
}
k8s::discovery::v1::EndpointSlice Slice(const std::string& text) {
  return Parse<k8s::discovery::v1::EndpointSlice>(text);
}

// "10.0.0.1", "10 100 80 web.default.svc..." (priority left out), a name, or a text.
std::string DataText(const Record& record) {
  auto name = [](std::string_view data) { return NameText(data.substr(0, data.size() - 1)); };
  std::string_view data = record.data;
  auto u16 = [&](size_t at) {
    return std::to_string(static_cast<uint8_t>(data[at]) << 8 | static_cast<uint8_t>(data[at + 1]));
  };
  switch (record.type) {
    case kA: return net::IpAddress::FromBytes(net::IpFamily::kV4, data.data()).ToString();
    case kAaaa: return net::IpAddress::FromBytes(net::IpFamily::kV6, data.data()).ToString();
    case kSrv: return u16(0) + " " + u16(2) + " " + u16(4) + " " + name(data.substr(6));
    case kTxt: return std::string(data.substr(1));
    case kSoa: return "soa";
    default: return name(data);
  }
}

class ClusterNamesTest : public testing::Test {
 protected:
  ClusterNamesTest() {
    names_.SetService(Service(R"(metadata { namespace: "shop" name: "web" }
      spec { cluster_ip: "10.96.0.7" cluster_ips: "10.96.0.7" cluster_ips: "fd00::7"
             ports { name: "http" protocol: "TCP" port: 80 }
             ports { name: "dns" protocol: "UDP" port: 53 } })"));
    names_.SetService(Service(R"(metadata { namespace: "shop" name: "db" }
      spec { cluster_ip: "None" cluster_ips: "None"
             ports { name: "sql" protocol: "TCP" port: 5432 } })"));
    names_.SetSlice(Slice(R"(metadata { namespace: "shop" name: "db-1"
          labels { key: "kubernetes.io/service-name" value: "db" } }
      address_type: "IPv4"
      ports { name: "sql" protocol: "TCP" port: 5433 }
      endpoints { addresses: "10.244.1.2" hostname: "db-0" conditions { ready: true } }
      endpoints { addresses: "10.244.2.3" }
      endpoints { addresses: "10.244.2.4" conditions { ready: false } })"));
    names_.SetService(Service(R"(metadata { namespace: "shop" name: "out" }
      spec { type: "ExternalName" external_name: "www.example.com" })"));
  }

  Answer Ask(const std::string& name, uint16_t type) {
    auto answer = names_.Lookup(*ParseName(name), type);
    EXPECT_TRUE(answer) << name;
    return answer.value_or(Answer());
  }
  std::vector<std::string> Data(const std::string& name, uint16_t type) {
    std::vector<std::string> data;
    Answer answer = Ask(name, type);
    EXPECT_EQ(answer.rcode, Rcode::kNoError) << name;
    for (const Record& record : answer.answers) data.push_back(DataText(record));
    if (data.empty()) {
      EXPECT_EQ(answer.authority.size(), 1u) << "the SOA";
    }
    return data;
  }
  Rcode Code(const std::string& name, uint16_t type = kA) { return Ask(name, type).rcode; }

  ClusterNames names_{
      *ParseName("cluster.local"),
      {*net::IpAddress::Parse("10.96.0.10")},
      {*net::IpPrefix::Parse("10.96.0.0/16"), *net::IpPrefix::Parse("10.244.0.0/16")}};
};

TEST_F(ClusterNamesTest, ClusterIp) {
  EXPECT_THAT(Data("web.shop.svc.cluster.local", kA), ElementsAre("10.96.0.7"));
  EXPECT_THAT(Data("web.shop.svc.cluster.local", kAaaa), ElementsAre("fd00::7"));
  EXPECT_THAT(Data("web.shop.svc.cluster.local", kMx), IsEmpty());
  EXPECT_THAT(Data("_http._tcp.web.shop.svc.cluster.local", kSrv),
              ElementsAre("0 100 80 web.shop.svc.cluster.local"));
  EXPECT_THAT(
      Data("web.shop.svc.cluster.local", kSrv),
      ElementsAre("0 100 80 web.shop.svc.cluster.local", "0 100 53 web.shop.svc.cluster.local"));
  EXPECT_EQ(Code("_http._udp.web.shop.svc.cluster.local", kSrv), Rcode::kNxDomain);
  EXPECT_EQ(Code("_sql._tcp.web.shop.svc.cluster.local", kSrv), Rcode::kNxDomain);
  EXPECT_THAT(Data("_tcp.web.shop.svc.cluster.local", kSrv), IsEmpty());
  EXPECT_THAT(Data("7.0.96.10.in-addr.arpa", kPtr), ElementsAre("web.shop.svc.cluster.local"));
}

TEST_F(ClusterNamesTest, Headless) {
  EXPECT_THAT(Data("db.shop.svc.cluster.local", kA),
              UnorderedElementsAre("10.244.1.2", "10.244.2.3"));
  EXPECT_THAT(Data("db-0.db.shop.svc.cluster.local", kA), ElementsAre("10.244.1.2"));
  EXPECT_THAT(Data("db-0.db.shop.svc.cluster.local", kAaaa), IsEmpty());
  EXPECT_THAT(Data("10-244-2-3.db.shop.svc.cluster.local", kA), ElementsAre("10.244.2.3"));
  EXPECT_EQ(Code("10-244-2-4.db.shop.svc.cluster.local"), Rcode::kNxDomain) << "not ready";
  EXPECT_THAT(Data("_sql._tcp.db.shop.svc.cluster.local", kSrv),
              UnorderedElementsAre("0 100 5433 db-0.db.shop.svc.cluster.local",
                                   "0 100 5433 10-244-2-3.db.shop.svc.cluster.local"));
  EXPECT_THAT(Data("2.1.244.10.in-addr.arpa", kPtr), ElementsAre("db-0.db.shop.svc.cluster.local"));
}

TEST_F(ClusterNamesTest, HeadlessWithoutReadyEndpointsDoesNotExist) {
  names_.SetSlice(Slice(R"(metadata { namespace: "shop" name: "db-1"
        labels { key: "kubernetes.io/service-name" value: "db" } }
    address_type: "IPv4"
    ports { name: "sql" protocol: "TCP" port: 5433 }
    endpoints { addresses: "10.244.2.4" hostname: "db-1" conditions { ready: false } })"));
  for (const char* name : {"db.shop.svc.cluster.local", "db-1.db.shop.svc.cluster.local",
                           "_tcp.db.shop.svc.cluster.local"}) {
    EXPECT_EQ(Code(name), Rcode::kNxDomain) << name;
    EXPECT_EQ(Code(name, kAaaa), Rcode::kNxDomain) << name;
  }
  EXPECT_EQ(Code("_sql._tcp.db.shop.svc.cluster.local", kSrv), Rcode::kNxDomain);
  EXPECT_EQ(Code("4.2.244.10.in-addr.arpa", kPtr), Rcode::kNxDomain);
}

TEST_F(ClusterNamesTest, HeadlessInBothFamilies) {
  names_.SetSlice(Slice(R"(metadata { namespace: "shop" name: "db-6"
        labels { key: "kubernetes.io/service-name" value: "db" } }
    address_type: "IPv6"
    ports { name: "sql" protocol: "TCP" port: 5433 }
    endpoints { addresses: "fd00:244::2" hostname: "db-0" conditions { ready: true } })"));
  EXPECT_THAT(Data("db-0.db.shop.svc.cluster.local", kA), ElementsAre("10.244.1.2"));
  EXPECT_THAT(Data("db-0.db.shop.svc.cluster.local", kAaaa), ElementsAre("fd00:244::2"));
  EXPECT_THAT(Data("db.shop.svc.cluster.local", kAaaa), ElementsAre("fd00:244::2"));
  // One for an endpoint, not for an address of it.
  EXPECT_THAT(Data("_sql._tcp.db.shop.svc.cluster.local", kSrv),
              UnorderedElementsAre("0 100 5433 db-0.db.shop.svc.cluster.local",
                                   "0 100 5433 10-244-2-3.db.shop.svc.cluster.local"));
  EXPECT_THAT(
      Data("2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.4.4.2.0.0.0.d.f.ip6.arpa", kPtr),
      ElementsAre("db-0.db.shop.svc.cluster.local"));
}

TEST_F(ClusterNamesTest, HeadlessAddressesTakeTurns) {
  std::string first = Data("db.shop.svc.cluster.local", kA)[0];
  EXPECT_NE(Data("db.shop.svc.cluster.local", kA)[0], first);
  EXPECT_EQ(Data("db.shop.svc.cluster.local", kA)[0], first);
}

TEST_F(ClusterNamesTest, ExternalNameIsAnAlias) {
  EXPECT_THAT(Data("out.shop.svc.cluster.local", kA), ElementsAre("www.example.com"));
  EXPECT_THAT(Data("out.shop.svc.cluster.local", kCname), ElementsAre("www.example.com"));
}

TEST_F(ClusterNamesTest, PodsByAddress) {
  EXPECT_THAT(Data("10-244-1-2.shop.pod.cluster.local", kA), ElementsAre("10.244.1.2"));
  EXPECT_THAT(Data("fd00--5.shop.pod.cluster.local", kAaaa), ElementsAre("fd00::5"));
  EXPECT_EQ(Code("nonsense.shop.pod.cluster.local"), Rcode::kNxDomain);
}

TEST_F(ClusterNamesTest, TheZoneItself) {
  EXPECT_THAT(Data("dns-version.cluster.local", kTxt), ElementsAre("1.1.0"));
  EXPECT_THAT(Data("cluster.local", kSoa), ElementsAre("soa"));
  EXPECT_THAT(Data("cluster.local", kNs), ElementsAre("ns.dns.cluster.local"));
  EXPECT_THAT(Data("ns.dns.cluster.local", kA), ElementsAre("10.96.0.10"));
}

TEST_F(ClusterNamesTest, NamesBetweenExistAndOthersDoNot) {
  for (const char* name : {"svc.cluster.local", "shop.svc.cluster.local", "pod.cluster.local"}) {
    EXPECT_THAT(Data(name, kA), IsEmpty()) << name;
  }
  for (const char* name :
       {"nothing.shop.svc.cluster.local", "web.other.svc.cluster.local", "other.svc.cluster.local",
        "x.web.shop.svc.cluster.local", "a.b.c.web.shop.svc.cluster.local", "foo.cluster.local",
        "web.default.svc.cluster.local.shop.svc.cluster.local"}) {
    EXPECT_EQ(Code(name), Rcode::kNxDomain) << name;
  }
}

TEST_F(ClusterNamesTest, OtherServersNames) {
  EXPECT_FALSE(names_.Lookup(*ParseName("www.example.com"), kA));
  EXPECT_FALSE(names_.Lookup(*ParseName("8.8.8.8.in-addr.arpa"), kPtr));
  EXPECT_EQ(Code("9.9.96.10.in-addr.arpa", kPtr), Rcode::kNxDomain) << "nobody else knows it";
}

TEST_F(ClusterNamesTest, ChangesAndEnds) {
  names_.SetSlice(Slice(R"(metadata { namespace: "shop" name: "db-1"
        labels { key: "kubernetes.io/service-name" value: "db" } }
      address_type: "IPv4" endpoints { addresses: "10.244.9.9" hostname: "db-0" })"));
  EXPECT_THAT(Data("db-0.db.shop.svc.cluster.local", kA), ElementsAre("10.244.9.9"));
  EXPECT_EQ(Code("2.1.244.10.in-addr.arpa", kPtr), Rcode::kNxDomain);
  names_.DeleteSlice("shop", "db-1");
  EXPECT_EQ(Code("db.shop.svc.cluster.local"), Rcode::kNxDomain) << "without an endpoint";
  names_.DeleteService("shop", "db");
  EXPECT_EQ(Code("db.shop.svc.cluster.local"), Rcode::kNxDomain);
  names_.DeleteService("shop", "web");
  names_.DeleteService("shop", "out");
  names_.DeleteService("shop", "out");
  EXPECT_EQ(Code("shop.svc.cluster.local"), Rcode::kNxDomain);
  EXPECT_EQ(names_.services(), 0u);
}

TEST_F(ClusterNamesTest, SlicesBeforeTheirServiceAndOfNone) {
  names_.SetSlice(Slice(R"(metadata { namespace: "shop" name: "late-1"
        labels { key: "kubernetes.io/service-name" value: "late" } }
      address_type: "IPv4" endpoints { addresses: "10.244.3.1" })"));
  EXPECT_EQ(Code("late.shop.svc.cluster.local"), Rcode::kNxDomain);
  names_.SetService(Service(R"(metadata { namespace: "shop" name: "late" }
                               spec { cluster_ip: "None" })"));
  EXPECT_THAT(Data("late.shop.svc.cluster.local", kA), ElementsAre("10.244.3.1"));
  names_.SetSlice(Slice(R"(metadata { namespace: "shop" name: "orphan" }
                           endpoints { addresses: "10.244.3.2" })"));
  EXPECT_EQ(Code("2.3.244.10.in-addr.arpa", kPtr), Rcode::kNxDomain);
}

}  // namespace
}  // namespace skiff::agent::dns

// SystemNft, and FakeNft beside it: one suite for both, so that tests that trust the fake are not
// wrong about the kernel.
#include "base/net/nft.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <condition_variable>
#include <mutex>

#include "base/net/fake_nft.h"
#include "tests/support/needs.h"
#include "tests/support/netns.h"
#include "tests/support/traffic.h"

namespace skiff::net {
namespace {

using nft::Body;
using nft::Element;
using nft::End;
using nft::Key;
using nft::Source;
using nft::Transaction;
using nft::Type;
using nft::Verdict;
using ::testing::AnyOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

IpAddress Address(std::string_view text) { return IpAddress::Parse(text).value(); }
IpPrefix Prefix(std::string_view text) { return IpPrefix::Parse(text).value(); }

const nft::Set kPorts{.name = "ports", .key = {Type::kProtocol, Type::kPort}};
const nft::Set kChains{.name = "chains", .key = {Type::kMark}, .data = {Type::kVerdict}};
const nft::Set kBackends{
    .name = "backends", .key = {Type::kMark, Type::kMark}, .data = {Type::kIp4, Type::kPort}};
const nft::Set kNets{.name = "nets", .key = {Type::kIp4}, .interval = true};
const nft::Set kFlows{
    .name = "flows", .key = {Type::kIp4, Type::kProtocol, Type::kPort}, .interval = true};
const nft::Set kClients{.name = "clients",
                        .key = {Type::kIp4},
                        .data = {Type::kIp4, Type::kPort},
                        .dynamic = true,
                        .timeouts = true,
                        .size = 1000};

Element PortElement(uint16_t port) { return {.key = Key().Protocol(6).Port(port)}; }

enum class Kind { kFake, kSystem };

class NftTest : public ::testing::TestWithParam<Kind> {
 protected:
  void SetUp() override {
    if (GetParam() == Kind::kFake) {
      nft_ = std::make_unique<FakeNft>();
      return;
    }
    SKIFF_NEEDS(test::Need::kRoot, test::Need::kNftables);
    node_ = test::TestNode::Make("node");
    nft_ = std::make_unique<SystemNft>();
  }
  template <class Work>
  auto Run(Work work) -> decltype(work()) {
    std::optional<decltype(work())> result;
    if (!node_) return work();
    node_->Run([&] { result.emplace(work()); });
    return *std::move(result);
  }
  Result<> Commit(const Transaction& change) {
    return Run([&] { return nft_->Commit(change); });
  }
  // 0, or the errno of a commit that has to fail.
  int Errno(const Transaction& change) {
    auto result = Commit(change);
    if (result.ok()) return 0;
    message_ = result.error().message();
    return result.error().sys_errno();
  }
  Transaction Change() { return Transaction(table_); }
  nft::TableInfo List() {
    return Run([&] { return nft_->List(table_); }).value();
  }
  std::vector<Element> Elements(const nft::Set& set) {
    return Run([&] { return nft_->ListElements(table_, set.name); }).value();
  }

  const nft::Table table_{nft::Family::kIp4, "skiff-test"};
  std::unique_ptr<test::TestNode> node_;
  std::unique_ptr<Nft> nft_;
  std::string message_;
};

TEST_P(NftTest, ATableIsReadBackAsItWasWritten) {
  nft::Chain base{.name = "in",
                  .base = nft::BaseChain{nft::ChainType::kFilter, nft::Hook::kInput, -7, true}};
  nft::Chain nat{.name = "pre",
                 .base = nft::BaseChain{nft::ChainType::kNat, nft::Hook::kPrerouting, -105}};
  nft::Chain plain{.name = "decide"};
  nft::Rule rule{.chain = "in",
                 .body = Body()
                             .In(End::kSource, Prefix("10.0.0.0/8"), /*inside=*/false)
                             .InSet({Source::L4Protocol(), Source::Port()}, "ports")
                             .Then(nft::Counter())
                             .Decide(Verdict::Jump("decide")),
                 .comment = "strangers"};
  Transaction change = Change();
  change.AddTable();
  for (const auto& set : {kPorts, kChains, kBackends, kNets, kFlows, kClients}) change.AddSet(set);
  change.AddChain(base).AddChain(nat).AddChain(plain).AddRule(rule);
  ASSERT_EQ(Errno(change), 0) << message_;
  nft::TableInfo info = List();
  EXPECT_THAT(info.chains, ElementsAre(plain, base, nat));
  EXPECT_THAT(info.sets, ElementsAre(kBackends, kChains, kClients, kFlows, kNets, kPorts));
  EXPECT_THAT(info.rules,
              ElementsAre(nft::RuleInfo{"in", "strangers", nft::ExpressionNames(rule)}));
  // The same again changes nothing, but for the rule, which is there twice then.
  ASSERT_EQ(Errno(change), 0) << message_;
  EXPECT_THAT(List().rules, SizeIs(2));
  EXPECT_THAT(List().sets, SizeIs(6));
}

TEST_P(NftTest, EveryStepIsOneTheKernelKnows) {
  Transaction change = Change();
  change.AddTable().AddSet(kClients).AddSet(kChains).AddSet(kBackends).AddChain({.name = "c"});
  change.AddChain(
      {.name = "pre", .base = nft::BaseChain{nft::ChainType::kNat, nft::Hook::kPrerouting, -105}});
  change.AddChain(
      {.name = "post", .base = nft::BaseChain{nft::ChainType::kNat, nft::Hook::kPostrouting, 95}});
  change.AddChain({.name = "raw",
                   .base = nft::BaseChain{nft::ChainType::kFilter, nft::Hook::kPrerouting, -300}});
  auto rule = [&](const char* chain, Body body) { change.AddRule({chain, std::move(body)}); };
  Source from = Source::Address(IpFamily::kV4, End::kSource);
  rule("raw", Body().Is(Source::InName(), Key().Interface("lo")).Then(nft::Notrack()));
  rule("pre", Body()
                  .HasAny({Source::CtState()}, nft::kStateNew | nft::kStateRelated)
                  .HasNone({Source::CtStatus()}, nft::kStatusDnat)
                  .Is({Source::RouteType{End::kDestination}}, Key().Mark(nft::kAddressLocal))
                  .Load(0, {{Source::Random{3, 0x10000}}, Source::Of(Key().Mark(7))})
                  .Map(0, "backends", 4)
                  .Then(nft::Dnat{IpFamily::kV4, 4, 5}));
  rule("pre", Body()
                  .Load(0, {from, Source::Of(Key().Add(Address("10.0.0.1")).Port(80))})
                  .Update({nft::UpdateSet::Operation::kDelete, "clients", 0, 1, {}})
                  .Update({nft::UpdateSet::Operation::kUpdate, "clients", 0, 1,
                           std::chrono::seconds(30)}));
  rule("pre", Body().Load(0, {Source::Mark()}).Dispatch(0, "chains"));
  rule("pre", Body()
                  .Is({Source::CtOriginal{End::kDestination, IpFamily::kV4, false}},
                      Key().Add(Address("10.0.0.1")))
                  .InRange(Source::Port(), Key().Port(10), Key().Port(20), /*inside=*/false)
                  .Then(nft::Reject()));
  rule("pre", Body().Is(Source::L4Protocol(), Key().Protocol(6)).Then(nft::Reject{true}));
  rule("post", Body().HasAny(Source::Mark(), 0x4000).ClearMarkBits(0x4000).Then(nft::Masquerade()));
  rule("c", Body().SetMarkBits(0x4000).Decide(Verdict::Return()));
  EXPECT_EQ(Errno(change), 0) << message_;
  EXPECT_THAT(List().rules, SizeIs(8));
}

TEST_P(NftTest, AChangeIsDoneWhollyOrNotAtAll) {
  ASSERT_EQ(Errno(Change().AddTable().AddSet(kPorts).AddChain({.name = "a"})), 0);
  ASSERT_EQ(Errno(Change().AddElement(kPorts, PortElement(80))), 0);
  auto before = List();
  Transaction change = Change();
  change.AddChain({.name = "b"})
      .AddRule({"a", Body().Decide(Verdict::Jump("b"))})
      .AddElement(kPorts, PortElement(81))
      .DeleteElement(kPorts, PortElement(80))
      .AddRule({"a", Body().Decide(Verdict::Jump("nowhere")), "astray"});
  EXPECT_EQ(Errno(change), ENOENT);
  EXPECT_THAT(message_, HasSubstr("add rule ip skiff-test a (astray)"));
  EXPECT_EQ(List(), before);
  EXPECT_THAT(Elements(kPorts), ElementsAre(PortElement(80)));
  // Two tables change together, or neither.
  nft::Table other{nft::Family::kIp6, "skiff-test"};
  std::vector<Transaction> both{Transaction(other).AddTable(), Change().DeleteChain("nowhere")};
  EXPECT_FALSE(Run([&] { return nft_->Commit(both); }).ok());
  EXPECT_EQ(Run([&] { return nft_->TableHandle(other); }).error().code(), Code::kNotFound);
  both[1] = Change().DeleteChain("a");
  EXPECT_TRUE(Run([&] { return nft_->Commit(both); }).ok());
  EXPECT_TRUE(Run([&] { return nft_->TableHandle(other); }).ok());
  EXPECT_TRUE(Run([&] { return nft_->Commit(Change()); }).ok()) << "nothing to do";
}

TEST_P(NftTest, WhatIsInUseStays) {
  Transaction change = Change();
  change.AddTable().AddSet(kPorts).AddSet(kChains).AddChain({.name = "a"}).AddChain({.name = "b"});
  change.AddChain({.name = "c"})
      .AddRule({"a", Body()
                         .InSet({Source::L4Protocol(), Source::Port()}, "ports")
                         .Decide(Verdict::Goto("b"))})
      .AddElement(kChains, {.key = Key().Mark(1), .verdict = Verdict::Goto("c")});
  ASSERT_EQ(Errno(change), 0) << message_;
  EXPECT_EQ(Errno(Change().DeleteChain("b")), EBUSY);
  EXPECT_EQ(Errno(Change().DeleteChain("c")), EBUSY);
  EXPECT_THAT(message_, HasSubstr("delete chain ip skiff-test c"));
  EXPECT_EQ(Errno(Change().DeleteSet("ports")), EBUSY);
  EXPECT_EQ(Errno(Change().DeleteSet("no-such")), ENOENT);
  EXPECT_EQ(Errno(Change().DeleteChain("no-such")), ENOENT);
  EXPECT_EQ(Errno(Change().FlushChain("a").DeleteSet("ports").DeleteChain("b").DeleteChain("a")), 0)
      << message_;
  EXPECT_EQ(Errno(Change().DeleteElement(kChains, {.key = Key().Mark(1)}).DeleteChain("c")), 0)
      << message_;
  EXPECT_THAT(List().chains, IsEmpty());
  EXPECT_EQ(Errno(Change().DeleteTable()), 0);
  EXPECT_EQ(Errno(Change().DeleteTable()), ENOENT);
}

TEST_P(NftTest, WhatIsEmptyMayGoAlone) {
  Transaction change = Change().AddTable().AddChain({.name = "a"}).AddChain({.name = "b"});
  change.AddRule({"a", Body().Decide(Verdict::Accept())});
  ASSERT_EQ(Errno(change), 0) << message_;
  EXPECT_EQ(Errno(Change().DeleteEmptyChain("a")), EBUSY);
  EXPECT_EQ(Errno(Change().DeleteEmptyChain("b").DeleteEmptyTable()), EBUSY);
  EXPECT_EQ(Errno(Change().FlushChain("a").DeleteEmptyChain("a").DeleteEmptyTable()), EBUSY);
  EXPECT_EQ(Errno(Change()
                      .FlushChain("a")
                      .DeleteEmptyChain("a")
                      .DeleteEmptyChain("b")
                      .AddSet(kPorts)
                      .DeleteEmptyTable()),
            EBUSY);
  EXPECT_EQ(
      Errno(
          Change().FlushChain("a").DeleteEmptyChain("a").DeleteEmptyChain("b").DeleteEmptyTable()),
      0)
      << message_;
  EXPECT_EQ(Errno(Change().DeleteEmptyTable()), ENOENT);
}

TEST_P(NftTest, ElementsAreThereOnce) {
  ASSERT_EQ(Errno(Change().AddTable().AddSet(kBackends).AddSet(kPorts).AddSet(kClients)), 0);
  auto backend = [](uint32_t number, std::string_view address) {
    return Element{.key = Key().Mark(1).Mark(number),
                   .data = Key().Add(Address(address)).Port(80),
                   .comment = std::string("web ") + std::string(address)};
  };
  ASSERT_EQ(Errno(Change().AddElement(kBackends, backend(0, "10.0.0.1"))), 0) << message_;
  EXPECT_EQ(Errno(Change().AddElement(kBackends, backend(0, "10.0.0.1"))), 0) << message_;
  // EBUSY in older kernels.
  EXPECT_THAT(Errno(Change().AddElement(kBackends, backend(0, "10.0.0.2"))), AnyOf(EEXIST, EBUSY));
  EXPECT_THAT(message_, HasSubstr("backends"));
  EXPECT_THAT(message_, HasSubstr("web 10.0.0.2"));
  EXPECT_EQ(Errno(Change().DeleteElement(kBackends, backend(1, "10.0.0.1"))), ENOENT);
  // Replaced at one moment.
  EXPECT_EQ(Errno(Change()
                      .DeleteElement(kBackends, backend(0, "10.0.0.1"))
                      .AddElement(kBackends, backend(0, "10.0.0.2"))),
            0)
      << message_;
  EXPECT_THAT(Elements(kBackends), ElementsAre(backend(0, "10.0.0.2")));
  EXPECT_EQ(Errno(Change().AddElement(kPorts, {.key = Key().Protocol(6)})), EINVAL);
  EXPECT_EQ(Errno(Change().AddElement(kBackends, {.key = Key().Mark(1).Mark(2)})), EINVAL);
  Element client{.key = Key().Add(Address("10.0.0.9")),
                 .data = Key().Add(Address("10.0.0.1")).Port(80),
                 .timeout = std::chrono::minutes(5)};
  ASSERT_EQ(Errno(Change().AddElement(kClients, client)), 0) << message_;
  EXPECT_THAT(Elements(kClients), ElementsAre(client));
  EXPECT_EQ(Errno(Change().FlushSet("backends").FlushSet("clients")), 0);
  EXPECT_THAT(Elements(kBackends), IsEmpty());
}

TEST_P(NftTest, Ranges) {
  ASSERT_EQ(Errno(Change().AddTable().AddSet(kNets).AddSet(kFlows)), 0);
  auto net = [](std::string_view text) {
    IpPrefix prefix = Prefix(text);
    return Element{.key = Key().Add(prefix.first()), .key_end = Key().Add(prefix.last())};
  };
  // Neighbours, the last of all, and one address.
  Transaction change = Change();
  for (const char* text : {"10.0.0.0/24", "10.0.1.0/24", "255.255.255.0/24", "192.0.2.1/32"}) {
    change.AddElement(kNets, net(text));
  }
  ASSERT_EQ(Errno(change), 0) << message_;
  EXPECT_THAT(Elements(kNets), ElementsAre(net("10.0.0.0/24"), net("10.0.1.0/24"),
                                           net("192.0.2.1/32"), net("255.255.255.0/24")));
  EXPECT_EQ(Errno(Change().DeleteElement(kNets, net("10.0.0.0/24"))), 0) << message_;
  EXPECT_THAT(Elements(kNets), SizeIs(3));
  Element flow{.key = Key().Add(Address("10.0.0.0")).Protocol(6).Port(8000),
               .key_end = Key().Add(Address("10.0.0.255")).Protocol(6).Port(8999)};
  Element other{.key = Key().Add(Address("10.0.0.0")).Protocol(17).Port(53),
                .key_end = Key().Add(Address("10.0.0.255")).Protocol(17).Port(53)};
  ASSERT_EQ(Errno(Change().AddElement(kFlows, flow).AddElement(kFlows, other)), 0) << message_;
  EXPECT_THAT(Elements(kFlows), ElementsAre(flow, other));
  Element inside{.key = Key().Add(Address("10.0.0.7")).Protocol(6).Port(8500)};
  EXPECT_NE(Errno(Change().AddElement(kFlows, inside)), 0) << "it overlaps";
  EXPECT_EQ(Errno(Change().DeleteElement(kFlows, flow)), 0) << message_;
  EXPECT_THAT(Elements(kFlows), ElementsAre(other));
}

TEST_P(NftTest, ChainsDoNotLeadBackToThemselves) {
  Transaction change = Change();
  change.AddTable().AddChain({.name = "a"}).AddChain({.name = "b"});
  change.AddChain({.name = "in", .base = nft::BaseChain{.hook = nft::Hook::kInput}})
      .AddRule({"in", Body().Decide(Verdict::Jump("a"))})
      .AddRule({"a", Body().Decide(Verdict::Jump("b"))});
  ASSERT_EQ(Errno(change), 0) << message_;
  EXPECT_NE(Errno(Change().AddRule({"b", Body().Decide(Verdict::Jump("a"))})), 0);
  EXPECT_NE(Errno(Change().AddRule({"b", Body().Decide(Verdict::Jump("in"))})), 0);
  EXPECT_THAT(List().rules, SizeIs(2));
}

TEST_P(NftTest, TellsWhetherATableIsTheSame) {
  ASSERT_EQ(Errno(Change().AddTable().AddChain({.name = "a"})), 0);
  auto handle = [&] { return Run([&] { return nft_->TableHandle(table_); }); };
  uint64_t first = handle().value();
  EXPECT_EQ(Errno(Change().AddRule({"a", Body().Decide(Verdict::Accept())})), 0);
  EXPECT_EQ(handle().value(), first);
  auto count = [&](const char* chain) {
    return Run([&] { return nft_->CountRules(table_, chain); });
  };
  EXPECT_EQ(count("a").value(), 1u);
  EXPECT_EQ(count("b").error().code(), Code::kNotFound);
  EXPECT_EQ(Errno(Change().FlushAllRules()), 0);
  EXPECT_EQ(count("a").value(), 0u);
  EXPECT_EQ(Errno(Change().DeleteTable().AddTable()), 0);
  EXPECT_NE(handle().value(), first);
  EXPECT_EQ(count("a").error().code(), Code::kNotFound);
}

TEST_P(NftTest, LargeBatchesGoInOnePiece) {
  constexpr uint32_t kMany = 100'000;  // 8 MB: more than a socket takes by default
  Transaction change = Change();
  change.AddTable().AddSet(kBackends);
  for (uint32_t i = 0; i < kMany; ++i) {
    change.AddElement(kBackends, {.key = Key().Mark(i).Mark(i),
                                  .data = Key().Add(Address("10.0.0.0").Plus(i)).Port(80)});
  }
  ASSERT_EQ(Errno(change), 0) << message_;
  EXPECT_THAT(Elements(kBackends), SizeIs(kMany));
  // The last of them is refused, and all are.
  Transaction more = Change();
  for (uint32_t i = 0; i < kMany; ++i) {
    more.AddElement(kBackends, {.key = Key().Mark(i).Mark(i + 1),
                                .data = Key().Add(Address("10.0.0.0").Plus(i)).Port(80)});
  }
  more.DeleteElement(kBackends, {.key = Key().Mark(1).Mark(9)});
  EXPECT_EQ(Errno(more), ENOENT);
  EXPECT_THAT(message_, HasSubstr("delete elements of ip skiff-test backends (from key 01"));
  EXPECT_THAT(Elements(kBackends), SizeIs(kMany));
}

TEST_P(NftTest, NamesThatAreTooLongAreNotSent) {
  ASSERT_EQ(Errno(Change().AddTable()), 0);
  auto refused = Commit(Change().AddChain({.name = std::string(300, 'x')}));
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code(), Code::kInvalidArgument);
  EXPECT_THAT(List().chains, IsEmpty());
}

INSTANTIATE_TEST_SUITE_P(All, NftTest, ::testing::Values(Kind::kFake, Kind::kSystem),
                         [](const auto& param_info) {
                           return param_info.param == Kind::kFake ? "Fake" : "Kernel";
                         });

// A counter that may be waited for.
class Calls {
 public:
  void Note() {
    std::lock_guard lock(mutex_);
    ++count_;
    called_.notify_all();
  }
  bool WaitFor(int count) {
    std::unique_lock lock(mutex_);
    return called_.wait_for(lock, std::chrono::seconds(20), [&] { return count_ >= count; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable called_;
  int count_ = 0;
};

TEST(SystemNft, TellsWhatStrangersDo) {
  SKIFF_NEEDS(test::Need::kRoot, test::Need::kNftables);
  auto node = test::TestNode::Make("node");
  nft::Table table{nft::Family::kIp6, "t"};
  Calls calls;
  SystemNft nft;
  std::unique_ptr<NftWatch> watch;
  node->Run([&] {
    watch = nft.Watch([&calls] { calls.Note(); }).value();
    ASSERT_TRUE(nft.Commit(Transaction(table).AddTable()).ok());
  });
  node->Shell("nft add chain ip6 t c");
  EXPECT_TRUE(calls.WaitFor(1));
  node->Shell("nft delete table ip6 t");
  EXPECT_TRUE(calls.WaitFor(2));
  // So many that the socket overflows, if it took all of them.
  node->Shell(
      "nft -f - <<E\nadd table ip t\nadd set ip t s { type mark; }\nadd element ip t s { $(seq -s "
      ", "
      "20000) }\nE");
  EXPECT_TRUE(calls.WaitFor(3));
  watch.reset();
  node->Shell("nft flush ruleset");
}

// What the steps do to packets; the fake knows none.
TEST(SystemNft, RulesDecideAboutPackets) {
  SKIFF_NEEDS(test::Need::kRoot, test::Need::kNftables);
  auto node = test::TestNode::Make("node");
  test::EchoServer web(node->netns(), test::Transport::kTcp, IpAddress::Parse("::").value(), 8080,
                       "web");
  nft::Table table{nft::Family::kIp4, "t"};
  nft::Set denied{.name = "denied", .key = {Type::kIp4, Type::kPort}, .interval = true};
  Transaction change(table);
  change.AddTable().AddSet(denied).AddSet(kBackends).AddSet(kChains);
  change.AddChain(
      {.name = "out",
       .base = nft::BaseChain{nft::ChainType::kNat, nft::Hook::kOutput, nft::kPriorityDstNat}});
  change.AddChain({.name = "refuse"}).AddRule({"refuse", Body().Then(nft::Reject())});
  Source to = Source::Address(IpFamily::kV4, End::kDestination);
  change.AddRule(
      {"out", Body().InSet({to, Source::Port()}, "denied").Decide(Verdict::Goto("refuse"))});
  change.AddRule({"out", Body()
                             .Is(Source::Port(), Key().Port(80))
                             .Load(0, {Source::Of(Key().Mark(1)), {Source::Random{1, 5}}})
                             .Map(0, "backends", 4)
                             .Then(nft::Dnat{IpFamily::kV4, 4, 5})});
  change.AddElement(kBackends, {.key = Key().Mark(1).Mark(5),
                                .data = Key().Add(Address("127.0.0.1")).Port(8080)});
  change.AddElement(denied, {.key = Key().Add(Address("127.0.0.0")).Port(81),
                             .key_end = Key().Add(Address("127.0.0.9")).Port(89)});
  node->Run([&] {
    SystemNft nft;
    auto committed = nft.Commit(change);
    ASSERT_TRUE(committed.ok()) << committed.error().ToString();
    auto ask = [](const char* address, uint16_t port) {
      return test::Ask(test::Transport::kTcp, Address(address), port);
    };
    EXPECT_EQ(ask("127.0.0.1", 8080).server, "web");
    EXPECT_EQ(ask("127.0.0.1", 80).server, "web");
    EXPECT_EQ(ask("127.0.0.1", 85).error, ECONNREFUSED);
    // Nobody listens there either, but the answer is a reset.
    EXPECT_EQ(ask("127.0.0.10", 85).error, ECONNREFUSED);
    ASSERT_TRUE(nft.Commit(Transaction(table).DeleteTable()).ok());
    EXPECT_EQ(ask("127.0.0.1", 80).error, ECONNREFUSED);
  });
}

}  // namespace
}  // namespace skiff::net

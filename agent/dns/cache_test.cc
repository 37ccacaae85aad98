#include "agent/dns/cache.h"

#include <gtest/gtest.h>

namespace skiff::agent::dns {
namespace {

using std::chrono::seconds;

Question Ask(const std::string& name) { return {*ParseName(name), kA, false, false}; }

Answer Positive(uint32_t ttl) {
  Answer answer;
  answer.answers = {AddressRecord(*ParseName("a.example"), net::IpAddress::V4(1, 2, 3, 4), ttl)};
  return answer;
}

Answer Negative(uint32_t soa_ttl) {
  Answer answer;
  answer.rcode = Rcode::kNxDomain;
  answer.authority = {SoaRecord(*ParseName("example"), 1, soa_ttl)};
  return answer;
}

class CacheTest : public testing::Test {
 protected:
  SteadyTime now_{seconds(1000)};
  Cache cache_{10'000};
};

TEST_F(CacheTest, CountsDownAndEnds) {
  cache_.Store(Ask("a.example"), Positive(30), now_);
  ASSERT_NE(cache_.Find(Ask("a.example"), now_ + seconds(10)), nullptr);
  EXPECT_EQ(cache_.Find(Ask("a.example"), now_ + seconds(10))->answers[0].ttl, 20u);
  EXPECT_EQ(cache_.Find(Ask("a.example"), now_ + seconds(30)), nullptr);
  const Answer* stale = cache_.FindStale(Ask("a.example"), now_ + seconds(31));
  ASSERT_NE(stale, nullptr);
  EXPECT_EQ(stale->answers[0].ttl, 30u) << "RFC 8767: 30 s";
  EXPECT_EQ(cache_.FindStale(Ask("a.example"), now_ + seconds(30 + 3600)), nullptr);
}

TEST_F(CacheTest, WhatMakesAQuestionAnother) {
  cache_.Store(Ask("a.example"), Positive(30), now_);
  Question other = Ask("a.example");
  other.type = kAaaa;
  EXPECT_EQ(cache_.Find(other, now_), nullptr);
  other = Ask("a.example");
  other.dnssec_ok = true;
  EXPECT_EQ(cache_.Find(other, now_), nullptr);
}

TEST_F(CacheTest, HowLong) {
  EXPECT_EQ(KeepFor(Positive(30)), seconds(30));
  EXPECT_EQ(KeepFor(Positive(0)), seconds(0));
  EXPECT_EQ(KeepFor(Positive(1'000'000)), seconds(3600));
  EXPECT_EQ(KeepFor(Negative(60)), seconds(60));
  EXPECT_EQ(KeepFor(Negative(86400)), seconds(300));
  Answer no_soa;
  no_soa.rcode = Rcode::kNxDomain;
  EXPECT_EQ(KeepFor(no_soa), seconds(0));
  Answer failure;
  failure.rcode = Rcode::kServFail;
  EXPECT_EQ(KeepFor(failure), seconds(1));
}

TEST_F(CacheTest, FailuresAreNeverGivenStale) {
  Answer failure;
  failure.rcode = Rcode::kServFail;
  cache_.Store(Ask("a.example"), failure, now_);
  EXPECT_NE(cache_.Find(Ask("a.example"), now_), nullptr);
  EXPECT_EQ(cache_.FindStale(Ask("a.example"), now_ + seconds(2)), nullptr);
}

TEST_F(CacheTest, BoundedAndTheLeastUsedGoes) {
  for (int i = 0; i < 1000; ++i) {
    cache_.Store(Ask("host" + std::to_string(i) + ".example"), Positive(30), now_);
    cache_.Find(Ask("host0.example"), now_);
    ASSERT_LE(cache_.bytes(), 10'000u);
  }
  EXPECT_NE(cache_.Find(Ask("host0.example"), now_), nullptr);
  EXPECT_NE(cache_.Find(Ask("host999.example"), now_), nullptr);
  EXPECT_EQ(cache_.Find(Ask("host1.example"), now_), nullptr);
  cache_.Clear();
  EXPECT_EQ(cache_.bytes(), 0u);
}

}  // namespace
}  // namespace skiff::agent::dns

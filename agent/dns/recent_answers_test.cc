#include "agent/dns/recent_answers.h"

#include <gtest/gtest.h>

#include "agent/dns/message.h"

namespace skiff::agent::dns {
namespace {

const Name kWebName = *ParseName("web.shop.svc.cluster.local");

std::string QuestionBytes(uint16_t id, uint16_t type = kA) {
  return WriteQuery(id, kWebName, type, false, false);
}

std::string AnswerOf(const std::string& question, int addresses) {
  Answer answer;
  for (int i = 0; i < addresses; ++i) {
    answer.answers.push_back(
        AddressRecord(kWebName, net::IpAddress::V4(10, 0, 0, static_cast<uint8_t>(i)), 5));
  }
  return WriteResponse(ParseQuery(question)->query, answer, kMaxUdpBytes);
}

TEST(RecentAnswersTest, TheSameQuestionUnderAnotherId) {
  RecentAnswers recent;
  EXPECT_EQ(recent.Recall(QuestionBytes(1)), "");
  recent.Learn(QuestionBytes(1), AnswerOf(QuestionBytes(1), 1), 1);
  EXPECT_EQ(recent.Recall(QuestionBytes(2)), AnswerOf(QuestionBytes(2), 1));
  EXPECT_EQ(recent.Recall(QuestionBytes(1)), AnswerOf(QuestionBytes(1), 1));
  EXPECT_EQ(recent.Recall(QuestionBytes(1, kAaaa)), "");
  std::string upper = QuestionBytes(1);
  upper[kHeaderBytes + 1] = 'W';
  EXPECT_EQ(recent.Recall(upper), "") << "the client's own spelling stands in the answer";
  recent.Forget();
  EXPECT_EQ(recent.Recall(QuestionBytes(1)), "");
}

TEST(RecentAnswersTest, AddressesTakeTurnsInBeingFirst) {
  RecentAnswers recent;
  recent.Learn(QuestionBytes(1), AnswerOf(QuestionBytes(1), 3), 3);
  std::string order;
  for (int i = 0; i < 6; ++i) {
    auto response = ParseResponse(recent.Recall(QuestionBytes(1)));
    ASSERT_TRUE(response);
    ASSERT_EQ(response->answers.size(), 3u);
    order += std::to_string(response->answers[0].data[3]);
  }
  EXPECT_EQ(order, "120120");
}

TEST(RecentAnswersTest, WhatIsNotAlikeStaysInOrder) {
  RecentAnswers recent;
  std::string one = AnswerOf(QuestionBytes(1), 1);
  recent.Learn(QuestionBytes(1), one, 5);
  EXPECT_EQ(recent.Recall(QuestionBytes(1)), one);
  for (const std::string& odd : {std::string(kHeaderBytes, '\0'), std::string(20, '\xff')}) {
    recent.Learn(QuestionBytes(1), odd, 2);
    EXPECT_EQ(recent.Recall(QuestionBytes(1)).substr(2), odd.substr(2));
  }
}

TEST(RecentAnswersTest, LongOnesAreNotRemembered) {
  RecentAnswers recent(1);
  recent.Learn(QuestionBytes(1), std::string(5000, 'x'), 0);
  EXPECT_EQ(recent.Recall(QuestionBytes(1)), "");
  recent.Learn("short", AnswerOf(QuestionBytes(1), 1), 0);
  EXPECT_EQ(recent.Recall("short"), "");
}

}  // namespace
}  // namespace skiff::agent::dns

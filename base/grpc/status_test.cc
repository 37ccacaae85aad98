#include "base/grpc/status.h"

#include <gtest/gtest.h>

#include <set>

namespace skiff {
namespace {

TEST(GrpcStatusTest, EveryCodeArrivesAsItLeft) {
  std::set<int> statuses;
  for (int number = 1; number <= static_cast<int>(Code::kDataLoss); ++number) {
    Error error(static_cast<Code>(number), "why " + std::to_string(number));
    grpc::Status status = ToGrpcStatus(error);
    EXPECT_FALSE(status.ok());
    statuses.insert(status.error_code());
    Error back = FromGrpcStatus(status);
    EXPECT_EQ(back.code(), error.code()) << error.ToString();
    EXPECT_EQ(back.message(), error.message());
  }
  EXPECT_EQ(statuses.size(), 16u) << "all that gRPC has beside OK";
}

TEST(GrpcStatusTest, WhatPeersReadTheNamesOf) {
  EXPECT_TRUE(ToGrpcStatus({}).ok());
  EXPECT_EQ(ToGrpcStatus(Error(Code::kNotFound, "")).error_code(), grpc::NOT_FOUND);
  EXPECT_EQ(ToGrpcStatus(Error(Code::kExpired, "")).error_code(), grpc::OUT_OF_RANGE);
  EXPECT_EQ(ToGrpcStatus(Error(Code::kUnknownOutcome, "")).error_code(), grpc::UNKNOWN);
}

TEST(GrpcStatusTest, AnUndefinedNumberSaysNothingAboutTheOutcome) {
  EXPECT_EQ(FromGrpcStatus({grpc::StatusCode::DO_NOT_USE, "?"}).code(), Code::kUnknownOutcome);
}

}  // namespace
}  // namespace skiff

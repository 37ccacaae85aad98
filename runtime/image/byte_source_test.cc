#include "runtime/image/byte_source.h"

#include <gtest/gtest.h>

#include <thread>

#include "runtime/image/testing/image_builder.h"

namespace skiff::runtime {
namespace {

Result<std::string> ReadAll(ByteSource& source) {
  std::string all;
  while (true) {
    const std::string_view chunk = TRY(source.Next());
    if (chunk.empty()) return all;
    all += chunk;
  }
}

Result<std::string> Inflate(const std::string& packed, size_t chunk) {
  MemorySource memory(packed, chunk);
  InflatingSource inflating(memory);
  return ReadAll(inflating);
}

std::string Pattern(size_t size) {
  std::string text;
  for (size_t i = 0; text.size() < size; ++i) text += std::to_string(i * 7919);
  text.resize(size);
  return text;
}

TEST(InflatingSource, TellsTheFormatsApart) {
  const std::string text = Pattern(1 << 20);
  for (const size_t chunk : {size_t{1}, size_t{3}, size_t{100'000}, SIZE_MAX}) {
    EXPECT_EQ(*Inflate(testing::Gzip(text), chunk), text);
    EXPECT_EQ(*Inflate(testing::Zstd(text), chunk), text);
    EXPECT_EQ(*Inflate(text, chunk), text);
  }
  EXPECT_EQ(*Inflate("", 1), "");
  EXPECT_EQ(*Inflate("ab", 1), "ab");
}

TEST(InflatingSource, ReadsAllMembersAndFrames) {
  EXPECT_EQ(*Inflate(testing::Gzip("one ") + testing::Gzip("two"), 5), "one two");
  EXPECT_EQ(*Inflate(testing::Zstd("one ") + testing::Zstd("two"), 5), "one two");
  EXPECT_EQ(*Inflate(testing::Gzip("one") + std::string(512, '\0'), 5), "one");
}

TEST(InflatingSource, SeesDamage) {
  for (const std::string& packed : {testing::Gzip(Pattern(5000)), testing::Zstd(Pattern(5000))}) {
    const auto cut = Inflate(packed.substr(0, packed.size() - 3), SIZE_MAX);
    ASSERT_FALSE(cut.ok());
    EXPECT_EQ(cut.error().code(), Code::kDataLoss);
  }
  // zstd frames need not carry a checksum; their damage shows in the digest.
  std::string broken = testing::Gzip(Pattern(5000));
  broken[broken.size() / 2] ^= 0x55;
  EXPECT_EQ(Inflate(broken, SIZE_MAX).error().code(), Code::kDataLoss);
}

TEST(HashingSource, HashesAndBounds) {
  MemorySource memory("hello", 2);
  HashingSource hashing(memory, "sha256", 5);
  EXPECT_EQ(*hashing.Finish(), Digest::OfBytes("hello"));
  MemorySource more("hello!");
  HashingSource bounded(more, "sha256", 5);
  EXPECT_EQ(bounded.Finish().error().code(), Code::kResourceExhausted);
}

TEST(ByteQueue, CarriesBytesBetweenThreads) {
  ByteQueue queue(1000);
  const std::string text = Pattern(100'000);
  std::thread writer([&] {
    for (size_t at = 0; at < text.size(); at += 777) {
      ASSERT_TRUE(queue.Push(std::string_view(text).substr(at, 777)));
    }
    queue.CloseWriter({});
  });
  EXPECT_EQ(*ReadAll(queue), text);
  writer.join();
}

TEST(ByteQueue, EndsBothWays) {
  ByteQueue failed(1000);
  failed.Push("x");
  failed.CloseWriter(Error(Code::kUnavailable, "broke"));
  EXPECT_EQ(ReadAll(failed).error().code(), Code::kUnavailable);
  ByteQueue abandoned(10);
  EXPECT_TRUE(abandoned.Push("0123456789"));
  std::thread writer([&] { EXPECT_FALSE(abandoned.Push("x")); });  // waits, then is told
  abandoned.CloseReader();
  writer.join();
}

}  // namespace
}  // namespace skiff::runtime

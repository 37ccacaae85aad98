#include "agent/tunnel/log_reader.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <future>
#include <thread>

#include "base/os/files.h"

namespace skiff::agent {
namespace {

constexpr char kLog[] =
    "2026-01-02T03:04:05.000000001Z stdout F one\n"
    "2026-01-02T03:04:06.000000002Z stderr F two\n"
    "2026-01-02T03:04:07.000000003Z stdout P thr\n"
    "2026-01-02T03:04:07.000000004Z stdout F ee\n"
    "this is no log line\n"
    "2026-01-02T03:04:08.000000005Z stdout F \n";

class LogReaderTest : public ::testing::Test {
 protected:
  void Append(const std::string& text) {
    auto fd = OpenFile(path, O_WRONLY | O_CREAT | O_APPEND);
    ASSERT_TRUE(fd.ok());
    ASSERT_TRUE(WriteAll(fd->get(), text).ok());
  }
  std::string Read(const LogOptions& options) {
    std::string out;
    LogSink sink;
    sink.write = [&](std::string data) {
      out += data;
      return true;
    };
    sink.running = [] { return false; };
    auto read = ReadLog(path, options, sink);
    EXPECT_TRUE(read.ok());
    return out;
  }
  TempDir directory = TempDir::Make().value();
  std::string path = directory.path() + "/0.log";
};

TEST_F(LogReaderTest, JoinsPartsAndSkipsNoise) {
  Append(kLog);
  EXPECT_EQ(Read({}), "one\ntwo\nthree\n\n");
}

TEST_F(LogReaderTest, ChoosesAStream) {
  Append(kLog);
  LogOptions options;
  options.stream = "stderr";
  EXPECT_EQ(Read(options), "two\n");
}

TEST_F(LogReaderTest, TimestampsStandBeforeWholeLines) {
  Append(kLog);
  LogOptions options;
  options.timestamps = true;
  options.tail_lines = 4;  // of the file: the parts and the noise count
  EXPECT_EQ(Read(options),
            "2026-01-02T03:04:07.000000003Z three\n2026-01-02T03:04:08.000000005Z \n");
}

TEST_F(LogReaderTest, TailIsExactAcrossChunks) {
  std::string expected;
  for (int i = 0; i < 5000; ++i) {
    std::string text = "line " + std::to_string(i) + std::string(static_cast<size_t>(i % 50), '.');
    Append("2026-01-02T03:04:05.000000001Z stdout F " + text + "\n");
    if (i >= 5000 - 3000) expected += text + "\n";
  }
  LogOptions options;
  options.tail_lines = 3000;
  EXPECT_EQ(Read(options), expected);
  options.tail_lines = 0;
  EXPECT_EQ(Read(options), "");
  options.tail_lines = 1'000'000;
  EXPECT_EQ(Read(options).substr(0, 7), "line 0\n");
}

TEST_F(LogReaderTest, SinceAndLimit) {
  Append(kLog);
  LogOptions options;
  options.since = ParseTime("2026-01-02T03:04:06Z").value();
  EXPECT_EQ(Read(options), "two\nthree\n\n");
  options.limit_bytes = 6;
  EXPECT_EQ(Read(options), "two\nth");
}

TEST_F(LogReaderTest, FollowsAcrossARotationAndEndsWithTheContainer) {
  Append("2026-01-02T03:04:05.000000001Z stdout F one\n");
  std::atomic<bool> running = true;
  std::atomic<int> lines = 0;
  std::string out;
  LogSink sink;
  sink.write = [&](std::string data) {
    out += data;
    lines = static_cast<int>(std::count(out.begin(), out.end(), '\n'));
    return true;
  };
  sink.running = [&] { return running.load(); };
  LogOptions options;
  options.follow = true;
  std::thread reader([&] { EXPECT_TRUE(ReadLog(path, options, sink).ok()); });
  auto await = [&](int count) {
    while (lines < count) std::this_thread::yield();
  };
  await(1);
  Append("2026-01-02T03:04:05.000000002Z stdout F two\n");
  await(2);
  // As the writer rotates: the last line of the old file, a new file in its place.
  Append("2026-01-02T03:04:05.000000003Z stdout F three\n");
  ASSERT_EQ(::rename(path.c_str(), (path + ".1").c_str()), 0);
  Append("2026-01-02T03:04:05.000000004Z stdout F four\n");
  await(4);
  Append("2026-01-02T03:04:05.000000005Z stdout F five\n");
  running = false;
  reader.join();
  EXPECT_EQ(out, "one\ntwo\nthree\nfour\nfive\n");
}

TEST_F(LogReaderTest, ASlowFollowerReadsEveryRotatedFile) {
  auto line = [](int number) {
    return "2026-01-02T03:04:05.000000001Z stdout F " + std::to_string(number) + "\n";
  };
  // As the writer does it, with three files kept beside the live one.
  auto rotate = [&] {
    for (int number = 3; number >= 1; --number) {
      const std::string from = number == 1 ? path : path + "." + std::to_string(number - 1);
      (void)::rename(from.c_str(), (path + "." + std::to_string(number)).c_str());
    }
  };
  Append(line(1));
  std::promise<void> reading;
  std::promise<void> written;
  std::string out;
  LogSink sink;
  sink.write = [&](std::string data) {
    if (out.empty()) {
      reading.set_value();
      written.get_future().wait();  // a client that takes its time
    }
    out += data;
    return true;
  };
  sink.running = [] { return false; };
  LogOptions options;
  options.follow = true;
  std::thread reader([&] { EXPECT_TRUE(ReadLog(path, options, sink).ok()); });
  reading.get_future().wait();
  for (int number = 2; number <= 4; ++number) {
    rotate();
    Append(line(number));
  }
  written.set_value();
  reader.join();
  EXPECT_EQ(out, "1\n2\n3\n4\n");
}

TEST_F(LogReaderTest, AFollowerOfADroppedFileGoesOnWithTheOldestThereIs) {
  auto append = [&](int number) {
    Append("2026-01-02T03:04:05.000000001Z stdout F " + std::to_string(number) + "\n");
  };
  append(1);
  std::promise<void> reading;
  std::promise<void> written;
  std::string out;
  LogSink sink;
  sink.write = [&](std::string data) {
    if (out.empty()) {
      reading.set_value();
      written.get_future().wait();
    }
    out += data;
    return true;
  };
  sink.running = [] { return false; };
  LogOptions options;
  options.follow = true;
  std::thread reader([&] { EXPECT_TRUE(ReadLog(path, options, sink).ok()); });
  reading.get_future().wait();
  for (int number = 2; number <= 5; ++number) {
    ASSERT_EQ(::rename((path + ".1").c_str(), (path + ".2").c_str()) == 0, number > 2);
    ASSERT_EQ(::rename(path.c_str(), (path + ".1").c_str()), 0);
    append(number);
  }
  written.set_value();
  reader.join();
  EXPECT_EQ(out, "1\n3\n4\n5\n");
}

TEST_F(LogReaderTest, StopsWhenNobodyListens) {
  Append("2026-01-02T03:04:05.000000001Z stdout F one\n");
  auto pipe = MakePipe();
  ASSERT_TRUE(pipe.ok());
  LogSink sink;
  sink.write = [&](std::string) {
    (void)pipe->write_end.Close();  // the reading end becomes readable: end of file
    return true;
  };
  sink.running = [] { return true; };
  sink.stop_fd = pipe->read_end.get();
  LogOptions options;
  options.follow = true;
  EXPECT_TRUE(ReadLog(path, options, sink).ok());
}

TEST(ParseLogLineTest, TakesWhatTheFormatAllows) {
  EXPECT_FALSE(ParseLogLine("").has_value());
  EXPECT_FALSE(ParseLogLine("2026 stdout").has_value());
  EXPECT_FALSE(ParseLogLine("2026 other F x").has_value());
  EXPECT_FALSE(ParseLogLine("2026 stdout X x").has_value());
  auto line = ParseLogLine("2026 stdout P:more  two spaces");
  ASSERT_TRUE(line.has_value());
  EXPECT_TRUE(line->partial);
  EXPECT_EQ(line->text, " two spaces");
  ASSERT_TRUE(ParseLogLine("2026 stderr F").has_value());
}

}  // namespace
}  // namespace skiff::agent

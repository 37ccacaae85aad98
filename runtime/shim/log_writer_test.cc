#include "runtime/shim/log_writer.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>

#include "base/os/files.h"

namespace skiff::runtime {
namespace {

const WallTime kTime{std::chrono::nanoseconds(1'700'000'000'000'000'006)};
constexpr std::string_view kStamp = "2023-11-14T22:13:20.000000006Z";

class LogWriterTest : public ::testing::Test {
 protected:
  LogWriterTest() : directory_(std::move(TempDir::Make()).value()) {}
  std::string Path() const { return directory_.path() + "/pod/0.log"; }
  std::string Content(const std::string& suffix = "") const {
    return ReadFile(Path() + suffix).value();
  }
  static std::string Line(std::string_view rest) {
    return std::string(kStamp) + " " + std::string(rest) + "\n";
  }

  TempDir directory_;
};

TEST_F(LogWriterTest, LinesOfBothStreams) {
  LogWriter log({.path = Path()});
  ASSERT_TRUE(log.Open().ok());
  log.Write(LogStream::kStdout, "one\ntw", kTime);
  log.Write(LogStream::kStderr, "\n", kTime);
  log.Write(LogStream::kStdout, "o\n", kTime);
  EXPECT_EQ(Content(), Line("stdout F one") + Line("stderr F ") + Line("stdout F two"));
}

TEST_F(LogWriterTest, LongLinesComeInPieces) {
  LogWriter log({.path = Path()});
  ASSERT_TRUE(log.Open().ok());
  std::string exact(kLogPieceBytes, 'x');
  log.Write(LogStream::kStdout, exact + "\n", kTime);
  EXPECT_EQ(Content(), Line("stdout F " + exact));
  log.Write(LogStream::kStdout, exact + "yz\n", kTime);
  EXPECT_EQ(Content(), Line("stdout F " + exact) + Line("stdout P " + exact) + Line("stdout F yz"));
}

TEST_F(LogWriterTest, PiecesDoNotDependOnHowTheOutputWasRead) {
  std::string text;
  for (int i = 0; i < 300; ++i) text += std::string(static_cast<size_t>(i * 37 % 1000), 'a') + "\n";
  text += std::string(40000, 'b') + "\nend";
  std::string whole;
  for (size_t chunk : {text.size(), size_t{1}, size_t{7}, size_t{16384}, size_t{65536}}) {
    LogWriter log({.path = Path()});
    ASSERT_TRUE(log.Open().ok());
    for (size_t at = 0; at < text.size(); at += chunk) {
      log.Write(LogStream::kStdout, std::string_view(text).substr(at, chunk), kTime);
    }
    log.Finish(LogStream::kStdout, kTime);
    if (whole.empty()) whole = Content();
    EXPECT_EQ(Content(), whole) << "read in chunks of " << chunk;
    ASSERT_TRUE(RemoveFile(Path()).ok());
  }
  EXPECT_TRUE(whole.ends_with(Line("stdout P end")));
}

TEST_F(LogWriterTest, ReopenAfterRenameLosesNothing) {
  LogWriter log({.path = Path()});
  ASSERT_TRUE(log.Open().ok());
  log.Write(LogStream::kStdout, "old\nha", kTime);
  ASSERT_EQ(std::rename(Path().c_str(), (Path() + ".old").c_str()), 0);
  ASSERT_TRUE(log.Open().ok());
  log.Write(LogStream::kStdout, "lf\n", kTime);
  EXPECT_EQ(Content(".old"), Line("stdout F old"));
  EXPECT_EQ(Content(), Line("stdout F half"));
}

TEST_F(LogWriterTest, RotatesAtTheLineThatWouldNotFit) {
  const std::string line = Line("stdout F 0123456789");
  LogWriter log({.path = Path(), .rotate_bytes = 2 * line.size(), .keep_files = 3});
  ASSERT_TRUE(log.Open().ok());
  for (int i = 0; i < 7; ++i) log.Write(LogStream::kStdout, "0123456789\n", kTime);
  EXPECT_EQ(Content(), line);
  EXPECT_EQ(Content(".1"), line + line);
  EXPECT_EQ(Content(".2"), line + line);
  EXPECT_FALSE(PathExists(Path() + ".3"));
}

TEST_F(LogWriterTest, ALineThatNeverEndsRotatesToo) {
  const std::string piece = Line("stdout P " + std::string(kLogPieceBytes, 'x'));
  LogWriter log({.path = Path(), .rotate_bytes = piece.size(), .keep_files = 3});
  ASSERT_TRUE(log.Open().ok());
  for (int i = 0; i < 20; ++i) {
    log.Write(LogStream::kStdout, std::string(kLogPieceBytes, 'x'), kTime);
  }
  for (const char* file : {"", ".1", ".2"}) EXPECT_LE(Content(file).size(), 2 * piece.size());
  EXPECT_EQ(Content(".1"), piece + piece);
  EXPECT_FALSE(PathExists(Path() + ".3"));
}

TEST_F(LogWriterTest, WhatAFullDiskCutShortEndsBeforeTheNextLine) {
  const std::string line = Line("stdout F 0123456789");
  LogWriter log({.path = Path()});
  ASSERT_TRUE(log.Open().ok());
  // A file of limited size is as good as a full disk: write(2) takes what fits, then fails.
  auto* on_limit = ::signal(SIGXFSZ, SIG_IGN);
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  rlimit small = before;
  small.rlim_cur = line.size() + 5;
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  log.Write(LogStream::kStdout, "0123456789\n0123456789\n", kTime);
  log.Write(LogStream::kStdout, "lost\n", kTime);
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
  ::signal(SIGXFSZ, on_limit);
  EXPECT_GT(log.dropped_bytes(), 0U);
  log.Write(LogStream::kStdout, "0123456789\n", kTime);
  log.Write(LogStream::kStdout, "0123456789\n", kTime);
  EXPECT_EQ(Content(), line + line.substr(0, 5) + "\n" + line + line);
}

TEST_F(LogWriterTest, NoPathIsNoLog) {
  LogWriter log({});
  ASSERT_TRUE(log.Open().ok());
  log.Write(LogStream::kStdout, "x\n", kTime);
  log.Finish(LogStream::kStdout, kTime);
  EXPECT_EQ(log.dropped_bytes(), 0U);
}

}  // namespace
}  // namespace skiff::runtime

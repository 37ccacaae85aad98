#include "base/os/files.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

namespace skiff {
namespace {

TEST(FilesTest, WritesAtomicallyAndReadsBack) {
  TempDir dir = TempDir::Make().value();
  std::string path = dir.path() + "/record";
  ASSERT_TRUE(WriteFileAtomic(path, "one").ok());
  ASSERT_TRUE(WriteFileAtomic(path, "two", Durability::kNone, 0640).ok());
  EXPECT_EQ(ReadFile(path).value(), "two");
  struct stat info;
  ASSERT_EQ(::stat(path.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0640u);
  EXPECT_EQ(ListDirectory(dir.path()).value(), std::vector<std::string>{"record"});
}

TEST(FilesTest, WritesInPlaceWhatWasThereBefore) {
  TempDir dir = TempDir::Make().value();
  const std::string path = dir.path() + "/hostname";
  ASSERT_TRUE(WriteFileInPlace(path, "a longer name", 0640).ok());
  ASSERT_TRUE(WriteFileInPlace(path, "a name", 0640, FileOwner{::getuid(), ::getgid()}).ok());
  EXPECT_EQ(ReadFile(path).value(), "a name");
  struct stat info;
  ASSERT_EQ(::stat(path.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0640u);
  EXPECT_FALSE(WriteFileInPlace(dir.path(), "x").ok());
}

TEST(FilesTest, AFileHasItsOwnerWithItsName) {
  TempDir dir = TempDir::Make().value();
  const std::string path = dir.path() + "/record";
  ASSERT_TRUE(
      WriteFileAtomic(path, "mine", Durability::kNone, 0644, FileOwner{::getuid(), ::getgid()})
          .ok());
  // Root may give files away; for others it fails, and what was there stays.
  const FileOwner another{4711, 4712};
  const auto given = WriteFileAtomic(path, "another's", Durability::kNone, 0644, another);
  struct stat info;
  ASSERT_EQ(::stat(path.c_str(), &info), 0);
  if (::getuid() == 0) {
    ASSERT_TRUE(given.ok()) << given.error().ToString();
    EXPECT_EQ(info.st_uid, another.user);
    EXPECT_EQ(info.st_gid, another.group);
    EXPECT_EQ(ReadFile(path).value(), "another's");
  } else {
    EXPECT_EQ(given.error().sys_errno(), EPERM);
    EXPECT_EQ(info.st_uid, ::getuid());
    EXPECT_EQ(ReadFile(path).value(), "mine");
  }
  EXPECT_EQ(ListDirectory(dir.path()).value(), std::vector<std::string>{"record"});
}

TEST(FilesTest, AFailedAtomicWriteLeavesNothing) {
  TempDir dir = TempDir::Make().value();
  std::string target = dir.path() + "/taken";
  ASSERT_TRUE(MakeDirectories(target + "/child").ok());
  EXPECT_FALSE(WriteFileAtomic(target, "x").ok());
  EXPECT_EQ(ListDirectory(dir.path()).value(), std::vector<std::string>{"taken"});
}

TEST(FilesTest, SubdirectoriesAreNoFilesAndNoLinks) {
  TempDir dir = TempDir::Make().value();
  ASSERT_TRUE(MakeDirectories(dir.path() + "/b").ok());
  ASSERT_TRUE(MakeDirectories(dir.path() + "/a/below").ok());
  ASSERT_TRUE(WriteFileAtomic(dir.path() + "/file", "x").ok());
  ASSERT_EQ(::symlink("a", (dir.path() + "/link").c_str()), 0);
  EXPECT_EQ(ListSubdirectories(dir.path()).value(), (std::vector<std::string>{"a", "b"}));
  EXPECT_FALSE(ListSubdirectories(dir.path() + "/none").ok());
}

TEST(FilesTest, ReadFileHasALimit) {
  TempDir dir = TempDir::Make().value();
  std::string path = dir.path() + "/big";
  ASSERT_TRUE(WriteFileAtomic(path, std::string(100, 'x')).ok());
  EXPECT_EQ(ReadFile(path, 99).error().code(), Code::kResourceExhausted);
  EXPECT_EQ(ReadFile(path, 100).value().size(), 100u);
  EXPECT_EQ(ReadFile(dir.path() + "/none").error().sys_errno(), ENOENT);
}

TEST(FilesTest, RemoveTreeDoesNotFollowSymlinks) {
  TempDir dir = TempDir::Make().value();
  ASSERT_TRUE(MakeDirectories(dir.path() + "/keep").ok());
  ASSERT_TRUE(WriteFileAtomic(dir.path() + "/keep/file", "x").ok());
  ASSERT_TRUE(MakeDirectories(dir.path() + "/tree/a/b").ok());
  ASSERT_EQ(::symlink((dir.path() + "/keep").c_str(), (dir.path() + "/tree/a/link").c_str()), 0);
  ASSERT_TRUE(RemoveTree(dir.path() + "/tree").ok());
  ASSERT_TRUE(RemoveTree(dir.path() + "/tree").ok());
  EXPECT_FALSE(PathExists(dir.path() + "/tree"));
  EXPECT_TRUE(PathExists(dir.path() + "/keep/file"));
}

TEST(FilesTest, RemoveTreeGoesAsDeepAsTheTree) {
  TempDir dir = TempDir::Make().value();
  ASSERT_TRUE(MakeDirectories(dir.path() + "/tree/deep-0").ok());  // a name that it uses itself
  UniqueFd at = OpenFile(dir.path() + "/tree", O_RDONLY | O_DIRECTORY).value();
  constexpr int kDepth = 3000;  // far longer than any path, and than what one may open
  for (int i = 0; i < kDepth; ++i) {
    ASSERT_EQ(::mkdirat(at.get(), "d", 0755), 0);
    UniqueFd file(::openat(at.get(), "f", O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    UniqueFd next(::openat(at.get(), "d", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    ASSERT_TRUE(file && next);
    at = std::move(next);
  }
  at.Reset();
  const Result<> removed = RemoveTree(dir.path() + "/tree");
  EXPECT_TRUE(removed.ok()) << removed.error().message();
  EXPECT_FALSE(PathExists(dir.path() + "/tree"));
}

TEST(FilesTest, MakeDirectoriesRefusesAFileInTheWay) {
  TempDir dir = TempDir::Make().value();
  ASSERT_TRUE(WriteFileAtomic(dir.path() + "/file", "x").ok());
  EXPECT_FALSE(MakeDirectories(dir.path() + "/file").ok());
  EXPECT_FALSE(MakeDirectories(dir.path() + "/file/below").ok());
  EXPECT_TRUE(MakeDirectories(dir.path() + "/a/b/c").ok());
  EXPECT_TRUE(MakeDirectories(dir.path() + "/a/b/c").ok());
}

}  // namespace
}  // namespace skiff

#include "runtime/image/layer_writer.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/os/files.h"
#include "runtime/image/testing/image_builder.h"

namespace skiff::runtime {
namespace {

using testing::TarBuilder;

class LayerWriterTest : public ::testing::Test {
 protected:
  Result<LayerContents> Unpack(const std::string& tar, size_t chunk = SIZE_MAX) {
    MemorySource source(tar, chunk);
    LayerWriterOptions options;
    options.rootless = geteuid() != 0;
    return UnpackLayer(source, directory_.path(), options);
  }
  std::string At(const std::string& path) const { return directory_.path() + "/" + path; }
  struct stat Stat(const std::string& path) const {
    struct stat info {};
    EXPECT_EQ(lstat(At(path).c_str(), &info), 0) << path;
    return info;
  }
  bool IsWhiteout(const std::string& path) const {
    const struct stat info = Stat(path);
    return S_ISCHR(info.st_mode) && info.st_rdev == 0;
  }
  bool IsOpaque(const std::string& path) const {
    char value = 0;
    const char* name = geteuid() == 0 ? "trusted.overlay.opaque" : "user.overlay.opaque";
    return lgetxattr(At(path).c_str(), name, &value, 1) == 1 && value == 'y';
  }

  TempDir directory_ = *TempDir::Make();
};

TEST_F(LayerWriterTest, UnpacksEveryKind) {
  const std::string tar = TarBuilder()
                              .Directory("./")
                              .Directory("etc", 0750)
                              .File("etc/hello", "world", 04755)
                              .Symlink("etc/link", "/nowhere")
                              .Hardlink("etc/twin", "etc/hello")
                              .Add({"etc/pipe", '6'})
                              .Finish();
  // Whatever way the bytes are cut.
  for (const size_t chunk : {size_t{1}, size_t{511}, size_t{513}, SIZE_MAX}) {
    ASSERT_TRUE(RemoveTree(At("etc")).ok());
    const auto contents = Unpack(tar, chunk);
    ASSERT_TRUE(contents.ok()) << contents.error().message();
    EXPECT_EQ(*ReadFile(At("etc/hello")), "world");
    EXPECT_EQ(Stat("etc").st_mode & 07777, 0750u);
    EXPECT_EQ(Stat("etc/hello").st_mode & 07777, 04755u);
    EXPECT_EQ(Stat("etc/hello").st_ino, Stat("etc/twin").st_ino);
    EXPECT_EQ(Stat("etc/hello").st_mtime, 1'700'000'000);
    EXPECT_EQ(Stat("etc").st_mtime, 1'700'000'000);
    EXPECT_TRUE(S_ISLNK(Stat("etc/link").st_mode));
    EXPECT_TRUE(S_ISFIFO(Stat("etc/pipe").st_mode));
    EXPECT_TRUE(contents->implicit_directories.empty());
    EXPECT_EQ(contents->disk_bytes, 4096u);
  }
}

TEST_F(LayerWriterTest, TurnsWhiteoutsIntoOverlaysOnes) {
  ASSERT_TRUE(Unpack(TarBuilder()
                         .Directory("d")
                         .File("d/.wh.gone", "")
                         .Directory("o")
                         .File("o/.wh..wh..opq", "")
                         .File("o/new", "x")
                         .File("d/.wh..wh.plnk", "")
                         .Finish())
                  .ok());
  EXPECT_TRUE(IsWhiteout("d/gone"));
  EXPECT_TRUE(IsOpaque("o"));
  EXPECT_FALSE(IsOpaque("d"));
  EXPECT_TRUE(PathExists(At("o/new")));
  EXPECT_EQ(ListDirectory(At("d"))->size(), 1u);
}

TEST_F(LayerWriterTest, WhiteoutsConcernLowerLayersOnly) {
  ASSERT_TRUE(Unpack(TarBuilder()
                         .File("kept", "x")
                         .File(".wh.kept", "")
                         .File(".wh.replaced", "")
                         .Directory("replaced")
                         .Directory("hidden")
                         .File(".wh.hidden", "")
                         .Finish())
                  .ok());
  EXPECT_EQ(*ReadFile(At("kept")), "x");
  EXPECT_TRUE(IsOpaque("replaced"));
  EXPECT_TRUE(IsOpaque("hidden"));
}

TEST_F(LayerWriterTest, LaterEntriesReplaceEarlierOnes) {
  ASSERT_TRUE(Unpack(TarBuilder()
                         .File("a", "file")
                         .Directory("a")
                         .File("a/x", "1")
                         .Directory("b")
                         .File("b/y", "2")
                         .Symlink("b", "a")
                         .File("a/x", "3")
                         .Directory("a", 0700)
                         .Finish())
                  .ok());
  EXPECT_EQ(*ReadFile(At("a/x")), "3");
  EXPECT_EQ(Stat("a").st_mode & 07777, 0700u);
  EXPECT_TRUE(S_ISLNK(Stat("b").st_mode));
}

TEST_F(LayerWriterTest, NothingLeadsOut) {
  const TempDir outside = *TempDir::Make();
  // A path with "..".
  EXPECT_EQ(Unpack(TarBuilder().File("../evil", "x").Finish()).error().code(),
            Code::kInvalidArgument);
  EXPECT_EQ(Unpack(TarBuilder().File("a/../../evil", "x").Finish()).error().code(),
            Code::kInvalidArgument);
  EXPECT_FALSE(Unpack(TarBuilder().File(".wh...", "x").Finish()).ok());
  // Absolute paths are below the root.
  ASSERT_TRUE(Unpack(TarBuilder().File("/abs", "x").Finish()).ok());
  EXPECT_TRUE(PathExists(At("abs")));
  // Through a symlink: it is followed inside the root only.
  (void)Unpack(TarBuilder()
                   .Symlink("out", outside.path())
                   .File("out/evil", "x")
                   .Symlink("up", "../../../../../../../../.." + outside.path())
                   .File("up/evil", "x")
                   .Finish());
  EXPECT_TRUE(ListDirectory(outside.path())->empty());
  // A hard link to a file outside.
  ASSERT_TRUE(WriteFileAtomic(outside.path() + "/secret", "s", Durability::kNone).ok());
  EXPECT_FALSE(Unpack(TarBuilder().Hardlink("stolen", outside.path() + "/secret").Finish()).ok());
  EXPECT_FALSE(PathExists(At("stolen")));
  // A symlink as the last component is replaced, not followed.
  const std::string target = outside.path() + "/secret";
  ASSERT_TRUE(Unpack(TarBuilder().Symlink("s", target).File("s", "mine").Finish()).ok());
  EXPECT_EQ(*ReadFile(target), "s");
  EXPECT_EQ(*ReadFile(At("s")), "mine");
}

TEST_F(LayerWriterTest, TellsWhichDirectoriesNoEntryDescribes) {
  const auto contents =
      Unpack(TarBuilder().File("a/b/c", "x").File("d/e", "y").Directory("d").Finish());
  ASSERT_TRUE(contents.ok());
  EXPECT_EQ(contents->implicit_directories, (std::vector<std::string>{"a", "a/b"}));
}

TEST_F(LayerWriterTest, TakesPaxNamesOwnersAndAttributes) {
  const std::string name = "\xff" + std::string(200, 'n');  // no UTF-8, longer than ustar has
  ASSERT_TRUE(Unpack(TarBuilder()
                         .Add({.path = "short",
                               .data = "x",
                               .pax = {{"path", name},
                                       {"mtime", "1700000001.5"},
                                       {"SCHILY.xattr.user.note", "hi"},
                                       {"SCHILY.xattr.trusted.overlay.redirect", "/etc"},
                                       {"uid", "3000000"}}})
                         .Finish())
                  .ok());
  const struct stat info = Stat(name);
  EXPECT_EQ(info.st_mtim.tv_nsec, 500'000'000);
  EXPECT_EQ(info.st_uid, geteuid() == 0 ? 3'000'000u : geteuid());
  char value[8];
  EXPECT_EQ(lgetxattr(At(name).c_str(), "trusted.overlay.redirect", value, sizeof value), -1);
  // tmpfs takes no user attributes on older kernels.
  const ssize_t size = lgetxattr(At(name).c_str(), "user.note", value, sizeof value);
  EXPECT_EQ(size < 0 ? "hi" : std::string(value, static_cast<size_t>(size)), "hi");
}

TEST_F(LayerWriterTest, RefusesDamagedArchives) {
  const std::string good = TarBuilder().File("a", std::string(2000, 'x')).Finish();
  EXPECT_EQ(Unpack(good.substr(0, 1000)).error().code(), Code::kDataLoss);
  EXPECT_EQ(Unpack(good.substr(0, 300)).error().code(), Code::kDataLoss);
  std::string broken = good;
  broken[10] ^= 1;
  EXPECT_EQ(Unpack(broken).error().code(), Code::kInvalidArgument);
  EXPECT_EQ(Unpack(TarBuilder().Add({.path = "s", .type = 'S'}).Finish()).error().code(),
            Code::kUnimplemented);
  EXPECT_FALSE(
      Unpack(TarBuilder().Add({.path = "p", .pax = {{"size", "99999999999999999999"}}}).Finish())
          .ok());
  EXPECT_TRUE(Unpack("").ok());  // an empty layer
}

}  // namespace
}  // namespace skiff::runtime

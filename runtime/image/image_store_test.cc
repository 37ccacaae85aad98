#include "runtime/image/image_store.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <thread>

#include "base/os/files.h"
#include "runtime/image/testing/fake_registry.h"

namespace skiff::runtime {
namespace {

using testing::BuildImage;
using testing::FakeRegistry;
using testing::Packing;
using testing::TarBuilder;

class ImageStoreTest : public ::testing::Test {
 protected:
  ImageStoreTest() { Open(); }

  void Open() {
    store_.reset();
    ImageStore::Options options;
    options.root = directory_.path() + "/images";
    auto store = ImageStore::Open(options);
    ASSERT_TRUE(store.ok()) << store.error().message();
    store_ = *std::move(store);
  }
  std::string Ref(const std::string& name) const { return registry_.host() + "/" + name; }
  Result<std::shared_ptr<const Image>> Pull(const std::string& name) {
    PullRequest request;
    request.reference = Ref(name);
    return store_->Pull(request);
  }
  Result<std::vector<std::shared_ptr<const Image>>> Import(int fd, const std::string& name = "") {
    FileSource source(fd);
    return store_->Import(source, name);
  }
  size_t Count(const std::string& folder) const {
    return ListDirectory(store_->root() + "/" + folder)->size();
  }
  std::string LayerDir(const Image& image, size_t index) const {
    return store_->root() + "/layers/" + image.layers[index].key + "/fs";
  }

  const std::string base_ = TarBuilder().Directory("etc").File("etc/os", "debian").Finish();
  const std::string top_ = TarBuilder().Directory("srv").File("srv/app", "v1").Finish();
  TempDir directory_ = *TempDir::Make();
  FakeRegistry registry_;
  std::unique_ptr<ImageStore> store_;
};

TEST_F(ImageStoreTest, PullsEveryPacking) {
  for (const Packing packing : {Packing::kPlain, Packing::kGzip, Packing::kZstd}) {
    const std::string name = "app" + std::to_string(static_cast<int>(packing));
    registry_.Add(name, "v1", BuildImage({base_, top_}, packing, name), /*with_index=*/true);
    const auto image = Pull(name + ":v1");
    ASSERT_TRUE(image.ok()) << image.error().message();
    EXPECT_EQ(*ReadFile(LayerDir(**image, 0) + "/etc/os"), "debian");
    EXPECT_EQ(*ReadFile(LayerDir(**image, 1) + "/srv/app"), "v1");
    EXPECT_EQ((*image)->config.user, name);
    EXPECT_EQ((*image)->repo_tags, std::vector<std::string>{Ref(name + ":v1")});
    ASSERT_EQ((*image)->repo_digests.size(), 1u);
  }
  // The same layers, however they were packed.
  EXPECT_EQ(Count("layers"), 2u);
}

TEST_F(ImageStoreTest, FetchesSharedLayersOnce) {
  const std::string other = TarBuilder().Directory("srv").File("srv/app", "v2").Finish();
  registry_.Add("app", "v1", BuildImage({base_, top_}, Packing::kGzip));
  registry_.Add("app", "v2", BuildImage({base_, other}, Packing::kGzip));
  std::vector<std::thread> threads;
  for (int i = 0; i < 6; ++i) {
    threads.emplace_back([&, i] { EXPECT_TRUE(Pull(i % 2 ? "app:v1" : "app:v2").ok()); });
  }
  for (std::thread& thread : threads) thread.join();
  const std::string base_digest = Digest::OfBytes(testing::Gzip(base_)).text();
  EXPECT_EQ(registry_.CountRequests("GET /v2/app/blobs/" + base_digest), 1u);
  EXPECT_EQ(Count("layers"), 3u);
}

TEST_F(ImageStoreTest, AsksOnlyWhatATagMeansWhenItHasTheImage) {
  registry_.Add("app", "v1", BuildImage({base_}, Packing::kGzip));
  ASSERT_TRUE(Pull("app:v1").ok());
  const size_t before = registry_.requests().size();
  ASSERT_TRUE(Pull("app:v1").ok());
  EXPECT_EQ(registry_.requests().size(), before + 1);
  const std::string by_digest = store_->List()[0]->repo_digests[0];
  PullRequest request;
  request.reference = by_digest;
  ASSERT_TRUE(store_->Pull(request).ok());
  EXPECT_EQ(registry_.requests().size(), before + 1);
}

TEST_F(ImageStoreTest, AMovedTagLeavesTheOldImageNameless) {
  registry_.Add("app", "v1", BuildImage({base_}, Packing::kGzip));
  const auto old = *Pull("app:v1");
  registry_.Add("app", "v1", BuildImage({base_, top_}, Packing::kGzip));
  const auto now = *Pull("app:v1");
  EXPECT_NE(old->id, now->id);
  EXPECT_EQ(store_->Find(Ref("app:v1"))->id, now->id);
  EXPECT_TRUE(store_->Find(old->id.text())->repo_tags.empty());
}

TEST_F(ImageStoreTest, FindsByEverySpelling) {
  registry_.Add("app", "latest", BuildImage({base_}, Packing::kGzip));
  const auto image = *Pull("app");
  for (const std::string& text :
       {Ref("app"), Ref("app:latest"), image->id.text(), std::string(image->id.hex()),
        std::string(image->id.hex().substr(0, 12)), image->repo_digests[0]}) {
    ASSERT_NE(store_->Find(text), nullptr) << text;
    EXPECT_EQ(store_->Find(text)->id, image->id);
  }
  EXPECT_EQ(store_->Find(Ref("app:v2")), nullptr);
  EXPECT_EQ(store_->Find(image->id.hex().substr(0, 5)), nullptr);
  EXPECT_EQ(store_->Find(""), nullptr);
}

TEST_F(ImageStoreTest, RemovingOneNameRemovesAllAndFreesTheDisk) {
  const auto built = BuildImage({base_}, Packing::kGzip);
  registry_.Add("app", "v1", built);
  registry_.Add("other", "x", built);
  registry_.Add("app", "big", BuildImage({base_, top_}, Packing::kGzip));
  ASSERT_TRUE(Pull("app:v1").ok());
  ASSERT_TRUE(Pull("other:x").ok());
  ASSERT_TRUE(Pull("app:big").ok());
  EXPECT_EQ(store_->List().size(), 2u);
  ASSERT_TRUE(store_->Remove(Ref("other:x")).ok());
  EXPECT_EQ(store_->Find(Ref("app:v1")), nullptr);
  EXPECT_EQ(Count("layers"), 2u);  // the other image has both
  ASSERT_TRUE(store_->Remove(Ref("app:big")).ok());
  ASSERT_TRUE(store_->Remove(Ref("app:big")).ok());
  EXPECT_EQ(Count("layers"), 0u);
  EXPECT_EQ(Count("blobs/sha256"), 0u);
  EXPECT_EQ(Count("staging"), 0u);
  EXPECT_EQ(store_->Usage().used_bytes, 0u);
  // The registry is asked anew.
  EXPECT_TRUE(Pull("app:v1").ok());
}

TEST_F(ImageStoreTest, SnapshotsKeepTheirLayers) {
  registry_.Add("app", "v1", BuildImage({base_, top_}, Packing::kGzip));
  const auto image = *Pull("app:v1");
  const auto overlay = store_->CreateSnapshot("c1", image->id);
  ASSERT_TRUE(overlay.ok());
  EXPECT_EQ(overlay->lower_dirs, (std::vector<std::string>{LayerDir(*image, 1), LayerDir(*image, 0),
                                                           store_->root() + "/mount-points"}));
  EXPECT_TRUE(PathExists(overlay->writable_dir));
  EXPECT_TRUE(store_->CreateSnapshot("c1", image->id).ok());
  EXPECT_EQ(store_->CreateSnapshot("../x", image->id).error().code(), Code::kInvalidArgument);
  EXPECT_EQ(store_->CreateSnapshot("c2", Digest::OfBytes("?")).error().code(), Code::kNotFound);
  ASSERT_TRUE(store_->Remove(image->id.text()).ok());
  EXPECT_EQ(Count("layers"), 2u);
  Open();
  EXPECT_EQ(store_->ListSnapshots(), std::vector<std::string>{"c1"});
  EXPECT_EQ(Count("layers"), 2u);
  ASSERT_TRUE(store_->DeleteSnapshot("c1").ok());
  ASSERT_TRUE(store_->DeleteSnapshot("c1").ok());
  EXPECT_EQ(Count("layers"), 0u);
  EXPECT_EQ(Count("snapshots"), 0u);
  EXPECT_EQ(Count("snapshot-records"), 0u);
}

TEST_F(ImageStoreTest, SnapshotsOfAKilledPredecessorAreWholeOrGone) {
  registry_.Add("app", "v1", BuildImage({base_, top_}, Packing::kGzip));
  const auto image = *Pull("app:v1");
  for (const char* id : {"recorded", "removed", "damaged"}) {
    ASSERT_TRUE(store_->CreateSnapshot(id, image->id).ok());
    ASSERT_TRUE(MakeDirectories(store_->root() + "/snapshots/" + id + "/upper").ok());
  }
  ASSERT_TRUE(RemoveTree(store_->root() + "/snapshots/recorded").ok());
  ASSERT_TRUE(RemoveFile(store_->root() + "/snapshot-records/removed").ok());
  ASSERT_TRUE(WriteFileAtomic(store_->root() + "/snapshot-records/damaged", "{").ok());
  Open();
  EXPECT_EQ(store_->ListSnapshots(), std::vector<std::string>{"recorded"});
  EXPECT_EQ(Count("snapshots"), 0u);
  ASSERT_TRUE(store_->DeleteSnapshot("recorded").ok());
  EXPECT_EQ(Count("snapshot-records"), 0u);
}

TEST_F(ImageStoreTest, SurvivesRestartsAndDamage) {
  registry_.Add("app", "v1", BuildImage({base_, top_}, Packing::kZstd));
  const auto image = *Pull("app:v1");
  // What a killed pull leaves.
  ASSERT_TRUE(MakeDirectories(store_->root() + "/staging/layer-dead/fs").ok());
  Open();
  EXPECT_EQ(Count("staging"), 0u);
  ASSERT_NE(store_->Find(Ref("app:v1")), nullptr);
  EXPECT_EQ(store_->Find(Ref("app:v1"))->config.entrypoint, image->config.entrypoint);
  // A damaged config: the image is forgotten and can be pulled again.
  const std::string config = store_->root() + "/blobs/sha256/" + std::string(image->id.hex());
  ASSERT_TRUE(WriteFileAtomic(config, "garbage", Durability::kNone).ok());
  Open();
  EXPECT_EQ(store_->Find(Ref("app:v1")), nullptr);
  EXPECT_EQ(Count("layers"), 0u);
  EXPECT_TRUE(Pull("app:v1").ok());
  // Two stores must not share a root.
  ImageStore::Options options;
  options.root = store_->root();
  EXPECT_EQ(ImageStore::Open(options).error().code(), Code::kFailedPrecondition);
}

TEST_F(ImageStoreTest, AFailedPullLeavesNothing) {
  registry_.Add("app", "v1", BuildImage({base_, top_}, Packing::kGzip));
  registry_.SetFaults({.corrupt_blobs = true});
  const auto image = Pull("app:v1");
  ASSERT_FALSE(image.ok());
  EXPECT_EQ(image.error().code(), Code::kDataLoss);
  // A layer that is not the one the config names.
  registry_.SetFaults({});
  auto lying = BuildImage({base_}, Packing::kPlain);
  lying.blobs[0] = TarBuilder().File("other", "x").Finish();
  registry_.Add("app", "liar", lying);
  EXPECT_FALSE(Pull("app:liar").ok());
  EXPECT_TRUE(store_->List().empty());
  EXPECT_EQ(Count("layers"), 0u);
  EXPECT_EQ(Count("blobs/sha256"), 0u);
  EXPECT_EQ(Count("staging"), 0u);
}

TEST_F(ImageStoreTest, DirectoriesThatNoEntryDescribesLookAsBelow) {
  const std::string lower = TarBuilder().Directory("tmp", 01777).Finish();
  const std::string upper = TarBuilder().File("tmp/file", "x").Finish();
  const std::string other = TarBuilder().Directory("tmp", 0700).Finish();
  registry_.Add("a", "v1", BuildImage({lower, upper}, Packing::kGzip));
  registry_.Add("b", "v1", BuildImage({other, upper}, Packing::kGzip));
  const auto mode = [&](const Image& image) {
    struct stat info {};
    EXPECT_EQ(stat((LayerDir(image, 1) + "/tmp").c_str(), &info), 0);
    return info.st_mode & 07777;
  };
  EXPECT_EQ(mode(**Pull("a:v1")), 01777u);
  EXPECT_EQ(mode(**Pull("b:v1")), 0700u);
}

TEST_F(ImageStoreTest, ExportsWhatItImports) {
  registry_.Add("app", "v1", BuildImage({base_, top_}, Packing::kGzip));
  const auto image = *Pull("app:v1");
  const std::string path = directory_.path() + "/archive.tar";
  UniqueFd out = *OpenFile(path, O_WRONLY | O_CREAT);
  ASSERT_TRUE(store_->Export({Ref("app:v1")}, out.get()).ok());
  EXPECT_EQ(store_->Export({"absent"}, out.get()).error().code(), Code::kNotFound);
  ASSERT_TRUE(store_->Remove(Ref("app:v1")).ok());
  UniqueFd in = *OpenFile(path, O_RDONLY);
  const auto imported = Import(in.get());
  ASSERT_TRUE(imported.ok()) << imported.error().message();
  ASSERT_EQ(imported->size(), 1u);
  EXPECT_EQ((*imported)[0]->id, image->id);
  EXPECT_EQ((*imported)[0]->manifest, image->manifest);
  EXPECT_EQ((*imported)[0]->repo_tags, std::vector<std::string>{Ref("app:v1")});
  EXPECT_EQ(*ReadFile(LayerDir(*(*imported)[0], 1) + "/srv/app"), "v1");
  EXPECT_EQ(Count("staging"), 0u);
}

TEST_F(ImageStoreTest, ANameForAnArchiveReplacesItsOwn) {
  registry_.Add("a", "v1", BuildImage({base_}, Packing::kGzip));
  registry_.Add("b", "v1", BuildImage({top_}, Packing::kGzip));
  const auto id = (*Pull("a:v1"))->id;
  ASSERT_TRUE(Pull("b:v1").ok());
  const auto import = [&](const std::vector<std::string>& exported, const std::string& name) {
    const std::string path = directory_.path() + "/archive.tar";
    UniqueFd out = *OpenFile(path, O_WRONLY | O_CREAT | O_TRUNC);
    EXPECT_TRUE(store_->Export(exported, out.get()).ok());
    for (const std::string& each : exported) EXPECT_TRUE(store_->Remove(each).ok());
    UniqueFd in = *OpenFile(path, O_RDONLY);
    return Import(in.get(), name);
  };
  const auto both = import({Ref("a:v1"), Ref("b:v1")}, "site:1");
  EXPECT_EQ(both.error().code(), Code::kInvalidArgument);
  EXPECT_EQ(store_->Find("site:1"), nullptr);
  EXPECT_EQ(Count("blobs/sha256"), 0u);
  ASSERT_TRUE(Pull("a:v1").ok());
  const auto imported = import({Ref("a:v1")}, "site:1");
  ASSERT_TRUE(imported.ok()) << imported.error().message();
  EXPECT_EQ((*imported)[0]->id, id);
  EXPECT_EQ((*imported)[0]->repo_tags, std::vector<std::string>{"docker.io/library/site:1"});
  for (const std::string& bad : {std::string("No Name"), "site@sha256:" + std::string(64, 'a')}) {
    EXPECT_EQ(import({"site:1"}, bad).error().code(), Code::kInvalidArgument) << bad;
    ASSERT_TRUE(Pull("a:v1").ok());
    ASSERT_TRUE(import({Ref("a:v1")}, "site:1").ok());
  }
}

TEST_F(ImageStoreTest, ImportsDockerSaveArchives) {
  const auto built = BuildImage({base_, top_}, Packing::kPlain);
  const std::string tar =
      TarBuilder()
          .File("abc.json", built.config)
          .File("one/layer.tar", base_)
          .File("two/layer.tar", top_)
          .File(
              "manifest.json",
              R"([{"Config":"abc.json","RepoTags":["demo:1"],"Layers":["one/layer.tar","two/layer.tar"]}])")
          .Finish();
  const std::string path = directory_.path() + "/save.tar.gz";
  ASSERT_TRUE(WriteFileAtomic(path, testing::Gzip(tar), Durability::kNone).ok());
  UniqueFd in = *OpenFile(path, O_RDONLY);
  const auto imported = Import(in.get());
  ASSERT_TRUE(imported.ok()) << imported.error().message();
  EXPECT_EQ(store_->Find("demo:1")->id, built.config_digest);
  EXPECT_EQ(*ReadFile(LayerDir(*store_->Find("demo:1"), 0) + "/etc/os"), "debian");
  // Neither format, and a blob that is not what its name says.
  for (const std::string& bad :
       {TarBuilder().File("x", "y").Finish(),
        TarBuilder().File("blobs/sha256/" + std::string(64, 'a'), "y").Finish(),
        TarBuilder().File("manifest.json", "{}").Finish(), std::string("not a tar")}) {
    ASSERT_TRUE(WriteFileAtomic(path, bad, Durability::kNone).ok());
    UniqueFd file = *OpenFile(path, O_RDONLY);
    EXPECT_FALSE(Import(file.get()).ok());
  }
}

}  // namespace
}  // namespace skiff::runtime

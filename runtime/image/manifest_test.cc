#include "runtime/image/manifest.h"

#include <gtest/gtest.h>

#include "runtime/image/testing/image_builder.h"

namespace skiff::runtime {
namespace {

Descriptor For(const std::string& os, const std::string& architecture, const std::string& variant) {
  Descriptor entry;
  entry.digest = Digest::OfBytes(os + architecture + variant);
  entry.platform = Platform{os, architecture, variant};
  return entry;
}

TEST(Manifest, TellsIndexFromManifest) {
  const auto image = testing::BuildImage({"layer"}, testing::Packing::kPlain);
  EXPECT_EQ(*ClassifyDocument(image.manifest, ""), DocumentKind::kManifest);
  EXPECT_EQ(*ClassifyDocument(testing::BuildIndex(image), ""), DocumentKind::kIndex);
  EXPECT_EQ(*ClassifyDocument("{}", std::string(kDockerListType) + "; charset=x"),
            DocumentKind::kIndex);
  EXPECT_EQ(ClassifyDocument(R"({"schemaVersion":1})", "").error().code(), Code::kUnimplemented);
  EXPECT_EQ(ClassifyDocument(R"({"hello":1})", "").error().code(), Code::kUnimplemented);
  EXPECT_EQ(ClassifyDocument("[", "").error().code(), Code::kInvalidArgument);
}

TEST(Manifest, ParsesWhatItNeeds) {
  const auto image = testing::BuildImage({"a", "b"}, testing::Packing::kGzip, "1000:5");
  const auto manifest = ParseManifest(image.manifest);
  ASSERT_TRUE(manifest.ok());
  EXPECT_EQ(manifest->config.digest, image.config_digest);
  EXPECT_EQ(manifest->layers.size(), 2u);
  const auto config = ParseConfig(image.config);
  ASSERT_TRUE(config.ok());
  EXPECT_EQ(config->diff_ids[1], Digest::OfBytes("b"));
  EXPECT_EQ(config->run.user, "1000:5");
  EXPECT_EQ(config->run.entrypoint, std::vector<std::string>{"/bin/app"});
}

TEST(Manifest, RefusesMalformedDocuments) {
  const std::string bad[] = {
      R"({"config":{"digest":"sha256:1","size":1},"layers":[]})",
      R"({"layers":[]})",
      R"({"config":{"digest":")" + Digest::OfBytes("").text() + R"(","size":-1},"layers":[]})",
      R"({"config":{"digest":")" + Digest::OfBytes("").text() +
          R"(","size":99999999},"layers":[]})",
      std::string(100, '['),
      "",
      R"({"config":5,"layers":5})",
  };
  for (const std::string& text : bad) {
    ASSERT_FALSE(ParseManifest(text).ok()) << text;
    EXPECT_EQ(ParseManifest(text).error().code(), Code::kInvalidArgument) << text;
  }
  EXPECT_FALSE(ParseConfig(R"({"rootfs":{"diff_ids":["x"]}})").ok());
  EXPECT_FALSE(ParseConfig(R"({"config":{"Env":[1]},"rootfs":{"diff_ids":[]}})").ok());
}

TEST(Manifest, ChoosesThePlatform) {
  ImageIndex index;
  index.manifests = {For("windows", "arm64", ""), For("linux", "arm64", ""),
                     For("linux", "arm", "v6"), For("linux", "arm", "v7"),
                     For("linux", "amd64", "")};
  const auto chosen = [&](const Platform& wanted) {
    const auto entry = ChooseManifest(index, wanted);
    return entry.ok() ? entry->platform->architecture + entry->platform->variant : "none";
  };
  EXPECT_EQ(chosen({"linux", "amd64", ""}), "amd64");
  EXPECT_EQ(chosen({"linux", "arm64", "v8"}), "arm64");
  EXPECT_EQ(chosen({"linux", "arm", "v7"}), "armv7");
  EXPECT_EQ(chosen({"linux", "arm", "v6"}), "armv6");
  EXPECT_EQ(chosen({"linux", "riscv64", ""}), "none");
  // Attestations are no images.
  ImageIndex attested;
  attested.manifests = {For("unknown", "unknown", "")};
  attested.manifests[0].annotations["vnd.docker.reference.type"] = "attestation-manifest";
  EXPECT_EQ(ChooseManifest(attested, {"linux", "amd64", ""}).error().code(), Code::kNotFound);
}

}  // namespace
}  // namespace skiff::runtime

#include "runtime/image/reference.h"

#include <gtest/gtest.h>

namespace skiff::runtime {
namespace {

const std::string kDigest = "sha256:" + std::string(64, 'a');

TEST(ImageReference, FillsInDefaults) {
  const std::pair<std::string, std::string> cases[] = {
      {"busybox", "docker.io/library/busybox:latest"},
      {"nginx:1.25", "docker.io/library/nginx:1.25"},
      {"library/nginx", "docker.io/library/nginx:latest"},
      {"index.docker.io/user/app", "docker.io/user/app:latest"},
      {"user/app:v1", "docker.io/user/app:v1"},
      {"localhost/app", "localhost/app:latest"},
      {"localhost:5000/a/b/c:x_y.z-1", "localhost:5000/a/b/c:x_y.z-1"},
      {"registry.k8s.io/pause:3.9", "registry.k8s.io/pause:3.9"},
      {"[::1]:5000/app", "[::1]:5000/app:latest"},
      {"gcr.io/a__b/c-.-d", ""},
      {"busybox@" + kDigest, "docker.io/library/busybox@" + kDigest},
      {"busybox:1.2@" + kDigest, "docker.io/library/busybox@" + kDigest},
      {"a--b/c__d.e", "docker.io/a--b/c__d.e:latest"},
  };
  for (const auto& [text, wanted] : cases) {
    const auto reference = ImageReference::Parse(text);
    EXPECT_EQ(reference.ok() ? reference->ToString() : "", wanted) << text;
  }
}

TEST(ImageReference, KeepsTagBesideDigest) {
  const auto reference = ImageReference::Parse("busybox:1.2@" + kDigest);
  ASSERT_TRUE(reference.ok());
  EXPECT_EQ(reference->Tagged(), "docker.io/library/busybox:1.2");
  EXPECT_EQ(reference->digest.text(), kDigest);
}

TEST(ImageReference, RefusesNonsense) {
  const std::string cases[] = {"",
                               ":tag",
                               "Busybox",
                               "a//b",
                               "/a",
                               "a/",
                               "a:",
                               "a@sha256:12",
                               "a:b:c",
                               "a b",
                               "-a",
                               "a..b",
                               "a___b",
                               "host:x/a",
                               "ho_st.io/a",
                               "a@md5:abc",
                               "[::1/a",
                               "a:-tag",
                               "a/B",
                               "a.-b",
                               std::string(300, 'a'),
                               "a:" + std::string(129, 't')};
  for (const std::string& text : cases) {
    const auto reference = ImageReference::Parse(text);
    ASSERT_FALSE(reference.ok()) << text << " -> " << reference->ToString();
    EXPECT_EQ(reference.error().code(), Code::kInvalidArgument);
  }
}

TEST(Digest, ParsesAndComputes) {
  EXPECT_EQ(Digest::OfBytes("").text(),
            "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_TRUE(Digest::Parse("sha512:" + std::string(128, '0')).ok());
  EXPECT_FALSE(Digest::Parse("sha256:" + std::string(64, 'A')).ok());
  EXPECT_FALSE(Digest::Parse("sha256:../../etc/passwd").ok());
  EXPECT_EQ(Digest::Parse(kDigest)->hex(), std::string(64, 'a'));
}

}  // namespace
}  // namespace skiff::runtime

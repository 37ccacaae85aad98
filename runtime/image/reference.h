// Image references as people write them: "busybox", "nginx:1.25", "localhost:5000/a/b@sha256:…".
//
// The grammar and the defaults (docker.io, library/, latest) are those of distribution's reference
// package, which Kubernetes follows. Pure; use from any thread.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"
#include "runtime/image/digest.h"

namespace skiff::runtime {

struct ImageReference {
  std::string host;        // "docker.io", "localhost:5000"
  std::string repository;  // "library/busybox"
  std::string tag;         // empty when only a digest was given
  Digest digest;           // empty when only a tag was given

  // Fills in what the text leaves out: docker.io, library/ there, latest without tag and digest.
  // InvalidArgument, naming the text, when it is no reference.
  static Result<ImageReference> Parse(std::string_view text);

  std::string Name() const { return host + "/" + repository; }
  // "docker.io/library/busybox:latest"; the digest, where there is one, replaces the tag.
  std::string ToString() const;
  // "NAME:TAG", empty without a tag.
  std::string Tagged() const;
  // "NAME@DIGEST" for the digest given.
  std::string WithDigest(const Digest& manifest) const { return Name() + "@" + manifest.text(); }
  bool operator==(const ImageReference&) const = default;
};

}  // namespace skiff::runtime

// Digests of content: "sha256:" and 64 hexadecimal digits (OCI image-spec, descriptor.md), and the
// hasher that makes them. Values; use from any thread.
#pragma once

#include <compare>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"

namespace skiff::runtime {

// A well-formed digest; safe as a file name. SHA-256 and SHA-512 are known.
class Digest {
 public:
  Digest() = default;  // empty: no digest
  // InvalidArgument unless the text is ALGORITHM:HEX with a known algorithm and its length.
  static Result<Digest> Parse(std::string_view text);
  static Digest OfBytes(std::string_view bytes);  // SHA-256

  bool empty() const { return text_.empty(); }
  const std::string& text() const { return text_; }  // "sha256:…"
  std::string_view algorithm() const;                // "sha256"
  std::string_view hex() const;
  auto operator<=>(const Digest&) const = default;

 private:
  friend class Hasher;
  explicit Digest(std::string text) : text_(std::move(text)) {}
  std::string text_;
};

// Computes a digest from bytes as they pass.
class Hasher {
 public:
  // algorithm: of a parsed digest; "sha256" by default.
  explicit Hasher(std::string_view algorithm = "sha256");
  Hasher(Hasher&&) noexcept;
  Hasher& operator=(Hasher&&) noexcept;
  ~Hasher();
  void Update(std::string_view bytes);
  // Ends the computation; the hasher is used up.
  Digest Finish();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace skiff::runtime

template <>
struct std::hash<skiff::runtime::Digest> {
  size_t operator()(const skiff::runtime::Digest& digest) const noexcept {
    return std::hash<std::string>()(digest.text());
  }
};

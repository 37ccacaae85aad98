// A connection taken over from the HTTP server (base/http) as a Stream.
#pragma once

#include <memory>

#include "base/http/raw_stream.h"
#include "base/streaming/stream.h"

namespace skiff::streaming {

// What the HTTP server's Hijack() gave; the 101 response may be written through it first.
std::shared_ptr<Stream> FromRawStream(http::StreamPtr connection);

}  // namespace skiff::streaming

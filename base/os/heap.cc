#include "base/os/heap.h"

#include <malloc.h>

namespace skiff {
namespace {

constexpr int kArenas = 2;
// As the C library begins with; naming it keeps it from growing with every large block freed.
constexpr int kMmapThreshold = 128 << 10;

}  // namespace

void LimitHeap() {
  ::mallopt(M_ARENA_MAX, kArenas);
  ::mallopt(M_MMAP_THRESHOLD, kMmapThreshold);
}

void TrimHeap() { ::malloc_trim(0); }

}  // namespace skiff

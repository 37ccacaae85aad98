// The C library's heap in a daemon: small between bursts of work, not only before the first one.
#pragma once

namespace skiff {

// Limits how much the heap keeps for itself (mallopt(3)): few arenas, as each fragments on its own
// and the threads' caches take most of the contention, and large blocks in mappings of their own.
// To be called before the first thread starts.
void LimitHeap();

// Gives free pages inside the heap back to the kernel (malloc_trim(3)). Takes about a millisecond
// for 10 MiB, in which allocating threads may wait: for a timer of seconds.
void TrimHeap();

}  // namespace skiff

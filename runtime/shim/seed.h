// The seed: the shim that no pod has yet, of which the daemon has one. At the daemon's word it
// forks, and the copy is a pod's shim. So the kernel need not execute a program for each pod, and
// shims share what the seed has written to its memory before.
#pragma once

#include "base/result.h"

namespace skiff::runtime {

// Serves the daemon. Returns true in each copy, whose descriptors are then those of a shim
// (wire/messages.h), and false in the seed itself when the daemon is gone.
Result<bool> GrowShims();

}  // namespace skiff::runtime

// What every backend refuses before it touches anything.
#pragma once

#include "base/result.h"
#include "control-plane/store/store.h"

namespace skiff::cp {

// kInvalidArgument for a transaction beyond the limits of store.h, with an empty key, or with a key
// in two ops.
Result<> ValidateTxn(const TxnRequest& request);

// Whether a read at the revision can be answered: kExpired below the compacted revision,
// kInvalidArgument above the current one.
Result<> ValidateReadRevision(Revision revision, Revision compacted, Revision current);

// Whether compacting to the revision makes sense: kExpired, kInvalidArgument as Store::Compact.
Result<> ValidateCompaction(Revision revision, Revision compacted, Revision current);

Error CompactedError(Revision revision, Revision compacted);

}  // namespace skiff::cp

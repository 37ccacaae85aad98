#include "control-plane/store/transaction.h"

#include <utility>

namespace skiff::cp {

Result<TxnResult> Check(const std::vector<Compare>& compares, const ReadLatest& latest) {
  TxnResult result{.succeeded = true};
  for (const Compare& compare : compares) {
    std::optional<KeyValue> kv = TRY(latest(compare.key));
    if ((kv ? kv->mod_revision : 0) != compare.mod_revision) result.succeeded = false;
    if (kv) result.current.push_back(*std::move(kv));
  }
  if (result.succeeded) result.current.clear();
  return result;
}

std::shared_ptr<Event> EventOf(const Op& op, std::optional<KeyValue> previous, Revision revision) {
  if (op.type == Op::Type::kDelete && !previous) return nullptr;
  auto event = std::make_shared<Event>();
  event->kv.key = op.key;
  event->kv.mod_revision = revision;
  if (op.type == Op::Type::kDelete) {
    event->type = Event::Type::kDelete;
  } else {
    event->kv.value = op.value;
    event->kv.lease = op.lease;
    event->kv.create_revision = previous ? previous->create_revision : revision;
    event->kv.version = previous ? previous->version + 1 : 1;
  }
  event->prev_kv = std::move(previous);
  return event;
}

}  // namespace skiff::cp

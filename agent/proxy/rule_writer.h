// RuleWriter: how the states of services come into force; one implementation a mode.
#pragma once

#include <span>

#include "agent/proxy/plan.h"
#include "agent/proxy/rule_set.h"
#include "base/result.h"

namespace skiff::agent::proxy {

// One call at a time; calls block. After a failure what is in force is not known: WriteAll is next.
class RuleWriter {
 public:
  virtual ~RuleWriter() = default;

  // Writes the rules of these states, whatever is there. Returns what was there.
  virtual Result<ExistingRules> WriteAll(const States& all) = 0;
  // Writes what the changes touch. applied: the states in force; it becomes what they are then.
  virtual Result<> WriteChanges(std::span<const Change> changes, States& applied) = 0;
  // How many rules (or elements of maps) a service takes.
  virtual size_t CountRules(const ObjectKey& key, const ServiceState* state) const = 0;
  // Whether somebody removed rules. Cheap, also with very many of them.
  virtual bool IsDamaged() = 0;

 protected:
  static void Adopt(const Change& change, States& applied) {
    if (change.after) {
      applied[change.key] = change.after;
    } else {
      applied.erase(change.key);
    }
  }
};

}  // namespace skiff::agent::proxy

#include "control-plane/api/kinds/cells.h"
#include "control-plane/api/kinds/kinds.h"
#include "proto/k8s/coordination/v1/coordination.pb.h"
#include "proto/k8s/meta/v1/object.pb.h"
#include "proto/k8s/meta/v1/time.pb.h"

namespace skiff::cp {
namespace {

using k8s::coordination::v1::Lease;
using k8s::coordination::v1::LeaseList;

void Validate(const Lease& lease, FieldErrors& errors) {
  FieldPath spec("spec");
  if (lease.spec().has_lease_duration_seconds() && lease.spec().lease_duration_seconds() <= 0) {
    errors.Invalid(spec.Child("leaseDurationSeconds"), lease.spec().lease_duration_seconds(),
                   "must be greater than 0");
  }
  if (lease.spec().lease_transitions() < 0) {
    errors.Invalid(spec.Child("leaseTransitions"), lease.spec().lease_transitions(),
                   "must be greater than or equal to 0");
  }
}

void ValidateUpdate(const Lease& lease, const Lease&, FieldErrors& errors) {
  Validate(lease, errors);
}

std::vector<TableCell> Row(const Lease& lease, WallTime now) {
  return {lease.metadata().name(), lease.spec().holder_identity(), AgeCell(lease.metadata(), now)};
}

}  // namespace

KindInfo LeaseKind() {
  KindInfo kind;
  kind.group = "coordination.k8s.io";
  kind.version = "v1";
  kind.kind = "Lease";
  kind.plural = "leases";
  kind.singular = "lease";
  kind.prototype = &Lease::default_instance();
  kind.list_prototype = &LeaseList::default_instance();
  kind.allow_create_on_update = true;
  // Two holders that do not see each other may not both win.
  kind.allow_unconditional_update = false;
  kind.rules.validate = On<Lease>(&Validate);
  kind.rules.validate_update = On<Lease>(&ValidateUpdate);
  kind.rules.columns = {NameColumn(), Column("Holder", "Who holds the lease"), AgeColumn()};
  kind.rules.table_row = On<Lease>(&Row);
  return kind;
}

}  // namespace skiff::cp

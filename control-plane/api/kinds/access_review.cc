#include "control-plane/api/kinds/kinds.h"
#include "proto/k8s/authorization/v1/authorization.pb.h"

namespace skiff::cp {
namespace {

namespace authorization = k8s::authorization::v1;

KindInfo Review(const char* kind, const char* singular, const Message& prototype) {
  KindInfo info;
  info.group = "authorization.k8s.io";
  info.version = "v1";
  info.kind = kind;
  info.plural = std::string(singular) + "s";
  info.singular = singular;
  info.namespaced = false;
  info.stored = false;  // answered on the spot: auth/access_review.cc
  info.prototype = &prototype;
  return info;
}

}  // namespace

KindInfo SelfSubjectAccessReviewKind() {
  return Review("SelfSubjectAccessReview", "selfsubjectaccessreview",
                authorization::SelfSubjectAccessReview::default_instance());
}

KindInfo SelfSubjectRulesReviewKind() {
  return Review("SelfSubjectRulesReview", "selfsubjectrulesreview",
                authorization::SelfSubjectRulesReview::default_instance());
}

}  // namespace skiff::cp

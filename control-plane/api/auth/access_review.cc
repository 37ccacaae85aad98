#include "control-plane/api/auth/access_review.h"

#include <google/protobuf/message.h>

#include "proto/k8s/authorization/v1/authorization.pb.h"

namespace skiff::cp {
namespace {

using k8s::authorization::v1::SelfSubjectAccessReview;
using k8s::authorization::v1::SelfSubjectRulesReview;

RequestInfo AskedFor(const SelfSubjectAccessReview& review) {
  RequestInfo info;
  if (review.spec().has_non_resource_attributes()) {
    info.verb = review.spec().non_resource_attributes().verb();
    info.path = review.spec().non_resource_attributes().path();
    return info;
  }
  const auto& attributes = review.spec().resource_attributes();
  info.is_resource = true;
  info.verb = attributes.verb();
  info.group = attributes.group();
  info.version = attributes.version();
  info.ns = attributes.namespace_();
  info.resource = attributes.resource();
  info.name = attributes.name();
  info.subresource = attributes.subresource();
  return info;
}

void FillRules(const User& user, SelfSubjectRulesReview& review) {
  auto* status = review.mutable_status();
  if (user.InGroup(kMasters)) {
    auto* rule = status->add_resource_rules();
    rule->add_verbs("*");
    rule->add_api_groups("*");
    rule->add_resources("*");
    auto* paths = status->add_non_resource_rules();
    paths->add_verbs("*");
    paths->add_non_resource_urls("*");
  } else {
    auto* rule = status->add_resource_rules();
    rule->add_verbs("create");
    rule->add_api_groups("authorization.k8s.io");
    rule->add_resources("selfsubjectaccessreviews");
    rule->add_resources("selfsubjectrulesreviews");
  }
  status->set_incomplete(false);
}

}  // namespace

Answer ServeAccessReview(Call& call) {
  if (call.info.verb != "create" || !call.info.name.empty()) return ApiError::MethodNotAllowed();
  Accepted accepted = TRY(NegotiateAnswer(call.request, false));
  MessagePtr body = TRY(DecodeBody(call, *call.kind->prototype));
  if (auto* review = dynamic_cast<SelfSubjectAccessReview*>(body.get())) {
    const auto& spec = review->spec();
    if (spec.has_resource_attributes() == spec.has_non_resource_attributes()) {
      FieldErrors errors;
      errors.Invalid(FieldPath("spec").Child("resourceAttributes"), ShownValue::Raw("null"),
                     "exactly one of nonResourceAttributes or resourceAttributes must be "
                     "specified");
      return ApiError::Invalid(*call.kind, "", errors);
    }
    review->mutable_status()->set_allowed(IsAllowed(call.user, AskedFor(*review)));
  } else if (auto* rules = dynamic_cast<SelfSubjectRulesReview*>(body.get())) {
    FillRules(call.user, *rules);
  } else {
    return ApiError::MethodNotAllowed();
  }
  return std::optional(AnswerMessage(201, *body, accepted.format));
}

}  // namespace skiff::cp

#include "agent/dns/responder.h"

#include <algorithm>

namespace skiff::agent::dns {
namespace {

Answer Failure(Rcode rcode) {
  Answer answer;
  answer.rcode = rcode;
  answer.authoritative = false;
  return answer;
}

size_t Limit(const Query& query, Responder::Transport transport) {
  if (transport == Responder::Transport::kTcp) return kMaxMessageBytes;
  return std::min<size_t>(query.udp_bytes, kMaxUdpBytes);
}

}  // namespace

// Nothing: other servers know.
std::optional<Answer> Responder::FromCluster(const Query& query) {
  if (query.qclass != kClassIn) return Failure(Rcode::kRefused);
  // Nobody transfers a zone from here.
  if (query.type == kAxfr || query.type == kIxfr) return Failure(Rcode::kRefused);
  if (!synced_ && names_->IsAuthoritativeFor(query.name)) return Failure(Rcode::kServFail);
  return names_->Lookup(query.name, query.type);
}

// An ExternalName's answer is of no use to a stub resolver without what the name stands for.
void Responder::FollowAlias(const Query& query, Answer answer,
                            std::function<void(const Answer&)> done) {
  const std::string& data = answer.answers.front().data;
  Name target = data.substr(0, data.size() - 1);
  if (auto inside = names_->Lookup(target, query.type)) {
    // An alias of an alias is left to the client: the cluster may hold circles of them.
    answer.rcode = inside->rcode;
    for (Record& record : inside->answers) answer.answers.push_back(std::move(record));
    done(answer);
    return;
  }
  Question question{target, query.type, query.dnssec_ok, query.checking_disabled};
  forwarder_.Resolve(std::move(question), [answer = std::move(answer),
                                           done = std::move(done)](const Answer& found) mutable {
    answer.rcode = found.rcode;
    answer.answers.insert(answer.answers.end(), found.answers.begin(), found.answers.end());
    done(answer);
  });
}

std::string_view Responder::Recall(std::string_view message) {
  std::string_view response = recent_.Recall(message);
  if (!response.empty()) {
    ++queries;
    ++cluster_answers;
  }
  return response;
}

bool Responder::Respond(std::string_view message, Transport transport, Done done) {
  ++queries;
  auto parsed = ParseQuery(message);
  if (!parsed) {
    ++malformed;
    return false;
  }
  if (parsed->rcode == Rcode::kFormErr || parsed->rcode == Rcode::kNotImp) {
    ++malformed;
    done(WriteError(message, parsed->rcode));
    return true;
  }
  Query& query = parsed->query;
  size_t limit = Limit(query, transport);
  std::optional<Answer> answer;
  if (parsed->rcode != Rcode::kNoError) {
    answer = Failure(parsed->rcode);
  } else {
    answer = FromCluster(query);
  }
  if (answer) {
    ++cluster_answers;
    bool alias = answer->answers.size() == 1 && answer->answers[0].type == kCname &&
                 query.type != kCname && query.type != kAny;
    if (!alias) {
      std::string response = WriteResponse(query, *answer, limit);
      bool lasting = synced_ && transport == Transport::kUdp && parsed->rcode == Rcode::kNoError;
      if (lasting) recent_.Learn(message, response, answer->in_turn);
      done(std::move(response));
      return true;
    }
    FollowAlias(query, *std::move(answer),
                [query, limit, done = std::move(done)](const Answer& all) {
                  done(WriteResponse(query, all, limit));
                });
    return true;
  }
  if (!query.recursion_desired) {
    done(WriteResponse(query, Failure(Rcode::kRefused), limit));
    return true;
  }
  Question question{query.name, query.type, query.dnssec_ok, query.checking_disabled};
  forwarder_.Resolve(std::move(question),
                     [query = std::move(query), limit, done = std::move(done)](
                         const Answer& found) { done(WriteResponse(query, found, limit)); });
  return true;
}

}  // namespace skiff::agent::dns

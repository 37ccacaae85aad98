// Responder: from the bytes of a question to the bytes of its answer, whatever it came over.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "agent/dns/cluster_names.h"
#include "agent/dns/forwarder.h"
#include "agent/dns/message.h"
#include "agent/dns/recent_answers.h"

namespace skiff::agent::dns {

// On one thread. names and forwarder must outlive it and every answer under way.
class Responder {
 public:
  Responder(std::unique_ptr<ClusterNames>& names, Forwarder& forwarder)
      : names_(names), forwarder_(forwarder) {}

  // From when on the names are complete.
  void SetSynced() { synced_ = true; }
  // To be called at each change of the names.
  void NamesChanged() { recent_.Forget(); }

  enum class Transport { kUdp, kTcp };
  // done gets the message to send back, once, in this call unless another server is asked. False:
  // there is nothing to be answered, and done is not called.
  using Done = std::function<void(std::string)>;
  bool Respond(std::string_view message, Transport transport, Done done);

  // The answer to a question over UDP that was given before and still holds; empty: ask Respond.
  // Valid until the next call.
  std::string_view Recall(std::string_view message);

  uint64_t queries = 0, cluster_answers = 0, malformed = 0;

 private:
  std::optional<Answer> FromCluster(const Query& query);
  void FollowAlias(const Query& query, Answer answer, std::function<void(const Answer&)> done);

  std::unique_ptr<ClusterNames>& names_;
  Forwarder& forwarder_;
  bool synced_ = false;
  RecentAnswers recent_;
};

}  // namespace skiff::agent::dns

#include "agent/dns/forwarder.h"

#include <sys/random.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ip/udp.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/write.hpp>
#include <set>

#include "agent/dns/asio_address.h"
#include "agent/spec/dns.h"
#include "base/log.h"
#include "base/os/files.h"

namespace skiff::agent::dns {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using asio::ip::udp;
using std::chrono::milliseconds;
using std::chrono::seconds;

// Resolvers give up after 5 s: two rounds over two servers fit.
constexpr milliseconds kTryFor{1000};
constexpr size_t kMaxTries = 4;
// From here on an answer past its time is better than waiting (RFC 8767, section 5).
constexpr milliseconds kStaleAfter{1800};
constexpr seconds kShunFor{10};
constexpr uint16_t kDnsPort = 53;
constexpr seconds kResolvConfCheck{5};

uint16_t RandomId() {
  uint16_t id = 0;
  // Never short for so few bytes (getrandom(2)).
  (void)!getrandom(&id, sizeof id, 0);
  return id;
}

Answer ToAnswer(Response response) {
  Answer answer;
  answer.rcode = response.rcode;
  answer.authoritative = false;
  answer.answers = std::move(response.answers);
  answer.authority = std::move(response.authority);
  answer.additional = std::move(response.additional);
  return answer;
}

// One question to one server: over UDP, then over TCP where that was cut off.
class Exchange : public std::enable_shared_from_this<Exchange> {
 public:
  using Done = std::function<void(std::optional<Response>)>;
  Exchange(asio::io_context& io, const Upstream& server, const Question& question, Done done)
      : address_(ToAsio(server.address)),
        port_(server.port),
        question_(question),
        done_(std::move(done)),
        udp_(io),
        tcp_(io),
        timer_(io) {}

  void Start() {
    boost::system::error_code error;
    udp_.connect({address_, port_}, error);
    id_ = RandomId();
    query_ = WriteQuery(id_, question_.name, question_.type, question_.dnssec_ok,
                        question_.checking_disabled);
    if (!error) udp_.send(asio::buffer(query_), 0, error);
    if (error) {
      asio::post(udp_.get_executor(), [self = shared_from_this()] { self->Finish({}); });
      return;
    }
    timer_.expires_after(kTryFor);
    timer_.async_wait([self = shared_from_this()](auto failed) {
      if (!failed) self->Finish({});
    });
    Receive();
  }
  // done is not called any more.
  void Abandon() {
    done_ = nullptr;
    Close();
  }

 private:
  void Receive() {
    buffer_.resize(kMaxUdpBytes);
    udp_.async_receive(asio::buffer(buffer_), [self = shared_from_this()](auto error, size_t size) {
      if (error) {
        self->Finish({});  // refused: nobody listens there
        return;
      }
      auto response = self->Accept(std::string_view(self->buffer_).substr(0, size));
      if (!response) {
        self->Receive();  // not an answer to this question: somebody guesses
      } else if (response->truncated) {
        self->AskOverTcp();
      } else {
        self->Finish(std::move(response));
      }
    });
  }

  std::optional<Response> Accept(std::string_view message) {
    auto response = ParseResponse(message);
    if (!response || response->id != id_ || response->name != question_.name ||
        response->type != question_.type) {
      return std::nullopt;
    }
    return response;
  }

  void AskOverTcp() {
    framed_ = {static_cast<char>(query_.size() >> 8), static_cast<char>(query_.size())};
    framed_ += query_;
    auto self = shared_from_this();
    tcp_.async_connect({address_, port_}, [self](auto error) {
      if (error) return self->Finish({});
      asio::async_write(self->tcp_, asio::buffer(self->framed_), [self](auto failed, size_t) {
        if (failed) return self->Finish({});
        asio::async_read(self->tcp_, asio::buffer(self->length_), [self](auto broken, size_t) {
          if (broken) return self->Finish({});
          self->ReadTcpBody();
        });
      });
    });
  }
  void ReadTcpBody() {
    buffer_.resize(static_cast<size_t>(length_[0]) << 8 | length_[1]);
    asio::async_read(tcp_, asio::buffer(buffer_), [self = shared_from_this()](auto error, size_t) {
      self->Finish(error ? std::nullopt : self->Accept(self->buffer_));
    });
  }

  void Finish(std::optional<Response> response) {
    Close();
    if (auto done = std::exchange(done_, nullptr)) done(std::move(response));
  }
  void Close() {
    boost::system::error_code ignored;
    timer_.cancel();
    udp_.close(ignored);
    tcp_.close(ignored);
  }

  const asio::ip::address address_;
  const uint16_t port_;
  const Question question_;
  Done done_;
  udp::socket udp_;
  tcp::socket tcp_;
  asio::steady_timer timer_;
  uint16_t id_ = 0;
  std::string query_, framed_, buffer_;
  std::array<uint8_t, 2> length_{};
};

// The servers of resolv.conf, read again when the file is another one than before.
class ResolvConf {
 public:
  ResolvConf(std::string path, std::vector<net::IpAddress> own)
      : path_(std::move(path)), own_(std::move(own)) {}

  const std::vector<Upstream>& Servers(SteadyTime now) {
    if (path_.empty() || now < next_check_) return servers_;
    next_check_ = now + kResolvConfCheck;
    struct stat found = {};
    if (stat(path_.c_str(), &found) != 0) return servers_;
    std::pair<ino_t, int64_t> version{found.st_ino,
                                      found.st_mtim.tv_sec * 1'000'000'000 + found.st_mtim.tv_nsec};
    if (version == version_) return servers_;
    constexpr size_t kMaxBytes = 64 << 10;
    auto text = ReadFile(path_, kMaxBytes);
    if (!text.ok()) return servers_;
    version_ = version;
    servers_.clear();
    for (const std::string& server : ParseResolvConf(*text).servers) {
      auto upstream = net::ParseEndpoint(server, kDnsPort);
      if (!upstream.ok()) {
        log::Warning("a name server is not understood", {{"file", path_}, {"server", server}});
      } else if (std::find(own_.begin(), own_.end(), upstream->address) == own_.end()) {
        servers_.push_back(*upstream);
      }
    }
    return servers_;
  }

 private:
  const std::string path_;
  const std::vector<net::IpAddress> own_;
  std::vector<Upstream> servers_;
  std::pair<ino_t, int64_t> version_;
  SteadyTime next_check_;
};

}  // namespace

class Forwarder::Impl : public std::enable_shared_from_this<Forwarder::Impl> {
 public:
  Impl(asio::io_context& io, ForwarderConfig config)
      : io_(io),
        config_(std::move(config)),
        resolv_conf_(config_.resolv_conf, config_.own_addresses),
        cache_(config_.cache_bytes) {}

  void Resolve(Question question, Done done) {
    SteadyTime now = Clock::Real().Now();
    if (const Answer* known = cache_.Find(question, now)) {
      ++stats_.hits;
      done(*known);
      return;
    }
    ++stats_.misses;
    auto at = in_flight_.find(question);
    if (at != in_flight_.end()) {
      at->second->waiting.push_back(std::move(done));
      return;
    }
    if (in_flight_.size() >= config_.max_in_flight) {
      ++stats_.failures;
      done(Failure());
      return;
    }
    auto task = std::make_shared<Task>(io_);
    task->question = question;
    task->waiting.push_back(std::move(done));
    task->servers = ServersFor(question.name, now);
    in_flight_.emplace(std::move(question), task);
    task->patience.expires_after(kStaleAfter);
    task->patience.async_wait([self = weak_from_this(), task](auto error) {
      if (auto impl = self.lock(); impl && !error) impl->GiveStale(*task);
    });
    // No use in waiting for what did not answer a moment ago.
    if (!task->servers.empty() && IsShunned(task->servers.front(), now)) GiveStale(*task);
    Try(task);
  }

  void Stop() {
    for (auto& [question, task] : in_flight_) {
      task->patience.cancel();
      if (task->exchange) task->exchange->Abandon();
    }
    in_flight_.clear();
  }
  const ForwarderStats& stats() const { return stats_; }

 private:
  struct Task {
    explicit Task(asio::io_context& io) : patience(io) {}
    Question question;
    std::vector<Done> waiting;
    std::vector<Upstream> servers;
    size_t tries = 0;
    std::optional<Answer> failure;  // what a server said that is no answer
    std::shared_ptr<Exchange> exchange;
    asio::steady_timer patience;
  };
  using TaskPtr = std::shared_ptr<Task>;

  static Answer Failure() {
    Answer answer;
    answer.rcode = Rcode::kServFail;
    answer.authoritative = false;
    return answer;
  }

  std::vector<Upstream> ServersFor(NameView name, SteadyTime now) {
    std::vector<Upstream> servers;
    size_t longest = 0;
    bool stub = false;
    for (const auto& [domain, upstreams] : config_.stub_domains) {
      if (!IsWithin(name, domain) || (stub && domain.size() < longest)) continue;
      stub = true;
      longest = domain.size();
      servers = upstreams;
    }
    if (!stub) {
      servers = config_.upstreams.empty() ? resolv_conf_.Servers(now) : config_.upstreams;
    }
    std::stable_partition(servers.begin(), servers.end(),
                          [&](const Upstream& server) { return !IsShunned(server, now); });
    return servers;
  }
  bool IsShunned(const Upstream& server, SteadyTime now) const {
    auto at = shunned_.find(server.address);
    return at != shunned_.end() && now < at->second;
  }

  void Try(const TaskPtr& task) {
    if (task->servers.empty() || task->tries == std::max(kMaxTries, task->servers.size())) {
      Fail(*task);
      return;
    }
    const Upstream server = task->servers[task->tries++ % task->servers.size()];
    task->exchange = std::make_shared<Exchange>(
        io_, server, task->question,
        [self = weak_from_this(), task, server](std::optional<Response> response) {
          if (auto impl = self.lock()) impl->Continue(task, server, std::move(response));
        });
    task->exchange->Start();
  }

  void Continue(const TaskPtr& task, const Upstream& server, std::optional<Response> response) {
    task->exchange.reset();
    if (!response) {
      shunned_[server.address] = Clock::Real().Now() + kShunFor;
      Try(task);
      return;
    }
    shunned_.erase(server.address);
    Answer answer = ToAnswer(*std::move(response));
    if (answer.rcode != Rcode::kNoError && answer.rcode != Rcode::kNxDomain) {
      task->failure = std::move(answer);
      // Once each is enough where they do answer.
      if (task->tries >= task->servers.size()) {
        Fail(*task);
      } else {
        Try(task);
      }
      return;
    }
    cache_.Store(task->question, answer, Clock::Real().Now());
    Finish(*task, answer);
  }

  void GiveStale(Task& task) {
    const Answer* stale = cache_.FindStale(task.question, Clock::Real().Now());
    if (stale == nullptr || task.waiting.empty()) return;
    ++stats_.stale;
    const Answer answer = *stale;
    // The question stays under way: the next one may get a fresh answer.
    for (Done& done : std::exchange(task.waiting, {})) done(answer);
  }

  void Fail(Task& task) {
    GiveStale(task);
    if (task.waiting.empty()) {
      Finish(task, {});
      return;
    }
    ++stats_.failures;
    Answer answer = task.failure.value_or(Failure());
    cache_.Store(task.question, answer, Clock::Real().Now());
    Finish(task, answer);
  }

  void Finish(Task& task, const Answer& answer) {
    task.patience.cancel();
    std::vector<Done> waiting = std::exchange(task.waiting, {});
    in_flight_.erase(Question(task.question));
    for (Done& done : waiting) done(answer);
  }

  asio::io_context& io_;
  const ForwarderConfig config_;
  ResolvConf resolv_conf_;
  Cache cache_;
  std::unordered_map<Question, TaskPtr, QuestionHash> in_flight_;
  std::map<net::IpAddress, SteadyTime> shunned_;
  ForwarderStats stats_;
};

Forwarder::Forwarder(asio::io_context& io, ForwarderConfig config)
    : impl_(std::make_shared<Impl>(io, std::move(config))) {}

Forwarder::~Forwarder() { impl_->Stop(); }

void Forwarder::Resolve(Question question, Done done) {
  impl_->Resolve(std::move(question), std::move(done));
}

ForwarderStats Forwarder::stats() const { return impl_->stats(); }

}  // namespace skiff::agent::dns

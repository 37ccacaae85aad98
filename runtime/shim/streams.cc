#include "runtime/shim/streams.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace skiff::runtime {
namespace {

constexpr size_t kReadBytes = 32 << 10;
constexpr size_t kInputBytes = 4 << 10;
constexpr std::chrono::seconds kClientPatience{10};

char read_buffer[kReadBytes];  // one thread, and no read is under way during another

Result<> SetNonblocking(int fd) {
  int flags = ::fcntl(fd, F_GETFL);
  if (flags < 0 || ::fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0) {
    return Error::Sys(errno, "fcntl O_NONBLOCK");
  }
  return {};
}

// Writes what it can; false when the other side is gone.
bool WriteSome(int fd, std::string& pending) {
  while (!pending.empty()) {
    ssize_t put = ::write(fd, pending.data(), pending.size());
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return errno == EAGAIN;
    pending.erase(0, static_cast<size_t>(put));
  }
  return true;
}

}  // namespace

// One output of the container.
class Streams::Output : public Watcher {
 public:
  Output(Streams& streams, LogStream stream, UniqueFd fd)
      : streams_(streams), stream_(stream), fd_(std::move(fd)) {}
  ~Output() override { Close(); }

  bool open() const { return fd_.valid(); }
  Result<> SetReading(bool wanted) {
    if (!open() || wanted == reading_) return {};
    // Not by an empty event mask, which would still report a hang-up again and again.
    if (wanted) {
      TRY(streams_.loop_.Add(fd_.get(), EPOLLIN, this));
    } else {
      streams_.loop_.Remove(fd_.get());
    }
    reading_ = wanted;
    return {};
  }
  void OnEvents(uint32_t) override {
    if (!ReadOnce()) streams_.OutputEnded();
  }
  // Reads until nothing is left.
  void Drain() {
    while (open() && ReadOnce(true)) {
    }
  }

 private:
  // False when the stream has ended and is closed (or, draining, when it is empty).
  bool ReadOnce(bool draining = false) {
    ssize_t got = ::read(fd_.get(), read_buffer, sizeof read_buffer);
    if (got > 0) {
      streams_.Deliver(stream_, std::string_view(read_buffer, static_cast<size_t>(got)));
      return true;
    }
    if (got < 0 && (errno == EINTR || errno == EAGAIN) && !draining) return true;
    // EIO: a terminal whose last slave is closed.
    Close();
    streams_.log_.Finish(stream_, Clock::Real().WallNow());
    return false;
  }
  void Close() {
    if (!open()) return;
    streams_.loop_.Remove(fd_.get());
    fd_.Reset();
  }

  Streams& streams_;
  const LogStream stream_;
  UniqueFd fd_;
  bool reading_ = false;
};

// The container's input.
class Streams::Input : public Watcher {
 public:
  Input(Streams& streams, UniqueFd fd, bool terminal)
      : terminal_(terminal), streams_(streams), fd_(std::move(fd)) {}
  ~Input() override { Close(); }

  bool full() const { return !pending_.empty(); }
  int fd() const { return fd_.get(); }
  void Write(std::string_view data) {
    pending_ += data;
    Push();
  }
  // Closes once what is pending is written.
  void CloseWhenWritten() {
    closing_ = true;
    if (pending_.empty()) Close();
  }
  void OnEvents(uint32_t) override { Push(); }

  const bool terminal_;

 private:
  void Push() {
    if (fd_ && !WriteSome(fd_.get(), pending_)) pending_.clear();  // nobody reads it any more
    if (!fd_) pending_.clear();
    bool wait = !pending_.empty();
    if (wait && !waiting_) waiting_ = streams_.loop_.Add(fd_.get(), EPOLLOUT, this).ok();
    if (!wait && waiting_) {
      streams_.loop_.Remove(fd_.get());
      waiting_ = false;
    }
    if (!wait && closing_) Close();
    streams_.UpdateClientReading();
  }
  void Close() {
    if (waiting_) streams_.loop_.Remove(fd_.get());
    waiting_ = false;
    fd_.Reset();
  }

  Streams& streams_;
  UniqueFd fd_;
  std::string pending_;
  bool waiting_ = false;
  bool closing_ = false;
};

// One attached client: up to three descriptors.
class Streams::Client {
 public:
  Client(Streams& streams, UniqueFd in, UniqueFd out, UniqueFd err)
      : streams_(streams),
        input_(*this, std::move(in)),
        outputs_{{*this, std::move(out)}, {*this, std::move(err)}} {}

  Result<> Start() {
    Side* sides[] = {&input_, &outputs_[0], &outputs_[1]};
    for (Side* side : sides) {
      if (side->fd_) TRY(SetNonblocking(side->fd_.get()));
    }
    for (ClientOutput& output : outputs_) {
      // No events asked for: this only tells when the client goes.
      if (output.fd_) TRY(streams_.loop_.Add(output.fd_.get(), 0, &output));
    }
    return {};
  }
  bool has_input() const { return input_.fd_.valid(); }
  bool behind() const { return !outputs_[0].pending_.empty() || !outputs_[1].pending_.empty(); }

  Result<> SetReading(bool wanted) {
    if (!input_.fd_ || wanted == input_.reading_) return {};
    if (wanted) {
      TRY(streams_.loop_.Add(input_.fd_.get(), EPOLLIN, &input_));
    } else {
      streams_.loop_.Remove(input_.fd_.get());
    }
    input_.reading_ = wanted;
    return {};
  }
  // False when the client is gone.
  bool Send(LogStream stream, std::string_view data) {
    ClientOutput& output = outputs_[static_cast<int>(stream)];
    if (!output.fd_) return true;
    output.pending_ += data;
    return output.Push();
  }

 private:
  struct Side : Watcher {
    Side(Client& owner, UniqueFd side_fd) : client_(owner), fd_(std::move(side_fd)) {}
    ~Side() override {
      if (fd_) client_.streams_.loop_.Remove(fd_.get());
    }
    Client& client_;
    UniqueFd fd_;
  };
  struct ClientInput : Side {
    using Side::Side;
    void OnEvents(uint32_t) override {
      Streams& streams = client_.streams_;
      char data[kInputBytes];
      ssize_t got = ::read(fd_.get(), data, sizeof data);
      if (got < 0 && (errno == EINTR || errno == EAGAIN)) return;
      if (got > 0) {
        streams.ClientInput(std::string_view(data, static_cast<size_t>(got)));
        return;
      }
      streams.loop_.Remove(fd_.get());
      reading_ = false;
      fd_.Reset();
      streams.ClientInputEnded();
    }
    bool reading_ = false;
  };
  struct ClientOutput : Side {
    using Side::Side;
    ~ClientOutput() override { client_.streams_.loop_.Cancel(patience_); }
    void OnEvents(uint32_t events) override {
      bool alive = (events & EPOLLOUT) != 0 ? Push() : false;
      bool finished = pending_.empty() && client_.streams_.output_ended();
      if (!alive || finished) {
        client_.streams_.DropClient(&client_);
        return;
      }
      client_.streams_.UpdateReading();
    }
    bool Push() {
      if (!WriteSome(fd_.get(), pending_)) return false;
      bool behind = !pending_.empty();
      client_.streams_.loop_.Modify(fd_.get(), behind ? EPOLLOUT : 0U, this);
      if (behind == (patience_ != 0)) return true;
      client_.streams_.loop_.Cancel(patience_);
      patience_ = 0;
      if (behind) {
        patience_ = client_.streams_.loop_.After(
            kClientPatience, [client = &client_] { client->streams_.DropClient(client); });
      }
      return true;
    }
    std::string pending_;
    EventLoop::TimerId patience_ = 0;
  };

  Streams& streams_;
  ClientInput input_;
  ClientOutput outputs_[2];
};

Streams::Streams(EventLoop& loop, Options options, std::function<void()> on_output_end)
    : loop_(loop),
      options_(std::move(options)),
      on_output_end_(std::move(on_output_end)),
      log_(options_.log) {}

Streams::~Streams() = default;

Result<> Streams::UsePipes(UniqueFd out, UniqueFd err, UniqueFd in) {
  TRY(SetNonblocking(out.get()));
  TRY(SetNonblocking(err.get()));
  if (in) {
    TRY(SetNonblocking(in.get()));
    input_ = std::make_unique<Input>(*this, std::move(in), false);
  }
  outputs_[0] = std::make_unique<Output>(*this, LogStream::kStdout, std::move(out));
  outputs_[1] = std::make_unique<Output>(*this, LogStream::kStderr, std::move(err));
  TRY(outputs_[0]->SetReading(true));
  return outputs_[1]->SetReading(true);
}

Result<> Streams::UseTerminal(UniqueFd master) {
  TRY(SetNonblocking(master.get()));
  // Two descriptors, for each can be in the epoll set once.
  UniqueFd writer = TRY(master.Duplicate());
  input_ = std::make_unique<Input>(*this, std::move(writer), true);
  outputs_[0] = std::make_unique<Output>(*this, LogStream::kStdout, std::move(master));
  return outputs_[0]->SetReading(true);
}

Result<> Streams::ResizeTerminal(uint16_t rows, uint16_t columns) {
  if (!input_ || !input_->terminal_) {
    return Error(Code::kFailedPrecondition, "the container has no terminal");
  }
  winsize size{.ws_row = rows, .ws_col = columns};
  if (::ioctl(input_->fd(), TIOCSWINSZ, &size) != 0) return Error::Sys(errno, "TIOCSWINSZ");
  return {};
}

Result<> Streams::Attach(UniqueFd in, UniqueFd out, UniqueFd err) {
  auto client = std::make_unique<Client>(*this, std::move(in), std::move(out), std::move(err));
  TRY(client->Start());
  if (!output_ended()) clients_.push_back(std::move(client));
  UpdateClientReading();
  return {};
}

bool Streams::output_ended() const {
  return std::none_of(std::begin(outputs_), std::end(outputs_),
                      [](const auto& output) { return output && output->open(); });
}

void Streams::EndOutput() {
  for (auto& output : outputs_) {
    if (output) output->Drain();
  }
  OutputEnded();
}

void Streams::Deliver(LogStream stream, std::string_view data) {
  log_.Write(stream, data, Clock::Real().WallNow());
  for (auto at = clients_.begin(); at != clients_.end();) {
    Client* client = (at++)->get();
    if (!client->Send(stream, data)) DropClient(client);
  }
  UpdateReading();
}

void Streams::OutputEnded() {
  if (!output_ended()) return;
  // A client that is behind may take what is left for as long as its patience timer runs.
  std::erase_if(clients_, [](const auto& client) { return !client->behind(); });
  if (auto callback = std::exchange(on_output_end_, nullptr)) callback();
}

void Streams::UpdateReading() {
  bool behind = std::any_of(clients_.begin(), clients_.end(),
                            [](const auto& client) { return client->behind(); });
  for (auto& output : outputs_) {
    if (output) (void)output->SetReading(!behind);  // no memory: tried again at the next event
  }
}

bool Streams::WantsInput() const { return !input_ || !input_->full(); }

void Streams::ClientInput(std::string_view data) {
  if (input_) input_->Write(data);  // else there is nobody to read it
}

void Streams::ClientInputEnded() {
  if (input_ && !input_->terminal_ && options_.stdin_once) input_->CloseWhenWritten();
}

void Streams::UpdateClientReading() {
  for (auto& client : clients_) (void)client->SetReading(WantsInput());
}

void Streams::DropClient(Client* client) {
  bool had_input = client->has_input();
  std::erase_if(clients_, [client](const auto& held) { return held.get() == client; });
  if (had_input) ClientInputEnded();
  UpdateReading();
}

}  // namespace skiff::runtime

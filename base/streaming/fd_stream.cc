#include "base/streaming/fd_stream.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/post.hpp>
#include <deque>
#include <mutex>
#include <set>
#include <thread>
#include <vector>

namespace skiff::streaming {

namespace asio = boost::asio;

namespace {
class FdState;
}

struct IoThread::State {
  asio::io_context context{1};
  asio::executor_work_guard<asio::io_context::executor_type> guard{context.get_executor()};
  std::thread thread;
  // On the thread only.
  std::set<FdState*> open;
  bool closing = false;

  std::mutex mutex;
  bool ended = false;  // guarded: nothing is posted any more

  // Work that would never run is dropped here: in the context's queue it would keep the streams
  // alive that keep the context.
  template <class Work>
  void Post(Work work) {
    std::lock_guard lock(mutex);
    if (!ended) asio::post(context, std::move(work));
  }
};

namespace {

using Descriptor = asio::posix::stream_descriptor;

Error Gone() { return Error(Code::kUnavailable, "the stream was reset"); }

bool IsSocket(int fd) {
  struct stat status;
  return ::fstat(fd, &status) == 0 && S_ISSOCK(status.st_mode);
}

// The descriptors and queues, touched on the I/O thread only.
class FdState : public std::enable_shared_from_this<FdState> {
 public:
  FdState(IoThread::State& io, UniqueFd read_fd, UniqueFd write_fd, bool socket)
      : io_(io), read_fd_(std::move(read_fd)), write_fd_(std::move(write_fd)), socket_(socket) {}

  // Registers with epoll; on the I/O thread, before anything else.
  void Open() {
    if (io_.closing) {
      reset_ = true;
      return;
    }
    io_.open.insert(this);
    if (read_fd_.valid()) in_ = Adopt(std::move(read_fd_));
    if (socket_) {
      out_ = in_;
    } else if (write_fd_.valid()) {
      out_ = Adopt(std::move(write_fd_));
    }
  }

  void Read(Stream::ReadDone done) {
    CHECK(!reader_);
    if (reset_) return done(Gone());
    if (!in_) return done(std::string());
    reader_ = std::move(done);
    TryRead();
  }

  void Write(std::string data, Stream::WriteDone done) {
    if (reset_ || !out_ || write_closed_) {
      if (done) done(Gone());
      return;
    }
    writes_.push_back({std::move(data), std::move(done)});
    if (writes_.size() == 1) TryWrite();
  }

  void CloseWrite() {
    write_closed_ = true;
    if (writes_.empty()) FinishWriting();
  }

  // The owner is gone: what was written before CloseWrite still goes out.
  void Release() {
    released_ = true;
    if (!write_closed_ || writes_.empty()) Reset();
  }

  void Reset() {
    if (std::exchange(reset_, true)) return;
    io_.open.erase(this);
    in_.reset();  // asio cancels the waits, whose handlers find reset_
    out_.reset();
    if (reader_) std::exchange(reader_, nullptr)(Gone());
    std::deque<Pending> dropped = std::move(writes_);
    writes_.clear();
    for (Pending& write : dropped) {
      if (write.done) write.done(Gone());
    }
  }

 private:
  struct Pending {
    std::string data;
    Stream::WriteDone done;
    size_t written = 0;
  };

  std::shared_ptr<Descriptor> Adopt(UniqueFd fd) {
    auto descriptor = std::make_shared<Descriptor>(io_.context);
    boost::system::error_code error;
    descriptor->assign(fd.get(), error);
    if (error) return nullptr;  // not a pollable descriptor
    (void)fd.Release();
    descriptor->non_blocking(true, error);
    return descriptor;
  }

  void TryRead() {
    static thread_local std::string buffer(kMaxReadBytes, '\0');
    ssize_t count = ::read(in_->native_handle(), buffer.data(), buffer.size());
    if (count < 0 && errno == EINTR) return TryRead();
    if (count < 0 && errno == EAGAIN) {
      in_->async_wait(Descriptor::wait_read,
                      [self = shared_from_this()](const boost::system::error_code& error) {
                        if (!error && !self->reset_) self->TryRead();
                      });
      return;
    }
    Stream::ReadDone reader = std::exchange(reader_, nullptr);
    // EIO: the last slave of a terminal is closed.
    if (count < 0 && errno != EIO) return reader(Error::Sys(errno, "read"));
    reader(count > 0 ? buffer.substr(0, static_cast<size_t>(count)) : std::string());
  }

  ssize_t WriteSome(std::string_view data) {
    int fd = out_->native_handle();
    return socket_ ? ::send(fd, data.data(), data.size(), MSG_NOSIGNAL)
                   : ::write(fd, data.data(), data.size());
  }

  void TryWrite() {
    while (!writes_.empty()) {
      Pending& write = writes_.front();
      ssize_t count = 0;
      if (write.written < write.data.size()) {
        count = WriteSome(std::string_view(write.data).substr(write.written));
      }
      if (count < 0 && errno == EINTR) continue;
      if (count < 0 && errno == EAGAIN) {
        out_->async_wait(Descriptor::wait_write,
                         [self = shared_from_this()](const boost::system::error_code& error) {
                           if (!error && !self->reset_) self->TryWrite();
                         });
        return;
      }
      if (count < 0) return FailWrites(Error::Sys(errno, "write"));
      write.written += static_cast<size_t>(count);
      if (write.written < write.data.size()) continue;
      Stream::WriteDone done = std::move(write.done);
      writes_.pop_front();
      if (done) done({});
      if (reset_) return;
    }
    if (write_closed_) FinishWriting();
  }

  // The other side takes no more; what it sent can still be read.
  void FailWrites(const Error& error) {
    std::deque<Pending> dropped = std::move(writes_);
    writes_.clear();
    write_closed_ = true;
    for (Pending& write : dropped) {
      if (write.done) write.done(error);
    }
    if (released_) Reset();
  }

  void FinishWriting() {
    if (released_) return Reset();
    if (reset_ || !out_) return;
    if (socket_) {
      ::shutdown(out_->native_handle(), SHUT_WR);
    } else {
      out_.reset();
    }
  }

  IoThread::State& io_;
  UniqueFd read_fd_;
  UniqueFd write_fd_;
  const bool socket_;
  std::shared_ptr<Descriptor> in_;
  std::shared_ptr<Descriptor> out_;
  Stream::ReadDone reader_;
  std::deque<Pending> writes_;
  bool write_closed_ = false;
  bool released_ = false;
  bool reset_ = false;
};

// Holds the loop's state, so that a stream may be dropped after its loop has ended.
class FdStream : public Stream {
 public:
  FdStream(std::shared_ptr<IoThread::State> io, std::shared_ptr<FdState> state)
      : io_(std::move(io)), state_(std::move(state)) {
    io_->Post([state = state_] { state->Open(); });
  }
  ~FdStream() override {
    io_->Post([state = state_] { state->Release(); });
  }

  void Read(ReadDone done) override {
    io_->Post([state = state_, done = std::move(done)]() mutable { state->Read(std::move(done)); });
  }
  void Write(std::string data, WriteDone done) override {
    io_->Post([state = state_, data = std::move(data), done = std::move(done)]() mutable {
      state->Write(std::move(data), std::move(done));
    });
  }
  void CloseWrite() override {
    io_->Post([state = state_] { state->CloseWrite(); });
  }
  void Reset() override {
    io_->Post([state = state_] { state->Reset(); });
  }

 private:
  std::shared_ptr<IoThread::State> io_;
  std::shared_ptr<FdState> state_;
};

std::shared_ptr<Stream> Make(IoThread& io, UniqueFd read_fd, UniqueFd write_fd, bool socket) {
  return std::make_shared<FdStream>(
      io.state(),
      std::make_shared<FdState>(*io.state(), std::move(read_fd), std::move(write_fd), socket));
}

}  // namespace

IoThread::IoThread() : state_(std::make_shared<State>()) {
  state_->thread = std::thread([state = state_.get()] {
    // A reader that went away is an error of the write, not a signal.
    sigset_t pipe;
    sigemptyset(&pipe);
    sigaddset(&pipe, SIGPIPE);
    ::pthread_sigmask(SIG_BLOCK, &pipe, nullptr);
    ::pthread_setname_np(::pthread_self(), "skiff-streams");
    state->context.run();
  });
}

IoThread::~IoThread() {
  asio::post(state_->context, [state = state_.get()] {
    state->closing = true;
    std::set<FdState*> open = state->open;
    std::vector<std::shared_ptr<FdState>> alive;
    for (FdState* stream : open) alive.push_back(stream->shared_from_this());
    for (auto& stream : alive) stream->Reset();
    state->guard.reset();
  });
  state_->thread.join();
  {
    std::lock_guard lock(state_->mutex);
    state_->ended = true;
  }
  state_->context.restart();
  state_->context.poll();  // what came after the last turn, whose streams find the loop closing
}

std::shared_ptr<Stream> MakeFdStream(IoThread& io, UniqueFd fd) {
  bool socket = IsSocket(fd.get());
  UniqueFd write_fd;
  if (!socket) {
    // Two registrations, so that each direction is closed on its own. Without a second descriptor
    // the stream can only be read.
    if (Result<UniqueFd> second = fd.Duplicate(); second.ok()) write_fd = std::move(*second);
  }
  return Make(io, std::move(fd), std::move(write_fd), socket);
}

std::shared_ptr<Stream> MakeFdStream(IoThread& io, UniqueFd read_fd, UniqueFd write_fd) {
  return Make(io, std::move(read_fd), std::move(write_fd), false);
}

}  // namespace skiff::streaming

#include "tests/bench/light_client.h"

#include <arpa/inet.h>
#include <nghttp2/nghttp2.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "base/os/unique_fd.h"

namespace skiff::bench {
namespace {

constexpr int kPrefixBytes = 5;       // of a gRPC message: a flag and its length, big-endian
constexpr timeval kPatience{120, 0};  // for what is next of an answer
constexpr size_t kReadBytes = 16384;

nghttp2_nv Header(std::string_view name, std::string_view value) {
  auto bytes = [](std::string_view text) {
    return const_cast<uint8_t*>(reinterpret_cast<const uint8_t*>(text.data()));
  };
  return {bytes(name), bytes(value), name.size(), value.size(), NGHTTP2_NV_FLAG_NONE};
}

std::string Framed(const google::protobuf::MessageLite& message) {
  std::string framed(kPrefixBytes, '\0');
  message.AppendToString(&framed);
  const uint32_t length = htonl(static_cast<uint32_t>(framed.size() - kPrefixBytes));
  std::memcpy(framed.data() + 1, &length, sizeof length);
  return framed;
}

Error Broken(const std::string& what) { return Error(Code::kUnavailable, what); }

}  // namespace

class LightClient::Impl {
 public:
  explicit Impl(UniqueFd socket) : socket_(std::move(socket)) {
    nghttp2_session_callbacks* callbacks = nullptr;
    nghttp2_session_callbacks_new(&callbacks);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, OnHeader);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, OnData);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, OnClose);
    nghttp2_session_client_new(&session_, callbacks, this);
    nghttp2_session_callbacks_del(callbacks);
    nghttp2_submit_settings(session_, NGHTTP2_FLAG_NONE, nullptr, 0);
  }
  ~Impl() { nghttp2_session_del(session_); }

  Result<> Call(const std::string& method, const google::protobuf::MessageLite& request,
                google::protobuf::MessageLite* response) {
    request_ = Framed(request);
    sent_ = 0;
    answer_.clear();
    status_.clear();
    message_.clear();
    open_ = true;
    const nghttp2_nv headers[] = {
        Header(":method", "POST"), Header(":scheme", "http"),
        Header(":path", method),   Header(":authority", "localhost"),
        Header("te", "trailers"),  Header("content-type", "application/grpc"),
    };
    nghttp2_data_provider body{.source = {.ptr = this}, .read_callback = ReadRequest};
    if (nghttp2_submit_request(session_, nullptr, headers, std::size(headers), &body, nullptr) <
        0) {
      return Broken("the connection takes no more calls");
    }
    while (open_) {
      TRY(Send());
      TRY(Receive());
    }
    return Outcome(response);
  }

 private:
  static Impl& Self(void* user) { return *static_cast<Impl*>(user); }

  static ssize_t ReadRequest(nghttp2_session*, int32_t, uint8_t* buffer, size_t length,
                             uint32_t* flags, nghttp2_data_source* source, void*) {
    Impl& self = Self(source->ptr);
    const size_t count = std::min(length, self.request_.size() - self.sent_);
    std::memcpy(buffer, self.request_.data() + self.sent_, count);
    self.sent_ += count;
    if (self.sent_ == self.request_.size()) *flags |= NGHTTP2_DATA_FLAG_EOF;
    return static_cast<ssize_t>(count);
  }
  static int OnHeader(nghttp2_session*, const nghttp2_frame*, const uint8_t* name,
                      size_t name_length, const uint8_t* value, size_t value_length, uint8_t,
                      void* user) {
    const std::string_view key(reinterpret_cast<const char*>(name), name_length);
    const std::string_view text(reinterpret_cast<const char*>(value), value_length);
    if (key == "grpc-status") Self(user).status_ = text;
    if (key == "grpc-message") Self(user).message_ = text;
    return 0;
  }
  static int OnData(nghttp2_session*, uint8_t, int32_t, const uint8_t* data, size_t length,
                    void* user) {
    Self(user).answer_.append(reinterpret_cast<const char*>(data), length);
    return 0;
  }
  static int OnClose(nghttp2_session*, int32_t, uint32_t, void* user) {
    Self(user).open_ = false;
    return 0;
  }

  Result<> Send() {
    output_.clear();
    const uint8_t* data = nullptr;
    ssize_t length = 0;
    while ((length = nghttp2_session_mem_send(session_, &data)) > 0) {
      output_.append(reinterpret_cast<const char*>(data), static_cast<size_t>(length));
    }
    if (length < 0) return Broken(nghttp2_strerror(static_cast<int>(length)));
    for (size_t done = 0; done < output_.size();) {
      const ssize_t count =
          ::send(socket_.get(), output_.data() + done, output_.size() - done, MSG_NOSIGNAL);
      if (count < 0 && errno != EINTR) return Broken("send: " + ErrnoText(errno));
      if (count > 0) done += static_cast<size_t>(count);
    }
    return {};
  }

  Result<> Receive() {
    const ssize_t count = ::recv(socket_.get(), input_.data(), input_.size(), 0);
    if (count < 0 && errno == EINTR) return {};
    if (count < 0) return Broken("recv: " + ErrnoText(errno));
    if (count == 0) return Broken("the server closed the connection");
    const ssize_t taken =
        nghttp2_session_mem_recv(session_, input_.data(), static_cast<size_t>(count));
    if (taken < 0) return Broken(nghttp2_strerror(static_cast<int>(taken)));
    return {};
  }

  Result<> Outcome(google::protobuf::MessageLite* response) const {
    if (status_.empty()) return Broken("the server ended the call without a status");
    if (status_ != "0") return Error(Code::kInternal, "code " + status_ + ": " + message_);
    if (answer_.size() >= kPrefixBytes && answer_[0] == 0 &&
        response->ParseFromArray(answer_.data() + kPrefixBytes,
                                 static_cast<int>(answer_.size()) - kPrefixBytes)) {
      return {};
    }
    return Error(Code::kInternal, "an answer that is no " + response->GetTypeName());
  }

  UniqueFd socket_;
  nghttp2_session* session_ = nullptr;
  std::vector<uint8_t> input_ = std::vector<uint8_t>(kReadBytes);
  std::string output_;

  // Of the call under way.
  std::string request_;
  size_t sent_ = 0;
  std::string answer_, status_, message_;
  bool open_ = false;
};

LightClient::LightClient(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
LightClient::~LightClient() = default;

Result<std::unique_ptr<LightClient>> LightClient::Connect(const std::string& endpoint) {
  constexpr std::string_view kScheme = "unix://";
  const std::string path =
      endpoint.starts_with(kScheme) ? endpoint.substr(kScheme.size()) : endpoint;
  sockaddr_un address{.sun_family = AF_UNIX, .sun_path = {}};
  if (path.size() >= sizeof address.sun_path) {
    return Error(Code::kInvalidArgument, endpoint + " is too long for a socket");
  }
  path.copy(address.sun_path, path.size());
  UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!socket.valid()) return Error::Sys(errno, "socket", path);
  ::setsockopt(socket.get(), SOL_SOCKET, SO_RCVTIMEO, &kPatience, sizeof kPatience);
  if (::connect(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
    return Error::Sys(errno, "connect", path);
  }
  return std::unique_ptr<LightClient>(new LightClient(std::make_unique<Impl>(std::move(socket))));
}

Result<> LightClient::Call(const std::string& method, const google::protobuf::MessageLite& request,
                           google::protobuf::MessageLite* response) {
  return impl_->Call(method, request, response);
}

}  // namespace skiff::bench

#include "cli/images.h"

#include <fcntl.h>
#include <grpcpp/grpcpp.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstring>

#include "base/grpc/status.h"
#include "base/os/files.h"
#include "cli/table.h"
#include "proto/cri/runtime/v1/api.grpc.pb.h"
#include "proto/skiff/admin/v1/admin.grpc.pb.h"

namespace skiff::cli {
namespace {

namespace admin = skiff::admin::v1;
namespace cri = ::runtime::v1;

constexpr size_t kChunkBytes = 1 << 20;
constexpr int kMaxAnswerBytes = 16 << 20;  // as CRI's clients have it
constexpr std::chrono::seconds kListTimeout{10};
constexpr size_t kShortIdDigits = 12;
constexpr const char* kStartAgent =
    "; is skiff-agent running on this machine? `systemctl start skiff-agent` starts it";

Result<std::string> SocketPath(const std::string& socket) {
  std::string path = socket.starts_with("unix://") ? socket.substr(7) : socket;
  if (path.starts_with('/')) return path;
  return Error(Code::kInvalidArgument,
               "the socket \"" + socket + "\" is not of the form unix:///PATH");
}

// gRPC does not tell why it cannot connect; connect(2) does.
Result<> CheckSocket(const std::string& path) {
  sockaddr_un address{.sun_family = AF_UNIX, .sun_path = {}};
  if (path.size() >= sizeof(address.sun_path)) {
    return Error(Code::kInvalidArgument, "the path of the socket is too long: " + path);
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  const UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd) return Error::Sys(errno, "socket");
  if (connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0) {
    return {};
  }
  switch (errno) {
    case EACCES:
    case EPERM:
      return Error(Code::kPermissionDenied, "no permission to use " + path + ": run this as root");
    case ENOENT: return Error(Code::kUnavailable, "there is no socket " + path + kStartAgent);
    case ECONNREFUSED: return Error(Code::kUnavailable, "nobody serves " + path + kStartAgent);
    default: return Error::Sys(errno, "connect", path);
  }
}

Result<std::shared_ptr<grpc::Channel>> Connect(const std::string& socket) {
  const std::string path = TRY(SocketPath(socket));
  TRY(CheckSocket(path));
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(kMaxAnswerBytes);
  return grpc::CreateCustomChannel("unix:" + path, grpc::InsecureChannelCredentials(), arguments);
}

Result<> FromStatus(const grpc::Status& status, const std::string& socket) {
  switch (status.error_code()) {
    case grpc::StatusCode::OK: return {};
    case grpc::StatusCode::UNAVAILABLE:
      return Error(Code::kUnavailable,
                   "the connection to " + socket + " broke (" + status.error_message() + ")");
    case grpc::StatusCode::UNIMPLEMENTED:
      return Error(Code::kUnimplemented,
                   socket +
                       " cannot do this: it belongs to another runtime than skiff-agent, or "
                       "to an older one");
    default: return FromGrpcStatus(status);
  }
}

Result<UniqueFd> OpenArchive(const std::string& file) {
  UniqueFd fd;
  if (file == "-") {
    if (isatty(STDIN_FILENO) != 0) {
      return Error(Code::kInvalidArgument,
                   "standard input is a terminal: give a file, or pipe an archive into this");
    }
    fd = UniqueFd(fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 0));
    if (!fd) return Error::Sys(errno, "fcntl", "standard input");
  } else {
    fd = TRY(OpenFile(file, O_RDONLY));
  }
  struct stat info {};
  if (fstat(fd.get(), &info) != 0) return Error::Sys(errno, "fstat", file);
  if (S_ISDIR(info.st_mode)) {
    return Error(Code::kInvalidArgument, file + " is a directory; import it with `tar -C " + file +
                                             " -cf - . | skiff image import -`");
  }
  return fd;
}

// Returns at the end of the archive, or when the server wants no more of it: its status tells why.
Result<> SendArchive(int fd, const std::string& name,
                     grpc::ClientWriter<admin::ImportRequest>& writer) {
  admin::ImportRequest request;
  request.set_name(name);
  while (true) {
    std::string* data = request.mutable_data();
    data->resize(kChunkBytes);
    const ssize_t count = read(fd, data->data(), data->size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return Error::Sys(errno, "read");
    if (count == 0) break;
    data->resize(static_cast<size_t>(count));
    if (!writer.Write(request)) return {};
    request.clear_name();
  }
  writer.WritesDone();
  return {};
}

template <class Image>
ImportedImage ReadImage(const Image& image) {
  const auto& names = image.repo_tags().empty() ? image.repo_digests() : image.repo_tags();
  return {image.id(), {names.begin(), names.end()}};
}

std::string ShortId(std::string_view id) {
  if (id.starts_with("sha256:")) id.remove_prefix(7);
  return std::string(id.substr(0, kShortIdDigits));
}

// "745kB", "12.3MB": decimal, three digits, as crictl has it.
std::string FormatSize(uint64_t bytes) {
  constexpr std::array<const char*, 5> kUnits = {"B", "kB", "MB", "GB", "TB"};
  auto size = static_cast<double>(bytes);
  size_t unit = 0;
  for (; size >= 1000 && unit + 1 < kUnits.size(); ++unit) size /= 1000;
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "%.3g%s", size, kUnits[unit]);
  return text.data();
}

}  // namespace

Result<std::vector<ImportedImage>> ImportImages(const ImageImportOptions& options) {
  const UniqueFd archive = TRY(OpenArchive(options.file));
  const auto stub = admin::ImageArchives::NewStub(TRY(Connect(options.socket)));
  grpc::ClientContext context;
  admin::ImportResponse response;
  const auto writer = stub->Import(&context, &response);
  const auto sent = SendArchive(archive.get(), options.name, *writer);
  if (!sent.ok()) context.TryCancel();
  const grpc::Status status = writer->Finish();
  const std::string subject = options.file == "-" ? "standard input" : options.file;
  TRY(Result<>(sent).With(subject));
  TRY(FromStatus(status, options.socket).With(subject));
  std::vector<ImportedImage> images;
  for (const auto& image : response.images()) images.push_back(ReadImage(image));
  return images;
}

Result<> RunImageImport(const ImageImportOptions& options) {
  for (const ImportedImage& image : TRY(ImportImages(options))) {
    for (const std::string& name : image.names) {
      TRY(WriteAll(STDOUT_FILENO, "imported " + name + " (" + ShortId(image.id) + ")\n"));
    }
  }
  return {};
}

std::string ImageTable(const std::vector<ListedImage>& images) {
  std::vector<std::vector<std::string>> rows;
  for (const ListedImage& listed : images) {
    for (const std::string& name : listed.image.names) {
      rows.push_back({name, ShortId(listed.image.id), FormatSize(listed.size_bytes)});
    }
  }
  std::sort(rows.begin(), rows.end());
  rows.insert(rows.begin(), {"NAME", "IMAGE ID", "SIZE"});
  return RenderTable(rows);
}

Result<> RunImageList(const std::string& socket) {
  const auto stub = cri::ImageService::NewStub(TRY(Connect(socket)));
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + kListTimeout);
  cri::ListImagesResponse response;
  TRY(FromStatus(stub->ListImages(&context, {}, &response), socket));
  std::vector<ListedImage> images;
  for (const auto& image : response.images()) images.push_back({ReadImage(image), image.size()});
  return WriteAll(STDOUT_FILENO, ImageTable(images));
}

}  // namespace skiff::cli

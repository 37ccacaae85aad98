#include "cli/images.h"

#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cstring>

#include "base/os/files.h"
#include "proto/skiff/admin/v1/admin.grpc.pb.h"

namespace skiff::cli {
namespace {

namespace admin = skiff::admin::v1;
using testing::HasSubstr;

// Keeps what it is sent; refuses what begins with "bad" before it has read on.
class RecordingArchives final : public admin::ImageArchives::Service {
 public:
  grpc::Status Import(grpc::ServerContext*, grpc::ServerReader<admin::ImportRequest>* reader,
                      admin::ImportResponse* response) override {
    admin::ImportRequest request;
    while (reader->Read(&request)) {
      if (!request.name().empty()) names.push_back(request.name());
      bytes += request.data();
      if (bytes.starts_with("bad")) {
        return {grpc::StatusCode::INVALID_ARGUMENT, "neither this nor that"};
      }
    }
    auto* image = response->add_images();
    image->set_id("sha256:0123456789abcdef");
    image->add_repo_digests("import.local/image@sha256:00");
    return grpc::Status::OK;
  }
  std::string bytes;
  std::vector<std::string> names;
};

class ImagesTest : public ::testing::Test {
 protected:
  ImagesTest() {
    grpc::ServerBuilder builder;
    builder.AddListeningPort("unix:" + socket_, grpc::InsecureServerCredentials());
    builder.RegisterService(&archives_);
    server_ = builder.BuildAndStart();
  }
  std::string File(const std::string& bytes) const {
    const std::string path = directory_.path() + "/archive.tar";
    EXPECT_TRUE(WriteFileAtomic(path, bytes, Durability::kNone).ok());
    return path;
  }
  static std::string ErrorOf(const ImageImportOptions& options) {
    const auto imported = ImportImages(options);
    return imported.ok() ? "imported" : imported.error().message();
  }

  const TempDir directory_ = *TempDir::Make();
  const std::string socket_ = directory_.path() + "/skiff.sock";
  RecordingArchives archives_;
  std::unique_ptr<grpc::Server> server_;
};

TEST_F(ImagesTest, TheWholeFileArrives) {
  std::string bytes(3'000'000, '\0');
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>(i * 7 / 3);
  const auto imported = ImportImages({"unix://" + socket_, File(bytes), "site:1"});
  ASSERT_TRUE(imported.ok()) << imported.error().message();
  EXPECT_TRUE(archives_.bytes == bytes);
  EXPECT_EQ(archives_.names, std::vector<std::string>{"site:1"});
  ASSERT_EQ(imported->size(), 1u);
  EXPECT_EQ((*imported)[0].id, "sha256:0123456789abcdef");
  EXPECT_EQ((*imported)[0].names, std::vector<std::string>{"import.local/image@sha256:00"});
}

TEST_F(ImagesTest, EveryTroubleHasItsLine) {
  const std::string bad = File("bad" + std::string(20 << 20, 'x'));
  EXPECT_EQ(ErrorOf({socket_, bad, ""}), bad + ": neither this nor that");
  EXPECT_THAT(ErrorOf({socket_, directory_.path(), ""}), HasSubstr("is a directory"));
  EXPECT_THAT(ErrorOf({socket_, directory_.path() + "/no", ""}), HasSubstr("ENOENT"));
  EXPECT_THAT(ErrorOf({"tcp://x", bad, ""}), HasSubstr("not of the form unix:///PATH"));
  EXPECT_THAT(ErrorOf({"/" + std::string(200, 'x'), bad, ""}), HasSubstr("too long"));
  EXPECT_THAT(ErrorOf({directory_.path() + "/no.sock", bad, ""}),
              HasSubstr("systemctl start skiff-agent"));
  // A socket whose server died.
  const std::string dead = directory_.path() + "/dead.sock";
  const UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM, 0));
  sockaddr_un address{.sun_family = AF_UNIX, .sun_path = {}};
  std::memcpy(address.sun_path, dead.data(), dead.size());
  ASSERT_EQ(bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
  EXPECT_THAT(ErrorOf({dead, bad, ""}), HasSubstr("nobody serves"));
  // A runtime that knows nothing of images.
  EXPECT_THAT(RunImageList(socket_).error().message(), HasSubstr("another runtime"));
}

TEST(ImageTableTest, OneLineAName) {
  EXPECT_EQ(ImageTable({{{"sha256:0123456789abcdef", {"b:1", "a:1"}}, 12'345'678},
                        {{"sha256:ffffffffffffffff", {"c@sha256:00"}}, 999}}),
            "NAME          IMAGE ID       SIZE\n"
            "a:1           0123456789ab   12.3MB\n"
            "b:1           0123456789ab   12.3MB\n"
            "c@sha256:00   ffffffffffff   999B\n");
}

}  // namespace
}  // namespace skiff::cli

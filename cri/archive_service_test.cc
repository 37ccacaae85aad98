#include "cri/archive_service.h"

#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include "base/os/files.h"
#include "proto/skiff/admin/v1/admin.grpc.pb.h"
#include "runtime/image/image_store.h"
#include "runtime/image/testing/image_builder.h"

namespace skiff::cri {
namespace {

namespace admin = skiff::admin::v1;
using runtime::testing::BuildImage;
using runtime::testing::Packing;
using runtime::testing::TarBuilder;

class ArchiveServiceTest : public ::testing::Test {
 protected:
  ArchiveServiceTest() {
    runtime::ImageStore::Options options;
    options.root = directory_.path() + "/images";
    images_ = *runtime::ImageStore::Open(options);
    service_ = MakeArchiveService(*images_, blocking_);
    grpc::ServerBuilder builder;
    builder.RegisterService(service_.get());
    server_ = builder.BuildAndStart();
    stub_ = admin::ImageArchives::NewStub(server_->InProcessChannel({}));
  }

  // An archive as docker save writes it.
  std::string Archive() const {
    return TarBuilder()
        .File("config.json", image_.config)
        .File("layer.tar", layer_)
        .File("manifest.json",
              R"([{"Config":"config.json","RepoTags":["demo:1","demo:2"],"Layers":["layer.tar"]}])")
        .Finish();
  }
  grpc::Status Import(const std::string& archive, const std::string& name, size_t chunk) {
    grpc::ClientContext context;
    response_.Clear();
    const auto writer = stub_->Import(&context, &response_);
    for (size_t at = 0; at < archive.size(); at += chunk) {
      admin::ImportRequest request;
      if (at == 0) request.set_name(name);
      request.set_data(archive.substr(at, chunk));
      if (!writer->Write(request)) break;
    }
    writer->WritesDone();
    return writer->Finish();
  }

  const TempDir directory_ = *TempDir::Make();
  const std::string layer_ = TarBuilder().File("bin/app", std::string(5000, 'x')).Finish();
  const runtime::testing::BuiltImage image_ = BuildImage({layer_}, Packing::kPlain);
  ThreadPool blocking_{"blocking", 6};
  std::unique_ptr<runtime::ImageStore> images_;
  std::unique_ptr<grpc::Service> service_;
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<admin::ImageArchives::Stub> stub_;
  admin::ImportResponse response_;
};

TEST_F(ArchiveServiceTest, TakesInWhatArrivesInPieces) {
  // Padding behind the end, as tar writes it.
  const auto status = Import(Archive() + std::string(10240, '\0'), "", 1000);
  ASSERT_TRUE(status.ok()) << status.error_message();
  ASSERT_EQ(response_.images_size(), 1);
  EXPECT_EQ(response_.images(0).id(), image_.config_digest.text());
  EXPECT_EQ(response_.images(0).repo_tags_size(), 2);
  ASSERT_NE(images_->Find("demo:2"), nullptr);
  EXPECT_EQ(images_->Find("demo:2")->id, image_.config_digest);
}

TEST_F(ArchiveServiceTest, TheClientMayNameTheImage) {
  const auto status = Import(Archive(), "example.org/site:3", 1 << 20);
  ASSERT_TRUE(status.ok()) << status.error_message();
  ASSERT_EQ(response_.images(0).repo_tags_size(), 1);
  EXPECT_EQ(response_.images(0).repo_tags(0), "example.org/site:3");
  EXPECT_EQ(images_->Find("demo:1"), nullptr);
}

TEST_F(ArchiveServiceTest, WhatIsNoArchiveIsRefused) {
  EXPECT_EQ(Import("", "", 1).error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(Import(TarBuilder().File("x", "y").Finish(), "", 512).error_code(),
            grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(Import(TarBuilder().File("manifest.json", "[]").Finish(), "", 512).error_code(),
            grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(Import(Archive(), "Not A Name", 512).error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  // The refusal comes while there is more to send.
  EXPECT_FALSE(Import(std::string(8 << 20, 'x'), "", 64 << 10).ok());
  EXPECT_FALSE(Import(Archive().substr(0, 3000), "", 512).ok());
  EXPECT_TRUE(images_->List().empty());
}

TEST_F(ArchiveServiceTest, ClientsThatLeaveLeaveNothing) {
  {
    grpc::ClientContext context;
    const auto writer = stub_->Import(&context, &response_);
    admin::ImportRequest request;
    request.set_data(Archive().substr(0, 3000));
    ASSERT_TRUE(writer->Write(request));
    context.TryCancel();
    EXPECT_FALSE(writer->Finish().ok());
  }
  server_->Shutdown();  // waits for the call's end
  EXPECT_TRUE(images_->List().empty());
  EXPECT_TRUE(ListDirectory(directory_.path() + "/images/staging")->empty());
}

TEST_F(ArchiveServiceTest, OnlySoManyAtATime) {
  struct Held {
    grpc::ClientContext context;
    admin::ImportResponse response;
    std::unique_ptr<grpc::ClientWriter<admin::ImportRequest>> writer;
  };
  std::vector<std::unique_ptr<Held>> held;
  for (int i = 0; i < 5; ++i) {
    auto call = std::make_unique<Held>();
    call->writer = stub_->Import(&call->context, &call->response);
    // It says that the call has reached the server.
    call->writer->WaitForInitialMetadata();
    held.push_back(std::move(call));
  }
  held.back()->writer->WritesDone();
  EXPECT_EQ(held.back()->writer->Finish().error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  held.pop_back();
  for (const auto& call : held) {
    call->writer->WritesDone();
    EXPECT_EQ(call->writer->Finish().error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  }
  EXPECT_TRUE(Import(Archive(), "", 4096).ok());
}

}  // namespace
}  // namespace skiff::cri

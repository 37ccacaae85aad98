// Who keeps a connection of many streams alive: its handles and what is under way, and nothing once
// the connection or its executor is gone.

#include "base/streaming/mux.h"

#include <gtest/gtest.h>
#include <sys/socket.h>

#include <functional>
#include <optional>

#include "base/streaming/fd_stream.h"
#include "base/streaming/spdy_connection.h"
#include "base/streaming/stream_pair.h"
#include "base/streaming/websocket_channels.h"

namespace skiff::streaming {
namespace {

constexpr uint32_t kChannelCount = 3;

// A connection whose streams are open, read and written by callbacks that hold their handles.
std::weak_ptr<Mux> MakeBusy(Executor& executor, std::shared_ptr<Stream> connection) {
  auto mux = std::make_shared<WebSocketChannels>(
      executor, std::move(connection), WebSocketChannels::Options{.role = WebSocketRole::kServer});
  mux->set_on_gone([mux] {});
  for (uint32_t id = 0; id < kChannelCount; ++id) {
    mux->Open(id);
    std::shared_ptr<Stream> handle = mux->Attach(id);
    handle->Read([handle](Result<std::string>) {});
    handle->Write(std::string(1 << 20, 'x'), [handle](Result<>) {});
  }
  mux->Start();
  return mux;
}

TEST(MuxTest, ClientThatDiesFreesIt) {
  ManualExecutor executor;
  auto [ours, theirs] = MakeStreamPair(executor);
  std::weak_ptr<Mux> mux = MakeBusy(executor, std::move(ours));
  executor.RunUntilIdle();
  EXPECT_FALSE(mux.expired());
  theirs.reset();  // without a goodbye, and with our output unread
  executor.RunUntilIdle();
  EXPECT_TRUE(mux.expired());
}

TEST(MuxTest, ExecutorThatStopsFreesIt) {
  std::weak_ptr<Mux> before_its_turn;
  std::weak_ptr<Mux> under_way;
  {
    ManualExecutor executor;
    auto [ours, theirs] = MakeStreamPair(executor);
    under_way = MakeBusy(executor, std::move(ours));
    executor.RunUntilIdle();
    auto [second, other] = MakeStreamPair(executor);
    before_its_turn = MakeBusy(executor, std::move(second));
  }
  EXPECT_TRUE(before_its_turn.expired());
  EXPECT_TRUE(under_way.expired());
}

// A server that is done resets its streams and closes, also while we still write: what it said
// before is heard to its end, however late it is read.
TEST(MuxTest, WhatThePeerSaidBeforeItLeftIsHeard) {
  ManualExecutor executor;
  auto [ours, theirs] = MakeStreamPair(executor);
  auto mux = std::make_shared<SpdyConnection>(executor, std::move(ours));
  constexpr uint32_t kId = 1;
  mux->Open(kId);
  std::shared_ptr<Stream> handle = mux->Attach(kId);
  mux->Post([mux] { mux->Announce(kId, {}); });
  mux->Start();
  executor.RunUntilIdle();

  const std::string piece(16 << 10, 's');
  constexpr int kPieces = 100;  // much more than waits unread on our side
  static_assert(kPieces * (16 << 10) > 2 * kMaxStreamBacklogBytes);
  for (int i = 0; i < kPieces; ++i) theirs->Write(SpdyWriter::Data(kId, piece, false), nullptr);
  theirs->Write(SpdyWriter::Reset(kId, SpdyResetStatus::kCancel), nullptr);
  theirs->CloseWrite();
  theirs.reset();
  handle->Write("nobody hears this", nullptr);
  executor.RunUntilIdle();

  size_t heard = 0;
  std::optional<Error> end;
  std::function<void()> read = [&] {
    handle->Read([&](Result<std::string> data) {
      if (!data.ok()) {
        end = data.error();
        return;
      }
      heard += data->size();
      read();
    });
  };
  read();
  executor.RunUntilIdle();
  EXPECT_EQ(heard, kPieces * piece.size());
  ASSERT_TRUE(end.has_value());
  EXPECT_EQ(end->code(), Code::kUnavailable);
  // With the last handle the connection is given up.
  std::weak_ptr<Mux> weak = mux;
  mux.reset();
  handle.reset();
  read = nullptr;
  executor.RunUntilIdle();
  EXPECT_TRUE(weak.expired());
}

// The loop of the descriptors and the executor of the connection end at any moment of their talk.
TEST(MuxTest, LoopThatEndsFreesIt) {
  for (int round = 0; round < 50; ++round) {
    std::weak_ptr<Mux> mux;
    {
      ThreadPool pool("test", 2);
      IoThread io;
      int fds[2];
      ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
      UniqueFd peer(fds[1]);
      mux = MakeBusy(pool, MakeFdStream(io, UniqueFd(fds[0])));
      if (round % 2 == 0) peer.Reset();
    }
    EXPECT_TRUE(mux.expired()) << round;
  }
}

}  // namespace
}  // namespace skiff::streaming

// Streams: the standard streams of one container, on the shim's side.
//
// Output goes to the log and to every attached client; input comes from the clients. A client that
// does not keep up holds the container's output back for a while and is then dropped, so it can
// neither lose a line nor stop the container for good.
#pragma once

#include <list>
#include <memory>
#include <string>
#include <string_view>

#include "base/os/unique_fd.h"
#include "base/result.h"
#include "runtime/shim/event_loop.h"
#include "runtime/shim/log_writer.h"

namespace skiff::runtime {

class Streams {
 public:
  struct Options {
    bool stdin_once = false;
    LogSpec log;
  };
  // loop outlives it. on_output_end is called (once, from the loop) when all output has been read.
  Streams(EventLoop& loop, Options options, std::function<void()> on_output_end);
  ~Streams();
  Streams(const Streams&) = delete;
  Streams& operator=(const Streams&) = delete;

  Result<> OpenLog() { return log_.Open(); }

  // Pipes: the read ends of the output, the write end of the input (invalid: none).
  Result<> UsePipes(UniqueFd out, UniqueFd err, UniqueFd in);
  // A terminal's master side carries all three.
  Result<> UseTerminal(UniqueFd master);
  Result<> ResizeTerminal(uint16_t rows, uint16_t columns);

  Result<> Attach(UniqueFd in, UniqueFd out, UniqueFd err);
  bool output_ended() const;
  // Reads what is there now and takes it for the end.
  void EndOutput();

 private:
  class Output;
  class Input;
  class Client;
  friend class Output;
  friend class Client;

  void Deliver(LogStream stream, std::string_view data);
  void OutputEnded();
  // Output is read only while no client is behind.
  void UpdateReading();
  void ClientInput(std::string_view data);
  bool WantsInput() const;
  void ClientInputEnded();
  void DropClient(Client* client);
  void UpdateClientReading();

  EventLoop& loop_;
  const Options options_;
  std::function<void()> on_output_end_;
  LogWriter log_;
  std::unique_ptr<Output> outputs_[2];
  std::unique_ptr<Input> input_;
  std::list<std::unique_ptr<Client>> clients_;
};

}  // namespace skiff::runtime

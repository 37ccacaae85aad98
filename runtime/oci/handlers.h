// OciHandlers: the OCI runtimes that the configuration names, as they were found at the start.
// Immutable after Open.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "runtime/oci/features.h"
#include "runtime/runtime.h"

namespace skiff::runtime {

// A handler that answered.
struct OciRuntime {
  std::string name;
  std::vector<std::string> command;  // the program and its global arguments
  std::string root;                  // its state directory, which is among them
  std::string version;
  std::optional<OciFeatures> features;  // unset: it does not tell (crun before 1.8.6)
};

class OciHandlers {
 public:
  // Asks each program for its version and features, for some seconds at most. One that is missing
  // or does not answer is left out, and a warning says so: a node must come up without it.
  // InvalidArgument for a configuration that is wrong whatever is installed.
  static Result<std::unique_ptr<OciHandlers>> Open(const std::vector<OciHandler>& configured,
                                                   const std::string& state_dir);

  // Null for the built-in way (""). NotFound for others that are not there.
  Result<const OciRuntime*> Find(const std::string& name) const;
  const std::vector<OciRuntime>& all() const { return runtimes_; }

 private:
  std::vector<OciRuntime> runtimes_;
};

// Names, paths and arguments. Pure.
Result<> CheckHandlers(const std::vector<OciHandler>& handlers);

// The first line of what "--version" prints. Pure.
std::string FirstLine(std::string_view text);

}  // namespace skiff::runtime

// What an OCI runtime said in its log (--log-format json) before it failed. Pure, and without a
// JSON library: the shim reads it.
#pragma once

#include <string>
#include <string_view>

namespace skiff::runtime {

// The message of the last entry that is an error; of the last entry where none is. Empty for a log
// without entries. The text is the runtime's: for people, not to branch on.
std::string LastLogMessage(std::string_view log);

}  // namespace skiff::runtime

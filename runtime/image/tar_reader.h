// TarReader: the entries of a tar stream (POSIX ustar and pax, GNU long names; pax(1), tar(5)).
//
// Our own rather than libarchive's, because names in layers are bytes: libarchive converts pax
// names through the process's locale and loses those that do not fit. Reads untrusted bytes:
// every length has a limit, and errors say where in the stream. One thread.
#pragma once

#include <cstdint>
#include <ctime>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "runtime/image/byte_source.h"

namespace skiff::runtime {

inline constexpr size_t kTarBlockBytes = 512;  // of headers, and what contents are padded to

enum class TarType { kFile, kDirectory, kSymlink, kHardlink, kCharDevice, kBlockDevice, kFifo };

struct TarEntry {
  TarType type = TarType::kFile;
  std::string path;  // as in the archive: not yet checked
  std::string link_target;
  uint32_t mode = 0;  // permission, setuid, setgid and sticky bits
  uint32_t uid = 0;
  uint32_t gid = 0;
  timespec mtime{};
  uint64_t size_bytes = 0;
  uint32_t device_major = 0;
  uint32_t device_minor = 0;
  std::map<std::string, std::string> xattrs;
};

class TarReader {
 public:
  explicit TarReader(ByteSource& source) : source_(source) {}

  // The next entry, or nothing at the end of the archive. What is unread of the one before is
  // skipped. InvalidArgument: not a tar; DataLoss: cut short; Unimplemented: sparse files.
  Result<std::optional<TarEntry>> Next();
  // The next bytes of the present entry's content; empty at its end. Valid until the next call.
  Result<std::string_view> ReadData();

 private:
  struct Extended;  // what pax and GNU headers say of the entry that follows
  Result<std::string_view> Take(size_t limit);
  Result<> Skip(uint64_t bytes);
  Result<std::string> ReadBlock();
  Result<std::string> ReadWhole(uint64_t size, std::string_view what);
  Result<> ApplyPax(std::string_view records, Extended* extended);
  Result<TarEntry> MakeEntry(const std::string& header, Extended extended);
  Error Wrong(Code code, std::string_view what) const;

  ByteSource& source_;
  std::string_view chunk_;
  uint64_t offset_ = 0;     // in the stream, of the next byte
  uint64_t data_left_ = 0;  // of the present entry
  uint64_t padding_ = 0;    // after it, to the next block
};

}  // namespace skiff::runtime

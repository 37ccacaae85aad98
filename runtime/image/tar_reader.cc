#include "runtime/image/tar_reader.h"

#include <algorithm>
#include <charconv>
#include <climits>
#include <cstring>

namespace skiff::runtime {
namespace {

constexpr uint64_t kMaxExtendedBytes = 1 << 20;  // of one pax or long-name header
constexpr size_t kMaxPath = PATH_MAX;

// Field places of a header block (tar(5)).
struct Field {
  size_t at, length;
};
constexpr Field kName{0, 100}, kMode{100, 8}, kUid{108, 8}, kGid{116, 8}, kSize{124, 12},
    kMtime{136, 12}, kChecksum{148, 8}, kLink{157, 100}, kMajor{329, 8}, kMinor{337, 8},
    kPrefix{345, 155};
constexpr size_t kTypeAt = 156;
constexpr size_t kMagicAt = 257;

std::string_view Raw(const std::string& block, Field field) {
  return std::string_view(block).substr(field.at, field.length);
}

std::string_view Text(const std::string& block, Field field) {
  const std::string_view raw = Raw(block, field);
  return raw.substr(0, raw.find('\0'));
}

// Octal digits between spaces and NULs, or GNU's base 256 (first bit set, two's complement).
std::optional<int64_t> Number(std::string_view raw) {
  if (!raw.empty() && (static_cast<unsigned char>(raw[0]) & 0x80) != 0) {
    const bool negative = (static_cast<unsigned char>(raw[0]) & 0x40) != 0;
    uint64_t value = negative ? ~uint64_t{0} : 0;
    for (size_t i = 0; i < raw.size(); ++i) {
      auto byte = static_cast<unsigned char>(raw[i]);
      if (i == 0) byte = negative ? byte : byte & 0x7f;
      // What is shifted out must be sign only.
      if ((value >> 56) != (negative ? 0xff : 0)) return std::nullopt;
      value = value << 8 | byte;
    }
    if (!negative && value > INT64_MAX) return std::nullopt;
    return static_cast<int64_t>(value);
  }
  raw = raw.substr(std::min(raw.find_first_not_of(' '), raw.size()));
  raw = raw.substr(0, raw.find_first_of(std::string_view(" \0", 2)));
  if (raw.empty()) return 0;
  int64_t value = 0;
  const auto [end, error] = std::from_chars(raw.data(), raw.data() + raw.size(), value, 8);
  if (error != std::errc() || end != raw.data() + raw.size() || value < 0) return std::nullopt;
  return value;
}

bool ChecksumFits(const std::string& block) {
  int64_t as_unsigned = 0;
  int64_t as_signed = 0;  // what some old writers summed
  for (size_t i = 0; i < kTarBlockBytes; ++i) {
    const bool in_field = i >= kChecksum.at && i < kChecksum.at + kChecksum.length;
    const char c = in_field ? ' ' : block[i];
    as_unsigned += static_cast<unsigned char>(c);
    as_signed += static_cast<signed char>(c);
  }
  const auto stored = Number(Raw(block, kChecksum));
  return stored && (*stored == as_unsigned || *stored == as_signed);
}

// A decimal number of a pax record.
template <class T>
bool Decimal(std::string_view text, T* value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *value);
  return error == std::errc() && end == text.data() + text.size();
}

// "1700000000.25", also negative.
std::optional<timespec> PaxTime(std::string_view text) {
  timespec time{};
  const size_t dot = text.find('.');
  int64_t seconds = 0;
  if (!Decimal(text.substr(0, dot), &seconds)) return std::nullopt;
  time.tv_sec = seconds;
  if (dot == std::string_view::npos) return time;
  std::string fraction(text.substr(dot + 1, 9));
  if (fraction.empty() || fraction.find_first_not_of("0123456789") != std::string::npos) {
    return std::nullopt;
  }
  fraction.resize(9, '0');
  long nanoseconds = 0;
  if (!Decimal(std::string_view(fraction), &nanoseconds)) return std::nullopt;
  if (text.front() == '-' && nanoseconds > 0) {
    time.tv_sec -= 1;
    nanoseconds = 1'000'000'000 - nanoseconds;
  }
  time.tv_nsec = nanoseconds;
  return time;
}

std::optional<TarType> TypeOf(char flag, std::string_view path) {
  switch (flag) {
    case '\0':  // v7: a directory ends in a slash
    case '0':
    case '7': return path.ends_with('/') ? TarType::kDirectory : TarType::kFile;
    case '1': return TarType::kHardlink;
    case '2': return TarType::kSymlink;
    case '3': return TarType::kCharDevice;
    case '4': return TarType::kBlockDevice;
    case '5': return TarType::kDirectory;
    case '6': return TarType::kFifo;
    default: return std::nullopt;
  }
}

}  // namespace

struct TarReader::Extended {
  std::optional<std::string> path, link_target;
  std::optional<uint64_t> size_bytes;
  std::optional<uint32_t> uid, gid;
  std::optional<timespec> mtime;
  std::map<std::string, std::string> xattrs;
};

Error TarReader::Wrong(Code code, std::string_view what) const {
  return Error(code, "tar at byte " + std::to_string(offset_) + ": " + std::string(what));
}

Result<std::string_view> TarReader::Take(size_t limit) {
  if (chunk_.empty()) chunk_ = TRY(source_.Next());
  const std::string_view taken = chunk_.substr(0, limit);
  chunk_.remove_prefix(taken.size());
  offset_ += taken.size();
  return taken;
}

Result<> TarReader::Skip(uint64_t bytes) {
  while (bytes > 0) {
    const std::string_view taken = TRY(Take(bytes));
    if (taken.empty()) return Wrong(Code::kDataLoss, "cut short");
    bytes -= taken.size();
  }
  return {};
}

// A whole block, or nothing at the end of the stream.
Result<std::string> TarReader::ReadBlock() {
  std::string block;
  block.reserve(kTarBlockBytes);
  while (block.size() < kTarBlockBytes) {
    const std::string_view taken = TRY(Take(kTarBlockBytes - block.size()));
    if (taken.empty()) {
      if (block.empty()) return block;
      return Wrong(Code::kDataLoss, "cut short within a header");
    }
    block.append(taken);
  }
  return block;
}

Result<std::string> TarReader::ReadWhole(uint64_t size, std::string_view what) {
  if (size > kMaxExtendedBytes) {
    return Wrong(Code::kInvalidArgument, std::string(what) + " header too large");
  }
  std::string content;
  while (content.size() < size) {
    const std::string_view taken = TRY(Take(size - content.size()));
    if (taken.empty()) return Wrong(Code::kDataLoss, "cut short within a header");
    content.append(taken);
  }
  TRY(Skip((kTarBlockBytes - size % kTarBlockBytes) % kTarBlockBytes));
  return content;
}

// Records "LENGTH KEY=VALUE\n", where the length counts the whole record.
Result<> TarReader::ApplyPax(std::string_view records, Extended* extended) {
  while (!records.empty()) {
    const size_t space = records.find(' ');
    size_t length = 0;
    if (space == std::string_view::npos || !Decimal(records.substr(0, space), &length) ||
        length > records.size() || length < space + 3 || records[length - 1] != '\n') {
      return Wrong(Code::kInvalidArgument, "malformed pax record");
    }
    const std::string_view record = records.substr(space + 1, length - space - 2);
    records.remove_prefix(length);
    const size_t equals = record.find('=');
    if (equals == std::string_view::npos) {
      return Wrong(Code::kInvalidArgument, "malformed pax record");
    }
    const std::string_view key = record.substr(0, equals);
    const std::string_view value = record.substr(equals + 1);
    bool fits = true;
    uint64_t number = 0;
    if (key == "path") {
      extended->path = value;
    } else if (key == "linkpath") {
      extended->link_target = value;
    } else if (key == "size") {
      fits = Decimal(value, &number) && number <= INT64_MAX;
      extended->size_bytes = number;
    } else if (key == "uid" || key == "gid") {
      fits = Decimal(value, &number) && number < UINT32_MAX;
      (key == "uid" ? extended->uid : extended->gid) = static_cast<uint32_t>(number);
    } else if (key == "mtime") {
      extended->mtime = PaxTime(value);
      fits = extended->mtime.has_value();
    } else if (key.starts_with("SCHILY.xattr.")) {
      extended->xattrs[std::string(key.substr(13))] = value;
    } else if (key.starts_with("GNU.sparse.")) {
      return Wrong(Code::kUnimplemented, "sparse files are not supported");
    }
    if (!fits) {
      return Wrong(Code::kInvalidArgument, "bad value of pax record " + std::string(key));
    }
  }
  return {};
}

Result<TarEntry> TarReader::MakeEntry(const std::string& header, Extended extended) {
  TarEntry entry;
  const bool posix = header.compare(kMagicAt, 6, std::string_view("ustar\0", 6)) == 0;
  if (extended.path) {
    entry.path = *std::move(extended.path);
  } else {
    entry.path = Text(header, kName);
    // GNU's "ustar " keeps other things where POSIX has the prefix.
    if (const auto prefix = Text(header, kPrefix); posix && !prefix.empty()) {
      entry.path = std::string(prefix) + "/" + entry.path;
    }
  }
  entry.link_target =
      extended.link_target ? *std::move(extended.link_target) : std::string(Text(header, kLink));
  if (entry.path.size() >= kMaxPath || entry.link_target.size() >= kMaxPath ||
      entry.path.find('\0') != std::string::npos ||
      entry.link_target.find('\0') != std::string::npos) {
    return Wrong(Code::kInvalidArgument, "bad path");
  }
  const auto type = TypeOf(header[kTypeAt], entry.path);
  if (!type) {
    return Wrong(header[kTypeAt] == 'S' ? Code::kUnimplemented : Code::kInvalidArgument,
                 std::string("entry of unknown type '") + header[kTypeAt] + "'");
  }
  entry.type = *type;
  const auto mode = Number(Raw(header, kMode));
  const auto uid = Number(Raw(header, kUid));
  const auto gid = Number(Raw(header, kGid));
  const auto size = Number(Raw(header, kSize));
  const auto mtime = Number(Raw(header, kMtime));
  const auto major = Number(Raw(header, kMajor));
  const auto minor = Number(Raw(header, kMinor));
  const auto is_id = [](const std::optional<int64_t>& id) {
    return id && *id >= 0 && *id < UINT32_MAX;
  };
  if (!mode || !size || *size < 0 || !mtime || (!is_id(uid) && !extended.uid) ||
      (!is_id(gid) && !extended.gid)) {
    return Wrong(Code::kInvalidArgument, "bad number in a header");
  }
  entry.mode = static_cast<uint32_t>(*mode) & 07777;
  entry.uid = extended.uid.value_or(static_cast<uint32_t>(uid.value_or(0)));
  entry.gid = extended.gid.value_or(static_cast<uint32_t>(gid.value_or(0)));
  entry.mtime = extended.mtime.value_or(timespec{*mtime, 0});
  entry.xattrs = std::move(extended.xattrs);
  if (*type == TarType::kCharDevice || *type == TarType::kBlockDevice) {
    if (!is_id(major) || !is_id(minor)) return Wrong(Code::kInvalidArgument, "bad device number");
    entry.device_major = static_cast<uint32_t>(*major);
    entry.device_minor = static_cast<uint32_t>(*minor);
  }
  const uint64_t stored = extended.size_bytes.value_or(static_cast<uint64_t>(*size));
  // A hard link's size may repeat its target's with no data behind it; other types have none.
  entry.size_bytes = *type == TarType::kFile ? stored : 0;
  if (*type == TarType::kDirectory) entry.size_bytes = 0;
  return entry;
}

Result<std::optional<TarEntry>> TarReader::Next() {
  TRY(Skip(data_left_ + padding_));
  data_left_ = padding_ = 0;
  Extended extended;
  while (true) {
    const std::string header = TRY(ReadBlock());
    // The end is two blocks of zeroes; many writers leave out one or both.
    if (header.empty() || header.find_first_not_of('\0') == std::string::npos) {
      return std::optional<TarEntry>();
    }
    if (!ChecksumFits(header)) return Wrong(Code::kInvalidArgument, "not a tar header");
    const char flag = header[kTypeAt];
    if (flag == 'x' || flag == 'g' || flag == 'L' || flag == 'K') {
      const auto size = Number(Raw(header, kSize));
      if (!size || *size < 0) return Wrong(Code::kInvalidArgument, "bad number in a header");
      std::string content = TRY(ReadWhole(static_cast<uint64_t>(*size), "extended"));
      if (flag == 'x') TRY(ApplyPax(content, &extended));
      // 'g' sets defaults for all entries; in practice it is git's comment, and is skipped.
      content.resize(std::min(content.find('\0'), content.size()));
      if (flag == 'L' && !extended.path) extended.path = content;
      if (flag == 'K' && !extended.link_target) extended.link_target = content;
      continue;
    }
    TarEntry entry = TRY(MakeEntry(header, std::move(extended)));
    data_left_ = entry.size_bytes;
    padding_ = (kTarBlockBytes - entry.size_bytes % kTarBlockBytes) % kTarBlockBytes;
    return std::optional<TarEntry>(std::move(entry));
  }
}

Result<std::string_view> TarReader::ReadData() {
  if (data_left_ == 0) return std::string_view();
  const std::string_view taken = TRY(Take(data_left_));
  if (taken.empty()) return Wrong(Code::kDataLoss, "cut short within a file");
  data_left_ -= taken.size();
  return taken;
}

}  // namespace skiff::runtime

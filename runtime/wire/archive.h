// Archive: plain structs as bytes, for the messages between daemon, shim and init and for records
// on disk. Small enough for the static programs: no tables, no reflection.
//
// A struct takes part by a function template next to it:
//
//   template <class A> void Describe(A& archive, Point& p) { archive(p.x, p.y); }
//
// Every struct is preceded by its length. So a reader skips what a newer writer appended and
// leaves at its default what an older one did not know: fields are only ever appended, never
// removed, reordered or retyped. Integers are little-endian, strings and lists are preceded by
// a 32-bit count.
#pragma once

#include <bit>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "base/clock.h"
#include "base/result.h"

namespace skiff::runtime {

static_assert(std::endian::native == std::endian::little);

class ArchiveWriter {
 public:
  template <class... T>
  void operator()(T&... fields) {
    (Put(fields), ...);
  }
  template <class T>
  void PutStruct(T& value) {
    size_t at = bytes_.size();
    PutNumber<uint32_t>(0);
    Describe(*this, value);
    uint32_t length = static_cast<uint32_t>(bytes_.size() - at - sizeof(uint32_t));
    std::memcpy(bytes_.data() + at, &length, sizeof length);
  }
  std::string Take() { return std::move(bytes_); }

 private:
  template <class T>
  void PutNumber(T value) {
    bytes_.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  template <class T>
  void Put(T& value) {
    if constexpr (std::is_arithmetic_v<T> || std::is_enum_v<T>) {
      PutNumber(value);
    } else {
      PutStruct(value);
    }
  }
  void Put(std::string& text) {
    PutNumber(static_cast<uint32_t>(text.size()));
    bytes_ += text;
  }
  void Put(WallTime& time) {
    PutNumber<int64_t>(
        std::chrono::duration_cast<std::chrono::nanoseconds>(time.time_since_epoch()).count());
  }
  template <class T>
  void Put(std::vector<T>& list) {
    PutNumber(static_cast<uint32_t>(list.size()));
    for (T& item : list) Put(item);
  }
  template <class K, class V>
  void Put(std::map<K, V>& map) {
    PutNumber(static_cast<uint32_t>(map.size()));
    for (auto& [key, value] : map) {
      Put(const_cast<K&>(key));
      Put(value);
    }
  }
  template <class T>
  void Put(std::optional<T>& value) {
    PutNumber<uint8_t>(value.has_value());
    if (value) Put(*value);
  }

  std::string bytes_;
};

// Reads what ArchiveWriter wrote. Damaged input sets failed() and leaves the rest at its defaults;
// it never reads past the end nor allocates more than the input is long.
class ArchiveReader {
 public:
  explicit ArchiveReader(std::string_view bytes) : bytes_(bytes) {}

  template <class... T>
  void operator()(T&... fields) {
    (Get(fields), ...);
  }
  template <class T>
  void GetStruct(T& value) {
    uint32_t length = 0;
    if (!GetNumber(length)) return;
    if (length > bytes_.size()) {
      failed_ = true;
      return;
    }
    ArchiveReader inner(bytes_.substr(0, length));
    bytes_.remove_prefix(length);
    Describe(inner, value);
    failed_ = failed_ || inner.failed_;
  }
  bool failed() const { return failed_; }
  bool at_end() const { return bytes_.empty(); }

 private:
  template <class T>
  bool GetNumber(T& value) {
    // The end of the struct is where an older writer stopped: the default stands.
    if (bytes_.empty() || failed_) return false;
    if (bytes_.size() < sizeof value) {
      failed_ = true;
      return false;
    }
    std::memcpy(&value, bytes_.data(), sizeof value);
    bytes_.remove_prefix(sizeof value);
    return true;
  }
  template <class T>
  void Get(T& value) {
    if constexpr (std::is_same_v<T, bool>) {
      uint8_t byte = value;
      if (!GetNumber(byte)) return;
      failed_ = failed_ || byte > 1;
      value = byte == 1;
    } else if constexpr (std::is_arithmetic_v<T>) {
      GetNumber(value);
    } else if constexpr (std::is_enum_v<T>) {
      // Enumerations end with kLast, which bounds what a record may hold.
      std::underlying_type_t<T> number{};
      if (!GetNumber(number)) return;
      if (number > static_cast<std::underlying_type_t<T>>(LastOf(value))) {
        failed_ = true;
        return;
      }
      value = static_cast<T>(number);
    } else {
      GetStruct(value);
    }
  }
  void Get(std::string& text) {
    uint32_t length = 0;
    if (!GetNumber(length)) return;
    if (length > bytes_.size()) {
      failed_ = true;
      return;
    }
    text.assign(bytes_.substr(0, length));
    bytes_.remove_prefix(length);
  }
  void Get(WallTime& time) {
    int64_t nanos = 0;
    if (GetNumber(nanos)) time = WallTime(std::chrono::nanoseconds(nanos));
  }
  template <class T>
  void Get(std::vector<T>& list) {
    uint32_t count = 0;
    if (!GetNumber(count)) return;
    list.clear();
    for (uint32_t i = 0; i < count && CanGoOn(); ++i) Get(list.emplace_back());
  }
  template <class K, class V>
  void Get(std::map<K, V>& map) {
    uint32_t count = 0;
    if (!GetNumber(count)) return;
    map.clear();
    for (uint32_t i = 0; i < count && CanGoOn(); ++i) {
      K key{};
      Get(key);
      Get(map[key]);
    }
  }
  template <class T>
  void Get(std::optional<T>& value) {
    uint8_t present = 0;
    if (!GetNumber(present)) return;
    failed_ = failed_ || present > 1;
    if (present == 1 && !failed_) Get(value.emplace());
  }
  // A list that claims more items than there are bytes is damaged.
  bool CanGoOn() {
    failed_ = failed_ || bytes_.empty();
    return !failed_;
  }

  std::string_view bytes_;
  bool failed_ = false;
};

template <class T>
std::string Encode(const T& value) {
  ArchiveWriter writer;
  writer.PutStruct(const_cast<T&>(value));
  return writer.Take();
}

// DataLoss when the bytes are no T.
template <class T>
Result<T> Decode(std::string_view bytes) {
  ArchiveReader reader(bytes);
  T value{};
  reader.GetStruct(value);
  if (bytes.empty() || reader.failed() || !reader.at_end()) {
    return Error(Code::kDataLoss, "damaged record or message");
  }
  return value;
}

}  // namespace skiff::runtime

#include "agent/dns/message.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <unordered_map>

namespace skiff::agent::dns {
namespace {

constexpr size_t kMaxLabelBytes = 63;
constexpr size_t kMaxNameBytes = 254;  // of a Name; the root's byte makes 255
constexpr size_t kMaxPointers = 64;    // in one name: more are a loop
constexpr uint16_t kPointer = 0xc000;
constexpr size_t kMaxPointerTarget = 0x3fff;

constexpr uint16_t kResponseFlag = 0x8000, kAuthoritativeFlag = 0x0400, kTruncatedFlag = 0x0200,
                   kRecursionDesiredFlag = 0x0100, kRecursionAvailableFlag = 0x0080,
                   kCheckingDisabledFlag = 0x0010;
constexpr uint32_t kDnssecOkFlag = 0x8000;  // in the TTL field of OPT

char Lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + ('a' - 'A')) : c; }

// Reads big-endian fields; `ok` is false for good once a read went beyond the end.
class Reader {
 public:
  explicit Reader(std::string_view bytes, size_t at = 0) : bytes_(bytes), at_(at) {}

  uint16_t U16() { return static_cast<uint16_t>(Number(2)); }
  uint32_t U32() { return static_cast<uint32_t>(Number(4)); }
  std::string_view Bytes(size_t count) {
    if (!ok_ || bytes_.size() - at_ < count) {
      ok_ = false;
      return {};
    }
    at_ += count;
    return bytes_.substr(at_ - count, count);
  }
  Name ReadName() {
    Name name;
    size_t at = at_;
    bool followed = false;
    for (size_t pointers = 0; ok_;) {
      if (at >= bytes_.size()) break;
      auto length = static_cast<uint8_t>(bytes_[at]);
      if ((length & 0xc0) == 0xc0) {
        if (at + 1 >= bytes_.size() || ++pointers > kMaxPointers) break;
        if (!std::exchange(followed, true)) at_ = at + 2;
        at = static_cast<size_t>(length & 0x3f) << 8 | static_cast<uint8_t>(bytes_[at + 1]);
        continue;
      }
      if (length > kMaxLabelBytes || at + 1 + length > bytes_.size()) break;
      if (length == 0) {
        if (!followed) at_ = at + 1;
        return name;
      }
      if (name.size() + 1 + length > kMaxNameBytes) break;
      name += static_cast<char>(length);
      for (size_t i = 0; i < length; ++i) name += Lower(bytes_[at + 1 + i]);
      at += 1 + length;
    }
    ok_ = false;
    return {};
  }

  bool ok() const { return ok_; }
  size_t at() const { return at_; }

 private:
  uint64_t Number(size_t count) {
    uint64_t value = 0;
    for (char byte : Bytes(count)) value = value << 8 | static_cast<uint8_t>(byte);
    return value;
  }
  std::string_view bytes_;
  size_t at_;
  bool ok_ = true;
};

void Put16(std::string* out, uint32_t value) {
  *out += static_cast<char>(value >> 8);
  *out += static_cast<char>(value);
}
void Put32(std::string* out, uint32_t value) {
  Put16(out, value >> 16);
  Put16(out, value & 0xffff);
}
void Patch16(std::string* out, size_t at, uint32_t value) {
  (*out)[at] = static_cast<char>(value >> 8);
  (*out)[at + 1] = static_cast<char>(value);
}
std::string NameData(NameView name) { return std::string(name) + '\0'; }

struct Header {
  uint16_t id, flags, questions, answers, authority, additional;
};
Header ReadHeader(Reader* reader) {
  Header header{};
  for (uint16_t* field : {&header.id, &header.flags, &header.questions, &header.answers,
                          &header.authority, &header.additional}) {
    *field = reader->U16();
  }
  return header;
}

// Writes records with their owner names compressed: rdata is left as it is, which every client
// understands and newer types demand (RFC 3597).
class Writer {
 public:
  Writer(std::string* out, size_t max_bytes) : out_(out), max_(max_bytes) {}

  // The names at `at` of the message, from its first label to its last.
  void Remember(NameView name, size_t at) {
    for (size_t skip = 0; skip < name.size(); skip += 1 + static_cast<uint8_t>(name[skip])) {
      if (at + skip > kMaxPointerTarget) return;
      places_.emplace(name.substr(skip), at + skip);
    }
  }
  // False, with nothing written, when it does not fit.
  bool Add(const Record& record) {
    size_t start = out_->size();
    PutName(record.name);
    Put16(out_, record.type);
    Put16(out_, kClassIn);
    Put32(out_, record.ttl);
    Put16(out_, static_cast<uint32_t>(record.data.size()));
    *out_ += record.data;
    if (out_->size() <= max_) {
      Remember(NameView(record.name), start);
      return true;
    }
    out_->resize(start);
    return false;
  }

 private:
  void PutName(NameView name) {
    while (!name.empty()) {
      if (auto place = places_.find(name); place != places_.end()) {
        Put16(out_, static_cast<uint32_t>(kPointer | place->second));
        return;
      }
      size_t label = 1 + static_cast<uint8_t>(name[0]);
      *out_ += name.substr(0, label);
      name.remove_prefix(label);
    }
    *out_ += '\0';
  }

  std::string* out_;
  const size_t max_;
  std::unordered_map<std::string_view, size_t> places_;
};

void ReadOpt(Reader* reader, Query* query, Rcode* rcode) {
  query->edns = true;
  query->udp_bytes = std::max<uint16_t>(reader->U16(), kPlainUdpBytes);
  uint32_t flags = reader->U32();
  query->dnssec_ok = (flags & kDnssecOkFlag) != 0;
  if ((flags >> 16 & 0xff) != 0) *rcode = Rcode::kBadVers;
  reader->Bytes(reader->U16());
}

// The data of a record with the names in it written out.
std::string ReadData(std::string_view message, uint16_t type, size_t start, size_t length,
                     bool* ok) {
  Reader reader(message.substr(0, start + length), start);
  std::string data;
  switch (type) {
    case kNs:
    case kCname:
    case kPtr: data = NameData(reader.ReadName()); break;
    case kMx:
      data = std::string(reader.Bytes(2));
      data += NameData(reader.ReadName());
      break;
    case kSrv:
      data = std::string(reader.Bytes(6));
      data += NameData(reader.ReadName());
      break;
    case kSoa:
      data = NameData(reader.ReadName());
      data += NameData(reader.ReadName());
      data += reader.Bytes(20);
      break;
    default: data = std::string(reader.Bytes(length));
  }
  *ok = reader.ok() && reader.at() == start + length;
  return data;
}

bool ReadRecords(std::string_view message, Reader* reader, size_t count, std::vector<Record>* out) {
  for (size_t i = 0; i < count; ++i) {
    Record record;
    record.name = reader->ReadName();
    record.type = reader->U16();
    reader->U16();
    record.ttl = reader->U32();
    // RFC 2181, section 8: the most significant bit set means 0.
    if (record.ttl >> 31 != 0) record.ttl = 0;
    size_t length = reader->U16();
    size_t start = reader->at();
    reader->Bytes(length);
    if (!reader->ok()) return false;
    if (record.type == kOpt) continue;
    bool ok = false;
    record.data = ReadData(message, record.type, start, length, &ok);
    if (!ok) return false;
    out->push_back(std::move(record));
  }
  return true;
}

std::optional<net::IpAddress> ReverseV4(const std::vector<std::string_view>& labels) {
  std::array<uint8_t, 4> bytes{};
  for (size_t i = 0; i < 4; ++i) {
    std::string_view label = labels[3 - i];
    auto [end, error] = std::from_chars(label.begin(), label.end(), bytes[i]);
    if (error != std::errc() || end != label.end()) return std::nullopt;
  }
  return net::IpAddress::FromBytes(net::IpFamily::kV4, bytes.data());
}

std::optional<net::IpAddress> ReverseV6(const std::vector<std::string_view>& labels) {
  std::array<uint8_t, 16> bytes{};
  for (size_t i = 0; i < 32; ++i) {
    std::string_view label = labels[31 - i];
    uint8_t nibble = 0;
    auto [end, error] = std::from_chars(label.begin(), label.end(), nibble, 16);
    if (label.size() != 1 || error != std::errc()) return std::nullopt;
    bytes[i / 2] = static_cast<uint8_t>(bytes[i / 2] << 4 | nibble);
  }
  return net::IpAddress::FromBytes(net::IpFamily::kV6, bytes.data());
}

}  // namespace

std::optional<Name> ParseName(std::string_view text) {
  if (text.ends_with('.')) text.remove_suffix(1);
  Name name;
  while (!text.empty()) {
    std::string_view label = text.substr(0, text.find('.'));
    if (label.empty() || label.size() > kMaxLabelBytes || label.size() + 1 == text.size()) {
      return std::nullopt;
    }
    name += static_cast<char>(label.size());
    for (char c : label) name += Lower(c);
    text.remove_prefix(std::min(label.size() + 1, text.size()));
  }
  if (name.empty() || name.size() > kMaxNameBytes) return std::nullopt;
  return name;
}

std::string NameText(NameView name) {
  std::string text;
  for (std::string_view label : Labels(name)) {
    if (!text.empty()) text += '.';
    for (char c : label) {
      if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_') {
        text += c;
      } else {
        std::string digits = std::to_string(static_cast<uint8_t>(c));
        text += '\\' + std::string(3 - digits.size(), '0') + digits;
      }
    }
  }
  return text.empty() ? "." : text;
}

std::optional<Name> Join(NameView front, NameView back) {
  if (front.size() + back.size() > kMaxNameBytes) return std::nullopt;
  return Name(front).append(back);
}

std::vector<std::string_view> Labels(NameView name) {
  std::vector<std::string_view> labels;
  while (!name.empty()) {
    size_t length = static_cast<uint8_t>(name[0]);
    labels.push_back(name.substr(1, length));
    name.remove_prefix(std::min(1 + length, name.size()));
  }
  return labels;
}

bool IsWithin(NameView name, NameView zone) {
  while (name.size() > zone.size()) {
    name.remove_prefix(
        std::min(1 + static_cast<size_t>(static_cast<uint8_t>(name[0])), name.size()));
  }
  return name == zone;
}

std::optional<net::IpAddress> ParseReverse(NameView name) {
  std::vector<std::string_view> labels = Labels(name);
  if (labels.size() < 2 || labels.back() != "arpa") return std::nullopt;
  std::string_view family = labels[labels.size() - 2];
  if (family == "in-addr" && labels.size() == 6) return ReverseV4(labels);
  if (family == "ip6" && labels.size() == 34) return ReverseV6(labels);
  return std::nullopt;
}

std::optional<ParsedQuery> ParseQuery(std::string_view message) {
  Reader reader(message);
  Header header = ReadHeader(&reader);
  if (!reader.ok() || (header.flags & kResponseFlag) != 0) return std::nullopt;
  ParsedQuery parsed;
  Query& query = parsed.query;
  query.id = header.id;
  query.recursion_desired = (header.flags & kRecursionDesiredFlag) != 0;
  query.checking_disabled = (header.flags & kCheckingDisabledFlag) != 0;
  if ((header.flags >> 11 & 0xf) != 0) {
    parsed.rcode = Rcode::kNotImp;
    return parsed;
  }
  parsed.rcode = Rcode::kFormErr;
  if (header.questions != 1) return parsed;
  query.name = reader.ReadName();
  query.type = reader.U16();
  query.qclass = reader.U16();
  if (!reader.ok()) return parsed;
  query.question = message.substr(kHeaderBytes, reader.at() - kHeaderBytes);
  // Of what follows only OPT matters, and it must be the root's.
  Rcode rcode = Rcode::kNoError;
  size_t others = size_t{header.answers} + header.authority + header.additional;
  for (size_t i = 0; i < others; ++i) {
    Name owner = reader.ReadName();
    uint16_t type = reader.U16();
    if (type == kOpt && owner.empty() && !query.edns) {
      ReadOpt(&reader, &query, &rcode);
    } else {
      reader.Bytes(6);
      reader.Bytes(reader.U16());
      if (type == kOpt) return parsed;
    }
    if (!reader.ok()) return parsed;
  }
  parsed.rcode = rcode;
  return parsed;
}

Record AddressRecord(NameView name, const net::IpAddress& address, uint32_t ttl) {
  return {Name(name), address.is_v4() ? kA : kAaaa, ttl,
          std::string(reinterpret_cast<const char*>(address.bytes()), address.size())};
}

Record NameRecord(NameView name, uint16_t type, NameView target, uint32_t ttl) {
  return {Name(name), type, ttl, NameData(target)};
}

Record SrvRecord(NameView name, uint16_t port, uint16_t weight, NameView target, uint32_t ttl) {
  std::string data;
  Put16(&data, 0);  // priority
  Put16(&data, weight);
  Put16(&data, port);
  return {Name(name), kSrv, ttl, data + NameData(target)};
}

Record TextRecord(NameView name, std::string_view text, uint32_t ttl) {
  text = text.substr(0, 255);
  return {Name(name), kTxt, ttl, static_cast<char>(text.size()) + std::string(text)};
}

Record SoaRecord(NameView zone, uint32_t serial, uint32_t ttl) {
  std::string data = NameData(std::string("\2ns\3dns") + std::string(zone));
  data += NameData(std::string("\12hostmaster") + std::string(zone));
  constexpr uint32_t kRefresh = 7200, kRetry = 1800, kExpire = 86400;
  for (uint32_t field : {serial, kRefresh, kRetry, kExpire, ttl}) Put32(&data, field);
  return {Name(zone), kSoa, ttl, data};
}

std::string WriteResponse(const Query& query, const Answer& answer, size_t max_bytes) {
  constexpr size_t kOptBytes = 11;
  std::string out;
  auto rcode = static_cast<uint16_t>(answer.rcode);
  uint32_t flags = kResponseFlag | kRecursionAvailableFlag | (rcode & 0xf);
  if (answer.authoritative) flags |= kAuthoritativeFlag;
  if (query.recursion_desired) flags |= kRecursionDesiredFlag;
  if (query.checking_disabled) flags |= kCheckingDisabledFlag;
  Put16(&out, query.id);
  Put16(&out, flags);
  Put16(&out, query.question.empty() ? 0 : 1);
  out.resize(kHeaderBytes);
  out += query.question;

  Writer writer(&out, max_bytes - (query.edns ? kOptBytes : 0));
  writer.Remember(query.name, kHeaderBytes);
  uint16_t counts[3] = {};
  const std::vector<Record>* sections[3] = {&answer.answers, &answer.authority, &answer.additional};
  bool full = false;
  for (size_t i = 0; i < 3; ++i) {
    for (const Record& record : *sections[i]) {
      full = full || !writer.Add(record);
      if (full) break;
      ++counts[i];
    }
  }
  if (counts[0] < answer.answers.size() || counts[1] < answer.authority.size()) {
    Patch16(&out, 2, flags | kTruncatedFlag);
  }
  if (query.edns) {
    out += '\0';
    Put16(&out, kOpt);
    Put16(&out, kMaxUdpBytes);
    Put32(&out, uint32_t{rcode} >> 4 << 24 | (query.dnssec_ok ? kDnssecOkFlag : 0));
    Put16(&out, 0);
    ++counts[2];
  }
  for (size_t i = 0; i < 3; ++i) Patch16(&out, 6 + 2 * i, counts[i]);
  return out;
}

std::string WriteError(std::string_view message, Rcode rcode) {
  std::string out(message.substr(0, kHeaderBytes));
  out.resize(kHeaderBytes);
  Reader reader(message);
  Header header = ReadHeader(&reader);
  // The opcode and the wish for recursion are the client's own.
  Patch16(&out, 2,
          kResponseFlag | (header.flags & (0x7800 | kRecursionDesiredFlag)) |
              static_cast<uint16_t>(rcode));
  std::fill(out.begin() + 4, out.end(), '\0');
  return out;
}

std::optional<Response> ParseResponse(std::string_view message) {
  Reader reader(message);
  Header header = ReadHeader(&reader);
  if (!reader.ok() || (header.flags & kResponseFlag) == 0 || header.questions != 1) {
    return std::nullopt;
  }
  Response response;
  response.id = header.id;
  response.rcode = static_cast<Rcode>(header.flags & 0xf);
  response.truncated = (header.flags & kTruncatedFlag) != 0;
  response.name = reader.ReadName();
  response.type = reader.U16();
  if (reader.U16() != kClassIn || !reader.ok()) return std::nullopt;
  // What is cut off is asked for again over TCP: its records may be cut in the middle.
  if (response.truncated) return response;
  if (!ReadRecords(message, &reader, header.answers, &response.answers) ||
      !ReadRecords(message, &reader, header.authority, &response.authority) ||
      !ReadRecords(message, &reader, header.additional, &response.additional)) {
    return std::nullopt;
  }
  return response;
}

std::string WriteQuery(uint16_t id, NameView name, uint16_t type, bool dnssec_ok,
                       bool checking_disabled) {
  std::string out;
  Put16(&out, id);
  Put16(&out, kRecursionDesiredFlag | (checking_disabled ? kCheckingDisabledFlag : 0));
  for (uint32_t count : {1, 0, 0, 1}) Put16(&out, count);
  out += NameData(name);
  Put16(&out, type);
  Put16(&out, kClassIn);
  out += '\0';
  Put16(&out, kOpt);
  Put16(&out, kMaxUdpBytes);
  Put32(&out, dnssec_ok ? kDnssecOkFlag : 0);
  Put16(&out, 0);
  return out;
}

}  // namespace skiff::agent::dns

#include "control-plane/api/rest/list.h"

#include <charconv>

namespace skiff::cp {
namespace {

// Of one read from the store while a page is filled.
constexpr int64_t kChunk = 500;
constexpr std::string_view kTokenPrefix = "v1.";

// "v1.REVISION.KEY": opaque to clients, plain in logs. Keys are made of URL-safe characters.
std::string MakeToken(Revision revision, std::string_view next_key) {
  return std::string(kTokenPrefix) + std::to_string(revision) + "." + std::string(next_key);
}

struct Position {
  Revision revision = 0;
  std::string key;
};

ApiResult<Position> ReadToken(std::string_view token) {
  auto bad = [] { return ApiError::BadRequest("continue key is not valid"); };
  if (!token.starts_with(kTokenPrefix)) return bad();
  token.remove_prefix(kTokenPrefix.size());
  size_t dot = token.find('.');
  if (dot == token.npos) return bad();
  Position position;
  auto [end, status] = std::from_chars(token.data(), token.data() + dot, position.revision);
  if (status != std::errc() || end != token.data() + dot || position.revision <= 0) return bad();
  position.key = token.substr(dot + 1);
  if (position.key.empty()) return bad();
  return position;
}

ListPage FromSnapshot(const KindInfo& kind, const CacheSnapshot& snapshot,
                      const ObjectFilter& filter) {
  ListPage page;
  page.meta.revision = snapshot.revision;
  for (const auto& stored : snapshot.objects) {
    ObjectPtr object = Show(kind, stored->object);
    if (filter.Matches(kind, *object)) page.objects.push_back(std::move(object));
  }
  return page;
}

ApiError ExpiredToken() {
  return ApiError::Expired(
      "The provided continue parameter is too old to display a consistent list result. You can "
      "start a new list without the continue parameter, or use the continue token in this response "
      "to retrieve the remainder of the results. Continuing with the provided token results in an "
      "inconsistent list - objects that were created, modified, or deleted between the time the "
      "first chunk was returned and now may show up in the list.");
}

class StorePager {
 public:
  StorePager(Registry& registry, const KindInfo& kind, const KindInfo& stored, std::string_view ns,
             const ListParameters& parameters)
      : registry_(registry),
        kind_(kind),
        stored_(stored),
        parameters_(parameters),
        prefix_(StoragePrefix(stored)),
        range_prefix_(ns.empty() ? prefix_ : prefix_ + std::string(ns) + "/") {}

  // From the key on (empty: the first), as of the revision, up to the limit.
  ApiResult<ListPage> Read(Revision revision, const std::string& from) {
    ListPage page;
    page.meta.revision = revision;
    RangeRequest request{.prefix = range_prefix_, .limit = kChunk, .revision = revision};
    if (!from.empty()) request.start_key = prefix_ + from;
    while (true) {
      auto range = registry_.deps().store.Range(request);
      if (!range.ok()) {
        if (range.error().code() == Code::kExpired && !from.empty()) return ExpiredToken();
        return range.error();
      }
      if (TRY(TakeFrom(*range, revision, &page))) return page;
      if (range->remaining == 0 || range->kvs.empty()) return page;
      request.start_key = range->kvs.back().key + '\0';
    }
  }

 private:
  // True when the page is full.
  ApiResult<bool> TakeFrom(const RangeResult& range, Revision revision, ListPage* page) {
    const auto limit = static_cast<size_t>(parameters_.limit);
    for (size_t i = 0; i < range.kvs.size(); ++i) {
      const KeyValue& kv = range.kvs[i];
      std::string key = kv.key.substr(prefix_.size());
      if (limit != 0 && page->objects.size() == limit) {
        page->meta.continue_token = MakeToken(revision, key);
        if (parameters_.filter.MatchesEverything()) {
          page->meta.remaining = static_cast<int64_t>(range.kvs.size() - i) + range.remaining;
        }
        return true;
      }
      StoredPtr cached = registry_.deps().cache.Get(stored_, key);
      if (!cached || cached->revision != kv.mod_revision) {
        cached = TRY(DecodeStored(stored_, std::move(key), kv.value, kv.mod_revision));
      }
      ObjectPtr object = Show(kind_, cached->object);
      if (parameters_.filter.Matches(kind_, *object)) page->objects.push_back(std::move(object));
    }
    return false;
  }

  Registry& registry_;
  const KindInfo& kind_;
  const KindInfo& stored_;
  const ListParameters& parameters_;
  const std::string prefix_;
  const std::string range_prefix_;
};

}  // namespace

ApiResult<ListPage> ListObjects(Registry& registry, const KindInfo& kind, const KindInfo& stored,
                                std::string_view ns, const ListParameters& parameters) {
  WatchCache& cache = registry.deps().cache;
  StorePager pager(registry, kind, stored, ns, parameters);
  if (!parameters.continue_token.empty()) {
    if (parameters.revision && *parameters.revision != 0) {
      return ApiError::BadRequest("specifying resource version is not allowed when using continue");
    }
    auto position = TRY(ReadToken(parameters.continue_token));
    return pager.Read(position.revision, position.key);
  }
  const Revision wanted = parameters.revision.value_or(0);
  if (wanted > 0 && !cache.WaitFor(wanted, kRevisionWait)) {
    return ApiError::RevisionTooLarge(wanted, cache.revision());
  }
  // With a limit, a version other than 0 means exactly that one, as it did before
  // resourceVersionMatch came.
  const bool exact =
      parameters.match == VersionMatch::kExact ||
      (parameters.match == VersionMatch::kUnset && wanted > 0 && parameters.limit > 0);
  if (exact) return pager.Read(wanted, "");
  CacheSnapshot snapshot =
      parameters.revision ? cache.List(stored, ns) : TRY(registry.List(stored, ns));
  const bool whole = parameters.limit == 0 || parameters.revision == Revision{0} ||
                     snapshot.objects.size() <= static_cast<size_t>(parameters.limit);
  if (whole) return FromSnapshot(kind, snapshot, parameters.filter);
  return pager.Read(snapshot.revision, "");
}

}  // namespace skiff::cp

#include "control-plane/store/memory_store.h"
#include "control-plane/store/sqlite_store.h"
#include "tests/conformance/store/store_suite.h"

namespace skiff::cp {
namespace {

Result<std::unique_ptr<Store>> OpenMemory(const std::string&, Executor& executor) {
  return MakeMemoryStore(executor);
}

Result<std::unique_ptr<Store>> OpenSqlite(const std::string& directory, Executor&) {
  return OpenSqliteStore({.path = directory + "/store.db"});
}

// With next to no tail, so that watches live from the history in the file.
Result<std::unique_ptr<Store>> OpenSqliteWithoutTail(const std::string& directory, Executor&) {
  return OpenSqliteStore({.path = directory + "/store.db", .readers = 1, .tail_events = 2});
}

std::string Name(const testing::TestParamInfo<StoreBackend>& info) { return info.param.name; }

INSTANTIATE_TEST_SUITE_P(
    Backends, StoreSuite,
    testing::Values(StoreBackend{"Memory", OpenMemory}, StoreBackend{"Sqlite", OpenSqlite, true},
                    StoreBackend{"SqliteWithoutTail", OpenSqliteWithoutTail, true}),
    Name);

}  // namespace
}  // namespace skiff::cp

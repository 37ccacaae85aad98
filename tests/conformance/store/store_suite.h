// What every backend of the store must do, as a parametrised GoogleTest suite.
//
// A backend joins with one line in a test program of its own:
//
//   INSTANTIATE_TEST_SUITE_P(MyStore, StoreSuite, testing::Values(StoreBackend{"MyStore", open}));
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <ostream>
#include <string>

#include "base/async/executor.h"
#include "base/os/files.h"
#include "control-plane/store/store.h"

namespace skiff::cp {

struct StoreBackend {
  std::string name;
  // Opens a store kept in the directory; the executor is for backends that have no threads.
  std::function<Result<std::unique_ptr<Store>>(const std::string& directory, Executor& executor)>
      open;
  // Whether a store opened again in the same directory is the same store.
  bool durable = false;
};
inline void PrintTo(const StoreBackend& backend, std::ostream* out) { *out << backend.name; }

class StoreSuite : public testing::TestWithParam<StoreBackend> {
 protected:
  StoreSuite();
  ~StoreSuite() override;
  // Closes the store and opens it again.
  void Reopen();

  Revision Put(const std::string& key, const std::string& value, LeaseId lease = 0);
  Revision Delete(const std::string& key);

  TempDir directory_;
  ThreadPool pool_{"suite", 2};
  std::unique_ptr<Store> store_;
};

}  // namespace skiff::cp

// A thin owner for SQLite's handles: errors as Result, nothing else hidden.
//
// Not thread-safe: one thread at a time uses a Database and its Statements.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"

struct sqlite3;
struct sqlite3_stmt;

namespace skiff::cp {

class Statement {
 public:
  // Empty: only to be assigned to.
  Statement() = default;

  // Parameters count from 1, columns from 0. The bound bytes must live until Reset.
  Statement& Bind(int parameter, int64_t value);
  Statement& Bind(int parameter, std::string_view blob);
  Statement& BindNull(int parameter);

  // True: a row is there. False: done.
  Result<bool> Step();
  // Runs to the end, ignoring rows, and resets.
  Result<> Run();
  // Ready for the next use; ends the implicit read transaction.
  void Reset();

  int64_t Int(int column) const;
  std::string Blob(int column) const;

 private:
  friend class Database;
  struct Finalize {
    void operator()(sqlite3_stmt* statement) const;
  };
  explicit Statement(sqlite3_stmt* statement) : statement_(statement) {}
  std::unique_ptr<sqlite3_stmt, Finalize> statement_;
};

// Resets a statement at the end of a scope.
class StatementScope {
 public:
  explicit StatementScope(Statement& statement) : statement_(statement) {}
  ~StatementScope() { statement_.Reset(); }
  StatementScope(const StatementScope&) = delete;
  StatementScope& operator=(const StatementScope&) = delete;

 private:
  Statement& statement_;
};

class Database {
 public:
  enum class Mode { kReadOnly, kReadWrite };
  static Result<Database> Open(const std::string& path, Mode mode);

  // One or more statements without parameters.
  Result<> Execute(const std::string& sql);
  // The one number that a query answers.
  Result<int64_t> QueryInt(const std::string& sql);
  // A statement that is kept and used again; to be destroyed before the database.
  Result<Statement> Prepare(std::string_view sql);
  // Whether a transaction is open.
  bool InTransaction() const;

 private:
  struct Close {
    void operator()(sqlite3* db) const;
  };
  explicit Database(sqlite3* db) : db_(db) {}
  std::unique_ptr<sqlite3, Close> db_;
};

}  // namespace skiff::cp

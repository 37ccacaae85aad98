#include "control-plane/store/sqlite_db.h"

#include <sqlite3.h>

namespace skiff::cp {
namespace {

Error SqliteError(sqlite3* db, int result) {
  int sys_errno = sqlite3_system_errno(db);
  std::string message = std::string("sqlite: ") + sqlite3_errmsg(db);
  switch (result & 0xff) {
    case SQLITE_FULL: return Error(Code::kResourceExhausted, message);
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB: return Error(Code::kDataLoss, message);
    case SQLITE_BUSY:
    case SQLITE_LOCKED: return Error(Code::kUnavailable, message);
    case SQLITE_CANTOPEN:
    case SQLITE_IOERR:
    case SQLITE_PERM:
    case SQLITE_READONLY:
      if (sys_errno != 0) return Error::Sys(sys_errno, message);
      [[fallthrough]];
    default: return Error(Code::kInternal, message);
  }
}

}  // namespace

void Statement::Finalize::operator()(sqlite3_stmt* statement) const { sqlite3_finalize(statement); }

Statement& Statement::Bind(int parameter, int64_t value) {
  CHECK(sqlite3_bind_int64(statement_.get(), parameter, value) == SQLITE_OK);
  return *this;
}

Statement& Statement::Bind(int parameter, std::string_view blob) {
  // A null pointer would bind NULL.
  const char* data = blob.data() == nullptr ? "" : blob.data();
  CHECK(sqlite3_bind_blob64(statement_.get(), parameter, data, blob.size(), SQLITE_STATIC) ==
        SQLITE_OK);
  return *this;
}

Statement& Statement::BindNull(int parameter) {
  CHECK(sqlite3_bind_null(statement_.get(), parameter) == SQLITE_OK);
  return *this;
}

Result<bool> Statement::Step() {
  int result = sqlite3_step(statement_.get());
  if (result == SQLITE_ROW) return true;
  if (result == SQLITE_DONE) return false;
  return SqliteError(sqlite3_db_handle(statement_.get()), result);
}

Result<> Statement::Run() {
  StatementScope scope(*this);
  while (TRY(Step())) {
  }
  return {};
}

void Statement::Reset() {
  sqlite3_reset(statement_.get());
  sqlite3_clear_bindings(statement_.get());
}

int64_t Statement::Int(int column) const { return sqlite3_column_int64(statement_.get(), column); }

std::string Statement::Blob(int column) const {
  const void* data = sqlite3_column_blob(statement_.get(), column);
  if (data == nullptr) return {};
  return {static_cast<const char*>(data),
          static_cast<size_t>(sqlite3_column_bytes(statement_.get(), column))};
}

void Database::Close::operator()(sqlite3* db) const { sqlite3_close(db); }

Result<Database> Database::Open(const std::string& path, Mode mode) {
  int flags = SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE;
  flags |=
      mode == Mode::kReadOnly ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE;
  sqlite3* raw = nullptr;
  int result = sqlite3_open_v2(path.c_str(), &raw, flags, nullptr);
  Database database(raw);
  if (raw == nullptr) return Error(Code::kResourceExhausted, "sqlite: out of memory");
  if (result != SQLITE_OK) return SqliteError(raw, result).With(path);
  // Readers and the writer meet only while the log is recovered or checkpointed.
  sqlite3_busy_timeout(raw, 10'000);
  return database;
}

Result<> Database::Execute(const std::string& sql) {
  int result = sqlite3_exec(db_.get(), sql.c_str(), nullptr, nullptr, nullptr);
  if (result != SQLITE_OK) return SqliteError(db_.get(), result);
  return {};
}

Result<int64_t> Database::QueryInt(const std::string& sql) {
  Statement statement = TRY(Prepare(sql));
  if (!TRY(statement.Step())) return Error(Code::kInternal, "sqlite: no row from " + sql);
  return statement.Int(0);
}

Result<Statement> Database::Prepare(std::string_view sql) {
  sqlite3_stmt* statement = nullptr;
  int result = sqlite3_prepare_v3(db_.get(), sql.data(), static_cast<int>(sql.size()),
                                  SQLITE_PREPARE_PERSISTENT, &statement, nullptr);
  if (result != SQLITE_OK) return SqliteError(db_.get(), result);
  return Statement(statement);
}

bool Database::InTransaction() const { return sqlite3_get_autocommit(db_.get()) == 0; }

}  // namespace skiff::cp

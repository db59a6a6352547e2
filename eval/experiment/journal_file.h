// A file of records that only grows, made to be read after its writer was killed at any moment. Each record has its length,
// its place in the file and a checksum of both, then a checksum of its content (XXH3, no protection against forgery); it is
// synced before append() returns. One process at a time has the file, by a lock that ends with the process.
//
// What a kill can leave is a torn tail: an incomplete last record, or one whose content never reached the disk. It is cut
// off. Anything else that doesn't fit is an error that names the byte.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "quant/core/mapped_file.h"

namespace qfid::eval {

/// What a journal's bytes hold.
struct JournalRecords {
  std::vector<std::string_view> records;  ///< contents, in the file's bytes
  std::uint64_t end = 0;                  ///< of the last record, or of what the file begins with; 0 where even that is torn
  std::uint64_t torn_bytes = 0;           ///< behind it
};
/// Error{input} naming the byte where it isn't a journal, or its middle is damaged.
JournalRecords scan_journal(const quant::MappedFile& file);
/// The bytes of a journal of these records.
std::string journal_bytes(const std::vector<std::string_view>& contents);

class JournalFile {
 public:
  enum class Access { append, read };

  /// append: made where it isn't there; locked. read: must be there; not while another appends. Error{usage} when another
  /// process has it, Error{input} when it can't be opened or isn't such a file, or its middle is damaged. `unread`: what it
  /// holds isn't looked at, and replace() comes first.
  JournalFile(const std::filesystem::path& path, Access access, bool unread = false);
  JournalFile(const JournalFile&) = delete;
  JournalFile& operator=(const JournalFile&) = delete;
  ~JournalFile();

  const std::filesystem::path& path() const { return path_; }
  /// The records that were there when it was opened, or read again; valid until then, or as long as this.
  const std::vector<std::string_view>& records() const { return records_; }
  /// Bytes of a torn tail that were left out, and cut off for append.
  std::uint64_t torn_bytes() const { return torn_bytes_; }

  /// Error{input} when it can't be written: then the file is as before.
  void append(std::string_view content);
  /// records() are those that are there now. Errors as on opening.
  void reread();
  /// A file of these records in its place, all at once: records() is empty afterwards, and what comes is appended to the new
  /// file. Error{input}: the old file is still there.
  void replace(const std::vector<std::string_view>& contents);

 private:
  void lock(Access access);
  void scan();

  std::filesystem::path path_;
  int file_ = -1;
  std::optional<quant::MappedFile> mapped_;
  std::vector<std::string_view> records_;
  std::uint64_t end_ = 0, count_ = 0, torn_bytes_ = 0;
};

}  // namespace qfid::eval

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

#include "quant/core/input_file.h"

namespace qfid::eval {

/// The records of a journal. They stay in the file and are read one at a time.
class JournalRecords {
 public:
  JournalRecords() = default;
  /// Error{input} naming the byte where it isn't a journal, or its middle is damaged.
  explicit JournalRecords(quant::InputFile file);

  std::size_t size() const { return records_.size(); }
  /// Error{input} when it can't be read any more, or isn't what it was; Error{unavailable} when memory doesn't hold it.
  std::string record(std::size_t i) const;
  std::filesystem::path path() const { return file_ ? file_->path() : std::filesystem::path(); }
  /// Of the last record, or of what the file begins with; 0 where even that is torn.
  std::uint64_t end() const { return end_; }
  std::uint64_t torn_bytes() const { return torn_bytes_; }  ///< behind it

 private:
  struct Extent {
    std::uint64_t at, bytes, hash;  ///< of the content
  };
  bool zeros_from(std::uint64_t at) const;
  std::uint64_t hash_of(std::uint64_t at, std::uint64_t bytes) const;
  [[noreturn]] void damaged(std::uint64_t at, const std::string& what) const;

  std::optional<quant::InputFile> file_;
  std::vector<Extent> records_;
  std::uint64_t end_ = 0, torn_bytes_ = 0;
};
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
  /// The records that were there when it was opened, or read again.
  const JournalRecords& records() const { return records_; }
  /// Bytes of a torn tail that were left out, and cut off for append.
  std::uint64_t torn_bytes() const { return records_.torn_bytes(); }

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
  JournalRecords records_;
  std::uint64_t end_ = 0, count_ = 0;  ///< of the file as it is now
};

}  // namespace qfid::eval

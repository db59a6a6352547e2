#include "eval/experiment/journal_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <format>
#include <memory>
#include <new>
#include <span>
#include <utility>

#include "quant/core/error.h"

namespace qfid::eval {

namespace fs = std::filesystem;
using quant::Error;
using quant::ErrorKind;

namespace {

constexpr std::string_view magic = "qfid journal 1\n\n";

struct Header {
  std::uint64_t bytes, number;  ///< of the content; place among the records
  std::uint64_t own_hash, content_hash;
};

Header header_of(std::string_view content, std::uint64_t number) {
  Header header{content.size(), number, 0, XXH3_64bits(content.data(), content.size())};
  header.own_hash = XXH3_64bits(&header, 2 * sizeof(std::uint64_t));
  return header;
}

[[noreturn]] void fail(const fs::path& path, const char* what, int error) {
  throw Error(ErrorKind::input, path.string() + ": " + what + ": " + std::strerror(error));
}

/// 0, or the errno of what failed.
int write_at(int file, std::string_view bytes, std::uint64_t at) {
  while (!bytes.empty()) {
    const ssize_t n = ::pwrite(file, bytes.data(), bytes.size(), static_cast<off_t>(at));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return n < 0 ? errno : ENOSPC;
    bytes.remove_prefix(static_cast<std::size_t>(n));
    at += static_cast<std::uint64_t>(n);
  }
  return 0;
}

/// 0, or the errno of what failed; `at` moves behind the record.
int write_record(int file, std::string_view content, std::uint64_t number, std::uint64_t& at) {
  const Header header = header_of(content, number);
  int error = write_at(file, {reinterpret_cast<const char*>(&header), sizeof header}, at);
  if (error == 0) error = write_at(file, content, at + sizeof header);
  if (error == 0) at += sizeof header + content.size();
  return error;
}

int open_directory_and_sync(const fs::path& path) {
  const int directory =
      ::open(path.has_parent_path() ? path.parent_path().c_str() : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (directory < 0) return errno;
  const int error = ::fsync(directory) == 0 || errno == EINVAL ? 0 : errno;  // EINVAL: directories aren't synced there
  ::close(directory);
  return error;
}

bool same_file(int file, const fs::path& path) {
  struct stat opened{}, there{};
  return ::fstat(file, &opened) == 0 && ::stat(path.c_str(), &there) == 0 && opened.st_ino == there.st_ino &&
         opened.st_dev == there.st_dev;
}

}  // namespace

JournalRecords::JournalRecords(quant::InputFile from) : file_(std::move(from)) {
  const quant::InputFile& file = *file_;
  const std::uint64_t size = file.size();
  std::string start(static_cast<std::size_t>(std::min<std::uint64_t>(size, magic.size())), '\0');
  file.read(0, std::as_writable_bytes(std::span(start)));
  if (start != magic.substr(0, start.size()))
    throw Error(ErrorKind::input, file.path().string() + ": isn't a journal of qfid (version 1)");
  if (start == magic) end_ = magic.size();
  while (end_ >= magic.size() && end_ < size) {
    const std::uint64_t rest = size - end_, content = end_ + sizeof(Header);
    if (rest < sizeof(Header)) break;
    Header header{};
    file.read(end_, std::as_writable_bytes(std::span(&header, 1)));
    if (header.own_hash != XXH3_64bits(&header, 2 * sizeof(std::uint64_t)) || header.number != records_.size()) {
      if (zeros_from(end_)) break;  // the length was kept, the bytes weren't
      damaged(end_, std::format("record {} expected, its head is wrong", records_.size()));
    }
    if (header.bytes > rest - sizeof header) break;
    if (header.content_hash != hash_of(content, header.bytes)) {
      if (content + header.bytes == size) break;
      damaged(end_, std::format("the checksum of record {} is wrong", records_.size()));
    }
    records_.push_back({content, header.bytes, header.content_hash});
    end_ = content + header.bytes;
  }
  torn_bytes_ = size - end_;
}

bool JournalRecords::zeros_from(std::uint64_t at) const {
  bool zeros = true;
  file_->read_in_pieces(at, file_->size() - at, "", [&](std::span<const std::byte> bytes) {
    zeros = zeros && std::all_of(bytes.begin(), bytes.end(), [](std::byte byte) { return byte == std::byte{0}; });
  });
  return zeros;
}

std::uint64_t JournalRecords::hash_of(std::uint64_t at, std::uint64_t bytes) const {
  const std::unique_ptr<XXH3_state_t, decltype(&XXH3_freeState)> state(XXH3_createState(), XXH3_freeState);
  if (!state) throw std::bad_alloc();
  XXH3_64bits_reset(state.get());
  file_->read_in_pieces(
      at, bytes, "", [&](std::span<const std::byte> piece) { XXH3_64bits_update(state.get(), piece.data(), piece.size()); });
  return XXH3_64bits_digest(state.get());
}

std::string JournalRecords::record(std::size_t i) const {
  const Extent& extent = records_.at(i);
  std::string content(static_cast<std::size_t>(extent.bytes), '\0');
  file_->read(extent.at, std::as_writable_bytes(std::span(content)), std::format("record {}", i));
  if (XXH3_64bits(content.data(), content.size()) != extent.hash)
    damaged(extent.at - sizeof(Header), std::format("record {} changed while the file was open", i));
  return content;
}

void JournalRecords::damaged(std::uint64_t at, const std::string& what) const {
  throw Error(ErrorKind::input, std::format("{}: byte {}: {}: the file is damaged, and what follows isn't used "
                                            "(qfid run --restart begins anew)",
                                            path().string(), at, what));
}

std::string journal_bytes(const std::vector<std::string_view>& contents) {
  std::string bytes(magic);
  std::uint64_t number = 0;
  for (const std::string_view content : contents) {
    const Header header = header_of(content, number++);
    bytes.append(reinterpret_cast<const char*>(&header), sizeof header);
    bytes += content;
  }
  return bytes;
}

JournalFile::JournalFile(const fs::path& path, Access access, bool unread) : path_(path) {
  try {
    do {  // whoever had it may have put another file in its place before we had the lock
      if (file_ >= 0) ::close(file_);
      lock(access);
    } while (!same_file(file_, path_));
    if (!unread) scan();
    if (access == Access::read || torn_bytes() == 0) return;
    if (::ftruncate(file_, static_cast<off_t>(end_)) != 0 || ::fsync(file_) != 0) fail(path_, "can't write", errno);
  } catch (...) {
    if (file_ >= 0) ::close(file_);
    throw;
  }
}

JournalFile::~JournalFile() { ::close(file_); }

void JournalFile::lock(Access access) {
  const int flags = (access == Access::append ? O_RDWR | O_CREAT : O_RDONLY) | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC;
  file_ = ::open(path_.c_str(), flags, 0644);
  if (file_ < 0) fail(path_, access == Access::append ? "can't write" : "can't open", errno);
  struct stat status{};
  if (::fstat(file_, &status) != 0) fail(path_, "can't open", errno);
  if (!S_ISREG(status.st_mode)) throw Error(ErrorKind::input, path_.string() + ": isn't a regular file");
  if (::flock(file_, (access == Access::append ? LOCK_EX : LOCK_SH) | LOCK_NB) == 0) return;
  if (errno != EWOULDBLOCK) fail(path_, "can't be locked", errno);
  throw Error(ErrorKind::usage, path_.parent_path().string() + ": another process is at work there (it has " +
                                    path_.filename().string() + " locked): wait for it, or use another directory");
}

void JournalFile::scan() {
  struct stat status{};
  if (::fstat(file_, &status) != 0) fail(path_, "can't read", errno);
  if (status.st_size == 0) return;
  records_ = JournalRecords(quant::InputFile(path_));
  count_ = records_.size();
  end_ = records_.end();
}

void JournalFile::reread() {
  records_ = {};
  end_ = count_ = 0;
  scan();
}

void JournalFile::append(std::string_view content) {
  std::uint64_t at = std::max<std::uint64_t>(end_, magic.size());
  int error = end_ == 0 ? write_at(file_, magic, 0) : 0;
  if (error == 0) error = write_record(file_, content, count_, at);
  if (error == 0 && ::fsync(file_) != 0) error = errno;
  if (error != 0) {
    // What is there of the record is a torn tail, should this fail too.
    [[maybe_unused]] const int cut = ::ftruncate(file_, static_cast<off_t>(end_));
    fail(path_, "can't write", error);
  }
  end_ = at;
  ++count_;
}

void JournalFile::replace(const std::vector<std::string_view>& contents) {
  const fs::path temporary = path_.string() + ".tmp";
  ::unlink(temporary.c_str());
  const int file = ::open(temporary.c_str(), O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
  if (file < 0) fail(path_, "can't write", errno);
  std::uint64_t at = magic.size(), number = 0;
  int error = write_at(file, magic, 0);
  for (const std::string_view content : contents)
    if (error == 0) error = write_record(file, content, number++, at);
  if (error == 0 &&
      (::fsync(file) != 0 || ::flock(file, LOCK_EX | LOCK_NB) != 0 || ::rename(temporary.c_str(), path_.c_str()) != 0))
    error = errno;
  if (error != 0) {
    ::close(file);
    ::unlink(temporary.c_str());
    fail(path_, "can't write", error);
  }
  ::close(file_);
  file_ = file;
  end_ = at;
  count_ = number;
  records_ = {};
  if (const int unsynced = open_directory_and_sync(path_); unsynced != 0) fail(path_, "can't write", unsynced);
}

}  // namespace qfid::eval

// Files read with checked reads into memory of our own. Nothing is mapped: a mapped file that another process cuts short,
// or whose disk fails, ends the process with SIGBUS; a read says so, and where.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace qfid::quant {

/// A regular file open for reading, which stays the same file when its name is given to another.
class InputFile {
 public:
  /// Error{input} naming path and reason; anything but a regular file is refused, and never waited for. Not explicit:
  /// readers take an InputFile, and so a path too.
  InputFile(const std::filesystem::path& path);
  /// What is in memory already and must outlive this, under a file's name: readers of files read it as one.
  InputFile(const std::filesystem::path& name, std::string_view content)
      : path_(name), memory_(content.data()), size_(content.size()) {}
  InputFile(InputFile&& other) noexcept;
  InputFile& operator=(InputFile&& other) noexcept;
  ~InputFile();

  std::uint64_t size() const { return size_; }  ///< bytes when it was opened
  const std::filesystem::path& path() const { return path_; }
  /// Fills `into` with the bytes from `at` on. Error{input} naming path, `what` (if any) and byte when they can't be read or
  /// the file has become shorter. Any number of threads at once.
  void read(std::uint64_t at, std::span<std::byte> into, std::string_view what = {}) const;
  /// The same for `bytes` of any number, `take` getting them in order in pieces of at most `piece`.
  void read_in_pieces(std::uint64_t at, std::uint64_t bytes, std::string_view what,
                      const std::function<void(std::span<const std::byte>)>& take) const;
  static constexpr std::size_t piece = std::size_t{1} << 20;  ///< bytes; a multiple of every number's size

 private:
  [[noreturn]] void fail(std::uint64_t at, std::string_view what, const std::string& reason) const;
  void close() noexcept;
  std::filesystem::path path_;
  int file_ = -1;
  const char* memory_ = nullptr;  ///< instead of a file
  std::uint64_t size_ = 0;
};

/// All of a file, read at once.
class FileContent {
 public:
  /// Errors as InputFile; Error{unavailable} naming path and size when there is no memory for it.
  FileContent(const std::filesystem::path& path);
  /// As InputFile's: someone else's bytes under a file's name.
  FileContent(const std::filesystem::path& name, std::string_view content) : path_(name), text_(content) {}

  std::span<const std::byte> bytes() const { return std::as_bytes(std::span(text_)); }
  std::string_view text() const { return text_; }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
  std::unique_ptr<std::byte[]> own_;
  std::string_view text_;
};

}  // namespace qfid::quant

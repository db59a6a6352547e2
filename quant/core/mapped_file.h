// A read-only memory-mapped file. Left out: a file that another process cuts short while it is mapped ends this process with
// SIGBUS, as with every mapping.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>

namespace qfid::quant {

class MappedFile {
 public:
  /// Error{input} naming path and reason; anything but a regular file is refused, and never waited for.
  explicit MappedFile(const std::filesystem::path& path);
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  ~MappedFile();

  std::span<const std::byte> bytes() const { return {data_, size_}; }
  std::string_view text() const { return {reinterpret_cast<const char*>(data_), size_}; }
  const std::filesystem::path& path() const { return path_; }

 private:
  void close() noexcept;
  std::filesystem::path path_;
  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace qfid::quant

// A read-only memory-mapped file. Left out: a file that another process cuts short while it is mapped ends this process with
// SIGBUS, as with every mapping.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

namespace qfid::quant {

class MappedFile {
 public:
  /// Error{input} naming path and reason; anything but a regular file is refused, and never waited for. Not explicit:
  /// readers take a MappedFile, and so a path too.
  MappedFile(const std::filesystem::path& path);
  /// What is in memory already and must outlive this, under a file's name: readers of files read it as one.
  MappedFile(const std::filesystem::path& name, std::string_view content)
      : path_(name), data_(reinterpret_cast<const std::byte*>(content.data())), size_(content.size()), mapped_(false) {}
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
  bool mapped_ = true;  ///< else someone else's
};

}  // namespace qfid::quant

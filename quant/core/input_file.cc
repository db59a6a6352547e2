#include "quant/core/input_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <format>
#include <new>
#include <utility>
#include <vector>

#include "quant/core/out_of_memory.h"

namespace qfid::quant {

namespace {

const char* kind_of(mode_t mode) {
  if (S_ISDIR(mode)) return "a directory";
  if (S_ISFIFO(mode)) return "a pipe";
  if (S_ISSOCK(mode)) return "a socket";
  return "a device";
}

}  // namespace

InputFile::InputFile(const std::filesystem::path& path) : path_(path) {
  const auto refuse = [&](const std::string& why) {
    close();
    throw Error(ErrorKind::input, path.string() + ": " + why);
  };
  // Not blocking: opening a pipe nobody writes to would wait for ever. Regular files don't care.
  file_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  if (file_ < 0) refuse(std::string("can't open: ") + std::strerror(errno));
  struct stat status{};
  if (::fstat(file_, &status) != 0) refuse(std::string("can't examine: ") + std::strerror(errno));
  if (!S_ISREG(status.st_mode)) refuse(std::string("expected a regular file, found ") + kind_of(status.st_mode));
  size_ = static_cast<std::uint64_t>(status.st_size);
}

InputFile::InputFile(InputFile&& other) noexcept
    : path_(std::move(other.path_)),
      file_(std::exchange(other.file_, -1)),
      memory_(other.memory_),
      size_(std::exchange(other.size_, 0)) {}

InputFile& InputFile::operator=(InputFile&& other) noexcept {
  if (this != &other) {
    close();
    path_ = std::move(other.path_);
    file_ = std::exchange(other.file_, -1);
    memory_ = other.memory_;
    size_ = std::exchange(other.size_, 0);
  }
  return *this;
}

InputFile::~InputFile() { close(); }

void InputFile::close() noexcept {
  if (file_ >= 0) ::close(file_);
  file_ = -1;
}

void InputFile::fail(std::uint64_t at, std::string_view what, const std::string& reason) const {
  throw Error(ErrorKind::input,
              std::format("{}: {}{}byte {}: {}", path_.string(), what, what.empty() ? "" : ", ", at, reason));
}

void InputFile::read(std::uint64_t at, std::span<std::byte> into, std::string_view what) const {
  require(at <= size_ && into.size() <= size_ - at, "input file: read beyond the size it was opened with");
  if (file_ < 0) {
    if (!into.empty()) std::memcpy(into.data(), memory_ + at, into.size());
    return;
  }
  while (!into.empty()) {
    const ssize_t n = ::pread(file_, into.data(), into.size(), static_cast<off_t>(at));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail(at, what, std::string("can't read: ") + std::strerror(errno));
    if (n == 0)
      fail(at, what,
           std::format("the file ends here, it had {} bytes when it was opened: cut short while being read", size_));
    into = into.subspan(static_cast<std::size_t>(n));
    at += static_cast<std::uint64_t>(n);
  }
}

void InputFile::read_in_pieces(std::uint64_t at, std::uint64_t bytes, std::string_view what,
                               const std::function<void(std::span<const std::byte>)>& take) const {
  std::vector<std::byte> buffer(static_cast<std::size_t>(std::min<std::uint64_t>(bytes, piece)));
  for (const std::uint64_t end = at + bytes; at < end; at += buffer.size()) {
    buffer.resize(static_cast<std::size_t>(std::min<std::uint64_t>(end - at, piece)));
    read(at, buffer, what);
    take(buffer);
  }
}

FileContent::FileContent(const std::filesystem::path& path) : path_(path) {
  const InputFile file(path);
  const auto size = static_cast<std::size_t>(file.size());
  own_.reset(new (std::nothrow) std::byte[size]);
  if (!own_) throw OutOfMemory(size, "the content of " + path.string());
  file.read(0, {own_.get(), size});
  text_ = {reinterpret_cast<const char*>(own_.get()), size};
}

}  // namespace qfid::quant

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "eval/report/report.h"
#include "quant/core/error.h"

namespace qfid::eval {

namespace fs = std::filesystem;

namespace {

[[noreturn]] void fail(const fs::path& path, const char* what, int error) {
  throw quant::Error(quant::ErrorKind::input, path.string() + ": " + what + ": " + std::strerror(error));
}

/// 0, or the errno of what failed.
int write_and_sync(int file, std::string_view content) {
  while (!content.empty()) {
    const ssize_t n = ::write(file, content.data(), content.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return n < 0 ? errno : EIO;
    content.remove_prefix(static_cast<std::size_t>(n));
  }
  return ::fsync(file) == 0 ? 0 : errno;
}

}  // namespace

void write_file_atomically(const fs::path& path, std::string_view content) {
  const fs::path temporary = path.string() + ".tmp";
  const int file = ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (file < 0) fail(path, "can't write", errno);
  int error = write_and_sync(file, content);
  if (::close(file) != 0 && error == 0) error = errno;
  if (error == 0 && ::rename(temporary.c_str(), path.c_str()) != 0) error = errno;
  if (error != 0) {
    ::unlink(temporary.c_str());
    fail(path, "can't write", error);
  }
  const fs::path parent = path.has_parent_path() ? path.parent_path() : ".";
  const int directory = ::open(parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (directory >= 0) {
    ::fsync(directory);
    ::close(directory);
  }
}

std::vector<fs::path> write_reports(const ExperimentRecord& record, const fs::path& dir) {
  std::error_code error;
  fs::create_directories(dir, error);
  if (error) fail(dir, "can't create the directory", error.value());
  std::vector<fs::path> written;
  const auto put = [&](const std::string& name, const std::string& content) {
    write_file_atomically(dir / name, content);
    written.push_back(dir / name);
  };
  put("report.md", markdown_report(record));
  put("layers.csv", layers_csv(record));
  for (const auto& [name, content] : token_files(record)) put(name, content);
  put("results.json", results_json(record));  // last: whoever sees it sees the rest
  return written;
}

}  // namespace qfid::eval

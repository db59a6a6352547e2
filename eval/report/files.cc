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

/// Files of one directory that appear together: all are written and synced under temporary names before the first is
/// renamed, so a full disk leaves what was there before. Whatever isn't renamed is removed.
class StagedFiles {
 public:
  StagedFiles() = default;
  StagedFiles(const StagedFiles&) = delete;
  StagedFiles& operator=(const StagedFiles&) = delete;
  ~StagedFiles() {
    for (const fs::path& path : paths_) ::unlink(temporary(path).c_str());
  }

  void add(const fs::path& path, std::string_view content) {
    // What an earlier, killed run left is removed, not written into: it may be a link or a pipe.
    ::unlink(temporary(path).c_str());
    const int file = ::open(temporary(path).c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
    if (file < 0) fail(path, "can't write", errno);
    paths_.push_back(path);
    int error = write_and_sync(file, content);
    if (::close(file) != 0 && error == 0) error = errno;
    if (error != 0) fail(path, "can't write", error);
  }

  void commit() {
    while (!paths_.empty()) {
      const fs::path& path = paths_.front();
      if (::rename(temporary(path).c_str(), path.c_str()) != 0) fail(path, "can't write", errno);
      sync_directory(path.has_parent_path() ? path.parent_path() : ".");
      paths_.erase(paths_.begin());
    }
  }

 private:
  static fs::path temporary(const fs::path& path) { return path.string() + ".tmp"; }
  static void sync_directory(const fs::path& path) {
    const int directory = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (directory < 0) return;  // written to, but not to be read: synced with the file system
    const int error = ::fsync(directory) == 0 || errno == EINVAL ? 0 : errno;  // EINVAL: directories aren't synced there
    ::close(directory);
    if (error != 0) fail(path, "can't sync the directory", error);
  }
  std::vector<fs::path> paths_;
};

}  // namespace

void write_file_atomically(const fs::path& path, std::string_view content) {
  StagedFiles files;
  files.add(path, content);
  files.commit();
}

std::vector<fs::path> write_reports(const ExperimentRecord& record, const fs::path& dir) {
  std::error_code error;
  fs::create_directories(dir, error);
  if (error) fail(dir, "can't create the directory", error.value());
  std::vector<fs::path> written;
  StagedFiles files;
  const auto put = [&](const std::string& name, const std::string& content) {
    files.add(dir / name, content);
    written.push_back(dir / name);
  };
  put("report.md", markdown_report(record));
  put("report.html", html_report(record));
  put("layers.csv", layers_csv(record));
  for (const auto& [name, content] : token_files(record)) put(name, content);
  put("results.json", results_json(record));  // last: whoever sees it sees the rest
  files.commit();
  return written;
}

}  // namespace qfid::eval

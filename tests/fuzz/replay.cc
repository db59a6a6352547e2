// Every file of the folders named, given to a target once, each in a process of its own: what crashes, takes longer than a
// second of processor time or more than 256 MiB is named, and the exit code is 1. With --measure instead: each file's bytes,
// seconds and MiB, whatever they are (scaling.py).
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "tests/fuzz/fuzz.h"

namespace fs = std::filesystem;

namespace {

constexpr double most_seconds = 1;
constexpr long most_kib = 256L << 10;
constexpr unsigned hang_seconds = 60;  // of wall clock: one that waits uses no processor time

std::vector<fs::path> files_in(const std::vector<fs::path>& folders) {
  std::vector<fs::path> all;
  for (const fs::path& folder : folders)
    if (fs::is_directory(folder))
      for (const fs::directory_entry& entry : fs::directory_iterator(folder))
        if (entry.is_regular_file()) all.push_back(entry.path());
  std::sort(all.begin(), all.end());
  return all;
}

double seconds(const timeval& time) { return static_cast<double>(time.tv_sec) + 1e-6 * static_cast<double>(time.tv_usec); }

[[noreturn]] void run(const fs::path& file) {
  ::alarm(hang_seconds);
  std::ifstream in(file, std::ios::binary);
  const std::vector<char> bytes{std::istreambuf_iterator<char>(in), {}};
  LLVMFuzzerTestOneInput(reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size());
  std::fflush(nullptr);
  ::_exit(0);
}

struct Case {
  std::string death;  ///< "" when it came to its end
  double seconds = 0;
  long kib = 0;
};

Case tried(const fs::path& file) {
  std::fflush(nullptr);
  const pid_t child = ::fork();
  if (child < 0) return {"can't fork"};
  if (child == 0) run(file);
  int status = 0;
  rusage used{};
  if (::wait4(child, &status, 0, &used) != child) return {"can't wait"};
  if (WIFSIGNALED(status)) return {"ended by signal " + std::to_string(WTERMSIG(status))};
  if (WEXITSTATUS(status) != 0) return {"exit code " + std::to_string(WEXITSTATUS(status))};
  return {"", seconds(used.ru_utime) + seconds(used.ru_stime), used.ru_maxrss};
}

/// "" when all is well.
std::string problem_with(const fs::path& file) {
  const Case found = tried(file);
  if (!found.death.empty()) return found.death;
  if (found.seconds > most_seconds) return std::to_string(found.seconds) + " s";
  if (found.kib > most_kib) return std::to_string(found.kib >> 10) + " MiB";
  return "";
}

int measure(const std::vector<fs::path>& files) {
  for (const fs::path& file : files) {
    const Case found = tried(file);
    std::printf("%s %ju %.3f %ld %s\n", file.filename().c_str(), static_cast<std::uintmax_t>(fs::file_size(file)),
                found.seconds, found.kib >> 10, found.death.c_str());
  }
  return 0;
}

}  // namespace

int main(int count, char** arguments) {
  const std::vector<fs::path> named(arguments + 1, arguments + count);
  if (!named.empty() && named[0] == "--measure") return measure({named.begin() + 1, named.end()});
  int bad = 0;
  const std::vector<fs::path> files = files_in(named);
  for (const fs::path& file : files)
    if (const std::string problem = problem_with(file); !problem.empty()) {
      std::printf("%s: %s\n", file.c_str(), problem.c_str());
      ++bad;
    }
  std::printf("%zu files, %d of them bad\n", files.size(), bad);
  return bad == 0 && !files.empty() ? 0 : 1;
}

// Faults in what a process does to files: preloaded (LD_PRELOAD), it counts the calls that change something under one
// directory and makes the k-th one fail, or the process die there. The program knows nothing of it. From the environment:
//
//   QFID_FAULT_UNDER   the directory, an absolute path without links
//   QFID_FAULT_AT      which call, from 1; 0 = none
//   QFID_FAULT         kill: a write is made by half, any other call not at all, then SIGKILL
//                      kill-after: the call is made, then SIGKILL
//                      enospc, eio, erofs: the call isn't made and fails with this
//                      enospc-on, eio-on, erofs-on: so do all that follow; half of the write that finds the disk full is
//                      made short: this write and all that follow are made byte by byte, up to 3 at a time
//                      read-end, read-eio: reads are what is counted; this one and all that follow find the file's end, or
//                      fail: a file that was cut short, a disk that fails
//                      oom: allocations of QFID_FAULT_BYTES (64 KiB) or more are what is counted; this one fails
//                      oom-on: so do all that follow
//   QFID_FAULT_LOG     a file that gets a line for each counted call
//
// Left out: calls through memory (mmap), which the program writes nothing with.
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>

namespace {

template <class Function>
Function* real(const char* name) {
  return reinterpret_cast<Function*>(dlsym(RTLD_NEXT, name));
}

std::string setting(const char* name) {
  const char* const text = std::getenv(name);
  return text == nullptr ? "" : text;
}

bool is_under(std::string_view path) {
  static const std::string directory = setting("QFID_FAULT_UNDER");
  return !directory.empty() && path.starts_with(directory) &&
         (path.size() == directory.size() || path[directory.size()] == '/');
}

bool is_under(int file) {
  char link[64], path[PATH_MAX];
  std::snprintf(link, sizeof link, "/proc/self/fd/%d", file);
  const ssize_t size = readlink(link, path, sizeof path);
  return size > 0 && is_under(std::string_view(path, static_cast<std::size_t>(size)));
}

/// Set before anything of the program runs; memory isn't asked for in between.
struct MemoryFaults {
  bool counts = false, on = false;
  long at = 0;
  std::size_t bytes = 0;
  int log = -1;
  std::atomic<long> calls{0};
} memory_faults;

__attribute__((constructor)) void begin_memory_faults() {
  const std::string kind = setting("QFID_FAULT"), bytes = setting("QFID_FAULT_BYTES"), log = setting("QFID_FAULT_LOG");
  if (!kind.starts_with("oom")) return;
  memory_faults.on = kind == "oom-on";
  memory_faults.at = std::atol(setting("QFID_FAULT_AT").c_str());
  memory_faults.bytes = bytes.empty() ? 65536 : static_cast<std::size_t>(std::atol(bytes.c_str()));
  if (!log.empty())
    memory_faults.log =
        real<int(const char*, int, ...)>("open")(log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  memory_faults.counts = true;
}

bool fails(std::size_t bytes) {
  if (!memory_faults.counts || bytes < memory_faults.bytes) return false;
  const long number = ++memory_faults.calls;
  if (memory_faults.log >= 0) {
    char line[64];
    const int size = std::snprintf(line, sizeof line, "%ld %zu\n", number, bytes);
    [[maybe_unused]] const ssize_t written =
        real<ssize_t(int, const void*, size_t)>("write")(memory_faults.log, line, static_cast<size_t>(size));
  }
  const bool fail = memory_faults.at > 0 && (number == memory_faults.at || (memory_faults.on && number > memory_faults.at));
  if (fail) errno = ENOMEM;
  return fail;
}

enum class Fate { none, kill, kill_after, fail, shorten, end };
struct Verdict {
  Fate fate = Fate::none;
  int error = 0;
  bool half = false;  ///< of this write
};

void log_call(long number, const char* name) {
  static const std::string path = setting("QFID_FAULT_LOG");
  if (path.empty()) return;
  const int file = real<int(const char*, int, ...)>("open")(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  char line[64];
  const int size = std::snprintf(line, sizeof line, "%ld %s\n", number, name);
  [[maybe_unused]] const ssize_t written =
      real<ssize_t(int, const void*, size_t)>("write")(file, line, static_cast<size_t>(size));
  close(file);
}

bool counts_reads() {
  static const bool reads = setting("QFID_FAULT").starts_with("read-");
  return reads;
}

/// Counts a call that concerns us.
Verdict next_call(const char* name) {
  static std::atomic<long> calls{0};
  static const long at = std::atol(setting("QFID_FAULT_AT").c_str());
  static const std::string kind = setting("QFID_FAULT");
  if (counts_reads() != (std::string_view(name) == "pread")) return {};
  const long number = ++calls;
  log_call(number, name);
  if (at == 0 || number < at) return {};
  if (kind == "short") return {Fate::shorten};
  if (kind == "read-end") return {Fate::end};
  if (kind == "read-eio") return {Fate::fail, EIO};
  const bool on = kind.ends_with("-on");
  if (number > at && !on) return {};
  if (kind == "kill") return {Fate::kill};
  if (kind == "kill-after") return {Fate::kill_after};
  if (kind.starts_with("enospc")) return {Fate::fail, ENOSPC, on && number == at};
  if (kind.starts_with("erofs")) return {Fate::fail, EROFS};
  return {Fate::fail, EIO};
}

[[noreturn]] void die() {
  kill(getpid(), SIGKILL);
  for (;;) pause();
}

/// `make(bytes)` writes so many of them.
template <class Make>
ssize_t write_some(const char* name, size_t size, const Make& make) {
  const Verdict verdict = next_call(name);
  switch (verdict.fate) {
    case Fate::kill:
      make(size / 2);
      die();
    case Fate::kill_after:
      make(size);
      die();
    case Fate::fail:
      if (verdict.half && size > 1) return make(size / 2);
      errno = verdict.error;
      return -1;
    case Fate::shorten:
      return make(size > 3 ? 3 : size);
    case Fate::end:
    case Fate::none:
      break;
  }
  return make(size);
}

template <class Make>
int whole_call(const char* name, const Make& make) {
  const Verdict verdict = next_call(name);
  if (verdict.fate == Fate::kill) die();
  if (verdict.fate == Fate::fail) {
    errno = verdict.error;
    return -1;
  }
  const int result = make();
  if (verdict.fate == Fate::kill_after) die();
  return result;
}

}  // namespace

extern "C" {

void* __libc_malloc(size_t);
void* __libc_calloc(size_t, size_t);
void* __libc_realloc(void*, size_t);
void* __libc_memalign(size_t, size_t);

void* malloc(size_t bytes) { return fails(bytes) ? nullptr : __libc_malloc(bytes); }
void* calloc(size_t n, size_t bytes) { return fails(n * bytes) ? nullptr : __libc_calloc(n, bytes); }
void* realloc(void* old, size_t bytes) { return fails(bytes) ? nullptr : __libc_realloc(old, bytes); }
void* aligned_alloc(size_t alignment, size_t bytes) { return fails(bytes) ? nullptr : __libc_memalign(alignment, bytes); }
void* memalign(size_t alignment, size_t bytes) { return fails(bytes) ? nullptr : __libc_memalign(alignment, bytes); }
int posix_memalign(void** memory, size_t alignment, size_t bytes) {
  if (fails(bytes)) return ENOMEM;
  void* const found = __libc_memalign(alignment, bytes);
  if (found == nullptr) return ENOMEM;
  *memory = found;
  return 0;
}

ssize_t write(int file, const void* bytes, size_t size) {
  const auto make = [&](size_t n) { return real<ssize_t(int, const void*, size_t)>("write")(file, bytes, n); };
  return is_under(file) ? write_some("write", size, make) : make(size);
}

ssize_t pwrite(int file, const void* bytes, size_t size, off_t at) {
  const auto make = [&](size_t n) { return real<ssize_t(int, const void*, size_t, off_t)>("pwrite")(file, bytes, n, at); };
  return is_under(file) ? write_some("pwrite", size, make) : make(size);
}

ssize_t pread(int file, void* bytes, size_t size, off_t at) {
  if (counts_reads() && is_under(file)) {
    const Verdict verdict = next_call("pread");
    if (verdict.fate == Fate::end) return 0;
    if (verdict.fate == Fate::fail) {
      errno = verdict.error;
      return -1;
    }
  }
  return real<ssize_t(int, void*, size_t, off_t)>("pread")(file, bytes, size, at);
}

ssize_t pread64(int file, void* bytes, size_t size, off64_t at) { return pread(file, bytes, size, at); }

ssize_t pwrite64(int file, const void* bytes, size_t size, off64_t at) { return pwrite(file, bytes, size, at); }

int fsync(int file) {
  const auto make = [&] { return real<int(int)>("fsync")(file); };
  return is_under(file) ? whole_call("fsync", make) : make();
}

int ftruncate(int file, off_t size) noexcept {
  const auto make = [&] { return real<int(int, off_t)>("ftruncate")(file, size); };
  return is_under(file) ? whole_call("ftruncate", make) : make();
}

int ftruncate64(int file, off64_t size) noexcept { return ftruncate(file, size); }

int rename(const char* from, const char* to) noexcept {
  const auto make = [&] { return real<int(const char*, const char*)>("rename")(from, to); };
  return is_under(std::string_view(to)) ? whole_call("rename", make) : make();
}

int unlink(const char* path) noexcept {
  const auto make = [&] { return real<int(const char*)>("unlink")(path); };
  return is_under(std::string_view(path)) ? whole_call("unlink", make) : make();
}

int open(const char* path, int flags, ...) {
  mode_t mode = 0;
  if ((flags & (O_CREAT | O_TMPFILE)) != 0) {
    va_list rest;
    va_start(rest, flags);
    mode = va_arg(rest, mode_t);
    va_end(rest);
  }
  const auto make = [&] { return real<int(const char*, int, ...)>("open")(path, flags, mode); };
  return (flags & O_CREAT) != 0 && is_under(std::string_view(path)) ? whole_call("open", make) : make();
}

int open64(const char* path, int flags, ...) {
  mode_t mode = 0;
  if ((flags & (O_CREAT | O_TMPFILE)) != 0) {
    va_list rest;
    va_start(rest, flags);
    mode = va_arg(rest, mode_t);
    va_end(rest);
  }
  return open(path, flags, mode);
}

}  // extern "C"

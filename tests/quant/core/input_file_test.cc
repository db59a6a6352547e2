// Files that change under their reader's hands: an error that names the place, never a signal.
#include "quant/core/input_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <catch2/catch_test_macros.hpp>
#include <iterator>
#include <utility>
#include <vector>

#include "tests/support/temporary_directory.h"

using namespace qfid::quant;
using namespace qfid::tests;
namespace fs = std::filesystem;

namespace {

std::string told(const TemporaryDirectory& dir, const Failure& failure) {
  return std::to_string(failure.code) + " " + dir.shown(failure.message);
}

std::string bytes_of(const InputFile& file, std::uint64_t at, std::size_t size, std::string_view what = {}) {
  std::string bytes(size, '\0');
  file.read(at, std::as_writable_bytes(std::span(bytes)), what);
  return bytes;
}

}  // namespace

TEST_CASE("bytes by place, whole and in pieces") {
  const TemporaryDirectory dir;
  std::string content(InputFile::piece * 2 + 12345, '\0');
  for (std::size_t i = 0; i < content.size(); ++i) content[i] = static_cast<char>(i * 7919 >> 5);
  const InputFile file(dir.write("f", content));
  CHECK(file.size() == content.size());
  CHECK(bytes_of(file, 1000, 50) == content.substr(1000, 50));
  CHECK(bytes_of(file, file.size(), 0).empty());
  for (const std::size_t begin : {std::size_t{0}, std::size_t{77}}) {
    std::string found;
    std::vector<std::size_t> sizes;
    file.read_in_pieces(begin, content.size() - begin, "", [&](std::span<const std::byte> piece) {
      found.append(reinterpret_cast<const char*>(piece.data()), piece.size());
      sizes.push_back(piece.size());
    });
    CHECK(found == content.substr(begin));
    CHECK(sizes == std::vector<std::size_t>{InputFile::piece, InputFile::piece, 12345 - begin});
  }
  CHECK(FileContent(dir.path() / "f").text() == content);
  CHECK(FileContent(dir.write("empty", "")).text().empty());
  CHECK(failure_of([&] { bytes_of(file, 5, content.size()); }).code == 5);  // a caller's mistake
}

TEST_CASE("cut short after it was opened: exit code 3, path, what and byte") {
  const TemporaryDirectory dir;
  const fs::path path = dir.write("f", std::string(10000, 'x'));
  const InputFile file(path);
  fs::resize_file(path, 6000);
  CHECK(bytes_of(file, 5000, 1000) == std::string(1000, 'x'));
  const std::string end = ": the file ends here, it had 10000 bytes when it was opened: cut short while being read";
  CHECK(told(dir, failure_of([&] { bytes_of(file, 5000, 1001, "tensor \"w\""); })) ==
        "3 DIR/f: tensor \"w\", byte 6000" + end);
  CHECK(told(dir, failure_of([&] { bytes_of(file, 8000, 10); })) == "3 DIR/f: byte 8000" + end);
  CHECK(told(dir, failure_of([&] { file.read_in_pieces(0, 10000, "", [](std::span<const std::byte>) {}); })) ==
        "3 DIR/f: byte 6000" + end);
}

TEST_CASE("replaced by another file of its name: the one that was opened is read") {
  const TemporaryDirectory dir;
  const fs::path path = dir.write("f", "first");
  const InputFile file(path);
  fs::rename(dir.write("g", "other, longer"), path);
  CHECK(bytes_of(file, 0, 5) == "first");
}

TEST_CASE("moved: the new one reads, the old one is empty, and what was open before is closed") {
  const TemporaryDirectory dir;
  const auto open_files = [] { return std::distance(fs::directory_iterator("/proc/self/fd"), fs::directory_iterator()); };
  const auto before = open_files();
  {
    InputFile first(dir.write("f", "first"));
    CHECK(open_files() == before + 1);
    InputFile moved(std::move(first));
    InputFile other(dir.write("g", "other, longer"));
    CHECK(open_files() == before + 2);
    other = std::move(moved);
    CHECK(open_files() == before + 1);
    CHECK(other.path() == dir.path() / "f");
    CHECK(bytes_of(other, 0, other.size()) == "first");
    for (const InputFile* old : {&first, &moved}) {
      CHECK(old->size() == 0);
      CHECK(bytes_of(*old, 0, 0).empty());
      CHECK(failure_of([&] { bytes_of(*old, 0, 1); }).code == 5);
    }
    InputFile held("h", "held");
    other = std::move(held);
    CHECK(open_files() == before);
    CHECK(bytes_of(other, 1, 3) == "eld");
    CHECK(held.size() == 0);
  }
  CHECK(open_files() == before);
}

TEST_CASE("a program without standard input: a file that becomes descriptor 0 is read and closed as any other") {
  const TemporaryDirectory dir;
  const fs::path path = dir.write("f", "first");
  const int kept = ::dup(0);
  ::close(0);
  std::string found;
  {
    const InputFile file(path);
    found = bytes_of(file, 0, 5);
  }
  const bool closed = ::fcntl(0, F_GETFD) == -1;
  if (kept >= 0) {
    ::dup2(kept, 0);
    ::close(kept);
  }
  CHECK(found == "first");
  CHECK(closed);
}

TEST_CASE("what is no regular file is refused by name") {
  const TemporaryDirectory dir;
  fs::create_directory(dir.path() / "d");
  CHECK(told(dir, failure_of([&] { InputFile(dir.path() / "d"); })) ==
        "3 DIR/d: expected a regular file, found a directory");
  CHECK(told(dir, failure_of([&] { InputFile(dir.path() / "n"); })) == "3 DIR/n: can't open: No such file or directory");
}

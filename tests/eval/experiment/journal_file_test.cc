// A journal's file at its worst: cut anywhere, any byte changed, two processes, things that aren't journals.
#include "eval/experiment/journal_file.h"

#include <sys/stat.h>

#include <catch2/catch_test_macros.hpp>

#include "tests/support/temporary_directory.h"

using namespace qfid::eval;
using namespace qfid::tests;
namespace fs = std::filesystem;

namespace {

const std::vector<std::string> three{"first", std::string(300, 'x'), std::string("\0third", 6)};

std::string written(const fs::path& path) {
  {
    JournalFile file(path, JournalFile::Access::append);
    for (const std::string& record : three) file.append(record);
  }
  return read_file(path);
}

void put(const fs::path& path, const std::string& bytes) { std::ofstream(path, std::ios::binary) << bytes; }

}  // namespace

TEST_CASE("records come back, also after the next process appended") {
  const TemporaryDirectory dir;
  const fs::path path = dir.path() / "j";
  written(path);
  {
    JournalFile file(path, JournalFile::Access::append);
    CHECK(file.torn_bytes() == 0);
    REQUIRE(file.records().size() == three.size());
    for (std::size_t i = 0; i < three.size(); ++i) CHECK(file.records().record(i) == three[i]);
    file.append("fourth");
  }
  const JournalFile file(path, JournalFile::Access::read);
  REQUIRE(file.records().size() == 4);
  CHECK(file.records().record(3) == "fourth");
}

TEST_CASE("cut at every byte: whole records stay, the rest is cut off and written again") {
  const TemporaryDirectory dir;
  const fs::path path = dir.path() / "j";
  const std::string whole = written(path);
  for (std::size_t size = 0; size < whole.size(); ++size) {
    put(path, whole.substr(0, size));
    CAPTURE(size);
    std::size_t had = 0;
    {
      JournalFile file(path, JournalFile::Access::append);
      had = file.records().size();
      for (std::size_t i = 0; i < had; ++i) CHECK(file.records().record(i) == three[i]);
      CHECK((file.torn_bytes() > 0) == (fs::file_size(path) < size));
      for (std::size_t i = had; i < three.size(); ++i) file.append(three[i]);
    }
    CHECK(had < three.size());
    CHECK(read_file(path) == whole);
  }
}

TEST_CASE("any byte changed: an error that names the place, or the last record is left out; never another content") {
  const TemporaryDirectory dir;
  const fs::path path = dir.path() / "j";
  const std::string whole = written(path);
  int errors = 0, shorter = 0;
  for (std::size_t at = 0; at < whole.size(); ++at) {
    std::string bytes = whole;
    bytes[at] = static_cast<char>(bytes[at] ^ 0x10);
    put(path, bytes);
    CAPTURE(at);
    const Failure failure = failure_of([&] {
      const JournalFile file(path, JournalFile::Access::read);
      CHECK(file.records().size() == 2);
      for (std::size_t i = 0; i < file.records().size(); ++i) CHECK(file.records().record(i) == three[i]);
      ++shorter;
    });
    if (failure.code != 0) {
      CHECK(failure.code == 3);
      CHECK(failure.message.starts_with(path.string() + ": "));
      ++errors;
    }
  }
  CHECK(shorter == 6 + 8);  // the last record's content, and its checksum
  CHECK(errors == static_cast<int>(whole.size()) - 14);
}

TEST_CASE("a tail of zeros, as after a power cut, is torn; zeros in the middle are damage") {
  const TemporaryDirectory dir;
  const fs::path path = dir.path() / "j";
  const std::string whole = written(path);
  put(path, whole + std::string(5000, '\0'));
  CHECK(JournalFile(path, JournalFile::Access::append).torn_bytes() == 5000);
  CHECK(read_file(path) == whole);
  put(path, std::string(whole).replace(16 + 32 + 5, 32, 32, '\0'));
  const Failure failure = failure_of([&] { const JournalFile file(path, JournalFile::Access::append); });
  CHECK(failure.code == 3);
  CHECK(failure.message ==
        path.string() +
            ": byte 53: record 1 expected, its head is wrong: the file is damaged, and what follows isn't "
            "used (qfid run --restart begins anew)");
}

TEST_CASE("changed or cut short while it is open: an error that names the place") {
  const TemporaryDirectory dir;
  const fs::path path = dir.path() / "j";
  std::string bytes = written(path);
  const JournalFile file(path, JournalFile::Access::read);
  const auto failure = [&](std::size_t i) {
    const Failure found = failure_of([&] { file.records().record(i); });
    return std::to_string(found.code) + " " + dir.shown(found.message);
  };
  bytes[16 + 32 + 2] = '!';
  put(path, bytes.substr(0, 100));
  CHECK(failure(0) ==
        "3 DIR/j: byte 16: record 0 changed while the file was open: the file is damaged, and what follows isn't used "
        "(qfid run --restart begins anew)");
  CHECK(failure(1) == "3 DIR/j: record 1, byte 100: the file ends here, it had " + std::to_string(bytes.size()) +
                          " bytes when it was opened: cut short while being read");
}

TEST_CASE("one writer, or readers") {
  const TemporaryDirectory dir;
  const fs::path path = dir.path() / "j";
  written(path);
  const auto failure_with = [&](JournalFile::Access access) {
    return failure_of([&] { const JournalFile file(path, access); });
  };
  {
    const JournalFile writer(path, JournalFile::Access::append);
    for (const auto access : {JournalFile::Access::append, JournalFile::Access::read}) {
      CHECK(failure_with(access).code == 2);
      CHECK(failure_with(access).message ==
            dir.path().string() +
                ": another process is at work there (it has j locked): wait for it, or use another directory");
    }
  }
  const JournalFile reader(path, JournalFile::Access::read);
  CHECK(failure_with(JournalFile::Access::read).code == 0);
  CHECK(failure_with(JournalFile::Access::append).code == 2);
}

TEST_CASE("replace: all at once, and still locked") {
  const TemporaryDirectory dir;
  const fs::path path = dir.path() / "j";
  written(path);
  JournalFile file(path, JournalFile::Access::append);
  file.replace({three[1], "new"});
  CHECK(failure_of([&] { const JournalFile other(path, JournalFile::Access::read); }).code == 2);
  file.append("more");
  CHECK_FALSE(fs::exists(path.string() + ".tmp"));
  const std::string bytes = read_file(path);
  put(dir.path() / "copy", bytes);
  const JournalFile copy(dir.path() / "copy", JournalFile::Access::read);
  REQUIRE(copy.records().size() == 3);
  CHECK(copy.records().record(0) == three[1]);
  CHECK(copy.records().record(2) == "more");
}

TEST_CASE("what isn't a journal is refused by name") {
  const TemporaryDirectory dir;
  const auto opened = [&](const std::string& name, JournalFile::Access access = JournalFile::Access::append) {
    const Failure failure = failure_of([&] { const JournalFile file(dir.path() / name, access); });
    return std::to_string(failure.code) + " " + dir.shown(failure.message);
  };
  dir.write("text", "a text of some length");
  CHECK(opened("text") == "3 DIR/text: isn't a journal of qfid (version 1)");
  CHECK(opened("nothing", JournalFile::Access::read) == "3 DIR/nothing: can't open: No such file or directory");
  fs::create_directory(dir.path() / "folder");
  CHECK(opened("folder") == "3 DIR/folder: can't write: Is a directory");
  mkfifo((dir.path() / "pipe").c_str(), 0600);
  for (const auto access : {JournalFile::Access::append, JournalFile::Access::read})  // neither waits for its other end
    CHECK(opened("pipe", access) == "3 DIR/pipe: isn't a regular file");
  fs::create_symlink(dir.path() / "text", dir.path() / "link");
  CHECK(opened("link") == "3 DIR/link: can't write: Too many levels of symbolic links");
}

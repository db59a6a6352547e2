// What a journal says of two runs, what it keeps from one process to the next, and what it does when it can't write.
#include "eval/experiment/journal.h"

#include <signal.h>
#include <sys/resource.h>

#include <catch2/catch_test_macros.hpp>

#include "tests/support/temporary_directory.h"

using namespace qfid::eval;
using namespace qfid::tests;
namespace fs = std::filesystem;

namespace {

RunIdentity identity() {
  RunIdentity run;
  run.entries = {{"configuration", "a: 1\nb: 2\n"}, {"tokens", "hash"}, {"empty", ""}};
  run.machine_entries = {{"threads", "2"}};
  run.machine.tool_version = "1";
  run.machine.git_commit = "abc";
  run.machine.compiler = "g++";
  run.machine.device = "cpu";
  run.machine.isa = "avx2";
  run.machine.threads = 2;
  run.machine.libraries = {{"lib", "3"}, {"other", "4"}};
  run.started = "2026-01-02T03:04:05Z";
  return run;
}

RunIdentity with(const std::string& name, const std::string& value) {
  RunIdentity run = identity();
  for (auto* entries : {&run.entries, &run.machine_entries})
    for (auto& [key, was] : *entries)
      if (key == name) was = value;
  return run;
}

struct Said {
  std::vector<std::string> texts;
  Journal::Options options(Journal::Options from = {}) {
    from.say = [this](const std::string& text, bool surprise) { texts.push_back((surprise ? "! " : "") + text); };
    return from;
  }
};

/// Writes of this process fail behind `bytes` of any file, as on a full disk.
struct FullDisk {
  explicit FullDisk(rlim_t bytes) : handler(signal(SIGXFSZ, SIG_IGN)) {
    getrlimit(RLIMIT_FSIZE, &before);
    const rlimit now{bytes, before.rlim_max};
    setrlimit(RLIMIT_FSIZE, &now);
  }
  FullDisk(const FullDisk&) = delete;
  FullDisk& operator=(const FullDisk&) = delete;
  ~FullDisk() {
    setrlimit(RLIMIT_FSIZE, &before);
    signal(SIGXFSZ, handler);
  }
  void (*handler)(int);
  rlimit before{};
};

}  // namespace

TEST_CASE("differences of two runs: values, first lines, what is there no longer", "[journal]") {
  CHECK(difference(identity(), identity()).empty());
  CHECK(difference(identity(), with("tokens", "other")) == "tokens (was hash, is other)");
  CHECK(difference(identity(), with("tokens", "")) == "tokens (was hash, is none)");
  CHECK(difference(identity(), with("empty", "x")) == "empty (was none, is x)");
  CHECK(difference(identity(), with("configuration", "a: 1\nb: 3\n")) == "configuration (line 2 was \"b: 2\", is \"b: 3\")");
  CHECK(difference(identity(), with("configuration", "a: 1\nb: 2\nc: 4\n")) ==
        "configuration (line 3 was \"\", is \"c: 4\")");
  CHECK(difference(identity(), with("configuration", "x")) == "configuration (line 1 was \"a: 1\", is \"x\")");
  CHECK(difference(with("configuration", "x"), identity()) == "configuration (line 1 was \"x\", is \"a: 1\")");
  CHECK(difference(identity(), with("tokens", std::string(130, 'x'))) ==
        "tokens (was hash, is " + std::string(120, 'x') + ")");
  RunIdentity fewer = identity(), other = with("tokens", "other");
  fewer.entries.pop_back();
  CHECK(difference(identity(), fewer) == "empty (is no longer there)");
  CHECK(difference(fewer, identity()) == "empty (wasn't there)");
  RunIdentity devices = identity();
  devices.machine_entries = {{"gpu", "A"}};
  CHECK(difference(identity(), devices) == "threads (is no longer there); gpu (wasn't there)");
  other.machine_entries = devices.machine_entries;  // which the other tokens may explain
  CHECK(difference(identity(), other) == "tokens (was hash, is other)");
  other.machine_entries = {{"threads", "3"}};
  CHECK(difference(identity(), other) == "tokens (was hash, is other); threads (was 2, is 3)");
}

TEST_CASE("units are found by the next process, which is told how many", "[journal]") {
  const TemporaryDirectory dir;
  Said said;
  {
    Journal journal(dir.path(), said.options({false, false, Shard{1, 3}, "origin", {}}));
    RunIdentity run = identity();
    CHECK(journal.begin(run));
    CHECK(journal.kept() == 0);
    CHECK(journal.takes(4));
    CHECK_FALSE(journal.takes(3));
    CHECK(journal.keep("a", "first", true));
    CHECK(journal.keep("b", "", true));
    CHECK(journal.kept() == 2);
    CHECK(journal.failure().empty());
  }
  CHECK(said.texts.empty());
  {
    const JournalFile file(dir.path() / Journal::file_name, JournalFile::Access::read);
    const auto content = content_of(file.records());
    REQUIRE(content);
    CHECK(content->origin == "origin");
    REQUIRE(content->shard);
    CHECK(content->shard->index == 1);
    CHECK(content->shard->count == 3);
    CHECK(content->identity.entries == identity().entries);
    CHECK(content->identity.machine_entries == identity().machine_entries);
    CHECK(content->identity.started == identity().started);
    CHECK(content->identity.machine.isa == "avx2");
    CHECK(content->identity.machine.threads == 2);
    CHECK(content->identity.machine.libraries == identity().machine.libraries);
    CHECK_FALSE(content->outcome);
  }
  {
    Journal journal(dir.path(), said.options({false, false, Shard{1, 3}, "origin", {}}));
    RunIdentity run = identity();
    run.started = "later";
    CHECK(journal.begin(run));
    CHECK(run.started == identity().started);
    CHECK(journal.kept() == 2);
    CHECK(journal.find("a") == "first");
    CHECK(journal.find("b") == "");
    CHECK_FALSE(journal.find("c"));
    CHECK(said.texts == std::vector<std::string>{dir.path().string() + ": going on after 2 finished units"});
  }
  Journal whole(dir.path(), said.options());
  RunIdentity run = identity();
  const Failure other = failure_of([&] { whole.begin(run); });
  CHECK(other.code == 2);
  CHECK(dir.shown(other.message) ==
        "DIR holds an unfinished run of something else: shard (was 2/3, is none); --restart begins anew and replaces it, "
        "--out DIR goes elsewhere");
}

TEST_CASE("a run without a unit goes on in silence, a restart forgets, a shard of nobody is none", "[journal]") {
  const TemporaryDirectory dir;
  Said said;
  RunIdentity run = identity();
  CHECK(Journal(dir.path(), said.options()).begin(run));
  {
    Journal again(dir.path(), said.options());
    CHECK(again.begin(run));
    CHECK(again.kept() == 0);
    CHECK(again.keep("a", "1", true));
  }
  CHECK(said.texts.empty());
  {
    Journal anew(dir.path(), said.options({true, false, {}, "", {}}));
    CHECK(anew.begin(run));
    CHECK(anew.kept() == 0);
    CHECK_FALSE(anew.find("a"));
    CHECK(anew.keep("b", "2", true));
  }
  const Failure dump = failure_of([&] {
    Journal forgetful(dir.path(), said.options({false, true, {}, "", {}}));
    forgetful.begin(run);
  });
  CHECK(dir.shown(dump.message) ==
        "DIR holds an unfinished run: with --dump it can't go on; --restart begins anew and replaces it, --out DIR goes "
        "elsewhere");
  {
    const JournalFile file(dir.path() / Journal::file_name, JournalFile::Access::read);
    CHECK_FALSE(content_of(file.records())->shard);
    CHECK(content_of(file.records())->units.size() == 1);
  }
  Journal restarted(dir.path(), said.options({true, true, {}, "", {}}));
  CHECK(restarted.begin(run));
  CHECK(restarted.keep("c", "3", true));
  CHECK(restarted.kept() == 0);  // it keeps nothing
  CHECK(said.texts.empty());
}

TEST_CASE("a run that keeps nothing is made again, over one without units and over a finished one", "[journal]") {
  const TemporaryDirectory dir;
  RunIdentity run = identity();
  Journal(dir.path(), {}).begin(run);
  for (int round = 0; round < 2; ++round) {
    Journal forgetful(dir.path(), {false, true, {}, "", {}});
    RunIdentity later = identity();
    later.started = "later";
    CHECK(forgetful.begin(later));
    CHECK(later.started == "later");
    CHECK_FALSE(forgetful.outcome());
    forgetful.finish({0, "hash", ""});
  }
}

TEST_CASE("a finished run that left no results has its outcome, and is not made again", "[journal]") {
  const TemporaryDirectory dir;
  RunIdentity run = identity();
  {
    Journal journal(dir.path(), {});
    journal.begin(run);
    CHECK(journal.keep("a", "1", true));
    journal.finish({3, "", "why"});
  }
  Journal again(dir.path(), {});
  CHECK_FALSE(again.begin(run));
  REQUIRE(again.outcome());
  CHECK(again.outcome()->exit_code == 3);
  CHECK(again.outcome()->message == "why");
  CHECK(again.kept() == 0);
}

TEST_CASE("a record with more behind its content is refused", "[journal]") {
  const TemporaryDirectory dir;
  RunIdentity run = identity();
  Journal(dir.path(), {}).begin(run);
  const fs::path path = dir.path() / Journal::file_name;
  std::string first;
  {
    const JournalFile file(path, JournalFile::Access::read);
    first = file.records().record(0) + "x";
  }
  fs::remove(path);
  JournalFile(path, JournalFile::Access::append).append(first);
  const JournalFile file(path, JournalFile::Access::read);
  const Failure failure = failure_of([&] { content_of(file.records()); });
  CHECK(failure.code == 3);
  CHECK(failure.message.starts_with(path.string() + ": "));
}

TEST_CASE("a full disk: the unit isn't kept, the file is as before, and why is known", "[journal]") {
  const TemporaryDirectory dir;
  RunIdentity run = identity();
  const fs::path path = dir.path() / Journal::file_name;
  Journal journal(dir.path(), {});
  journal.begin(run);
  CHECK(journal.keep("a", "1", true));
  const std::string before = read_file(path);
  bool kept = true;
  for (const std::uint64_t room : {0, 1, 31, 32, 40}) {
    {
      const FullDisk full(before.size() + room);
      kept = journal.keep("b", std::string(100, 'x'), true);
    }
    CAPTURE(room);
    CHECK_FALSE(kept);
    CHECK(journal.failure() == path.string() + ": can't write: File too large");
    CHECK(journal.kept() == 1);
    CHECK(read_file(path) == before);
  }
  CHECK(journal.keep("b", "2", true));
  CHECK(journal.kept() == 2);
  Failure failure;
  {
    const FullDisk full(10);
    failure = failure_of([&] { journal.finish({0, "", ""}); });
  }
  CHECK(failure.code == 3);
  CHECK(failure.message == path.string() + ": can't write: File too large");
  CHECK_FALSE(fs::exists(path.string() + ".tmp"));
  journal.finish({0, "", ""});
}

TEST_CASE("a temporary file of another life is no hindrance", "[journal]") {
  const TemporaryDirectory dir;
  RunIdentity run = identity();
  dir.write(std::string(Journal::file_name) + ".tmp", "left over");
  CHECK(Journal(dir.path(), {}).begin(run));
  CHECK_FALSE(fs::exists(dir.path() / (std::string(Journal::file_name) + ".tmp")));
}

// A run that is killed, or whose disk fails, at the k-th call that changes a file (tests/support/interpose.cc): afterwards
// no file is partial, and the same command ends in the bytes of a run that nothing happened to. Every k is tried with
// QFID_FAULT_STEP=1 (scripts/soak); otherwise every 11th.
#include <signal.h>
#include <stdlib.h>

#include <catch2/catch_test_macros.hpp>
#include <iostream>
#include <nlohmann/json.hpp>

#include "tests/support/tiny_experiment.h"

using namespace qfid::tests;
namespace fs = std::filesystem;

namespace {

using Files = std::map<std::string, std::string>;

int step() {
  const char* const text = std::getenv("QFID_FAULT_STEP");
  return text == nullptr ? 11 : std::max(1, std::atoi(text));
}

ProcessOptions with_fault(const TinyExperiment& x, const std::string& name, const std::string& kind, int at,
                          const std::string& log = "") {
  ProcessOptions options;
  options.before_exec = [=, under = fs::canonical(x.dir.path()).string() + "/" + name] {
    setenv("LD_PRELOAD", QFID_INTERPOSE, 1);
    setenv("QFID_FAULT_UNDER", under.c_str(), 1);
    setenv("QFID_FAULT", kind.c_str(), 1);
    setenv("QFID_FAULT_AT", std::to_string(at).c_str(), 1);
    setenv("QFID_FAULT_LOG", log.c_str(), 1);
    setenv("OMP_WAIT_POLICY", "passive", 1);
  };
  return options;
}

/// Every file is one of the whole run, or one of the run stopped in between: valid and marked so.
void require_no_partial_file(const Files& found, const Files& whole) {
  for (const auto& [name, content] : found) {
    CAPTURE(name);
    if (name.ends_with(".tmp")) continue;  // the next run takes these away
    REQUIRE(whole.contains(name));
    CHECK(content == whole.at(name));
  }
}

/// The program as a process, as the journal names what made it.
Outcome again(const TinyExperiment& x, const std::string& name) { return qfid_process(x.run_arguments(name)); }

int calls_of(const TinyExperiment& x) {
  const std::string log = (x.dir.path() / "calls").string();
  REQUIRE(qfid_process(x.run_arguments("counted"), with_fault(x, "counted", "none", 0, log)).code == 0);
  const std::string lines = read_file(log);
  return static_cast<int>(std::count(lines.begin(), lines.end(), '\n'));
}

}  // namespace

TEST_CASE("killed at every write, sync, rename and removal: resumed to the same bytes") {
  const TinyExperiment x;
  REQUIRE(again(x, "whole").code == 0);
  const Files whole = x.files("whole");
  const int calls = calls_of(x);
  CHECK(x.files("counted") == whole);
  CHECK(calls > 100);
  int killed = 0, resumed = 0;
  for (const std::string kind : {"kill", "kill-after"})
    for (int at = 1; at <= calls; at += step()) {
      CAPTURE(kind, at);
      fs::remove_all(x.out("o"));
      const Outcome first = qfid_process(x.run_arguments("o"), with_fault(x, "o", kind, at));
      REQUIRE(first.code == 1000 + SIGKILL);
      ++killed;
      require_no_partial_file(x.files("o"), whole);
      const Outcome second = again(x, "o");
      CHECK(second.code == 0);
      CHECK(x.files("o") == whole);
      resumed += x.files("o") == whole ? 1 : 0;
    }
  std::cout << killed << " kill points of " << 2 * calls << ", " << resumed << " resumed to the same bytes\n";
  CHECK(resumed == killed);
}

TEST_CASE("killed twice, the second time while going on") {
  const TinyExperiment x;
  REQUIRE(again(x, "whole").code == 0);
  const int calls = calls_of(x);
  for (int at = 7; at <= calls; at += 3 * step()) {
    CAPTURE(at);
    fs::remove_all(x.out("o"));
    REQUIRE(qfid_process(x.run_arguments("o"), with_fault(x, "o", "kill", at)).code == 1000 + SIGKILL);
    qfid_process(x.run_arguments("o"), with_fault(x, "o", "kill", 20));
    CHECK(again(x, "o").code == 0);
    CHECK(x.files("o") == x.files("whole"));
  }
}

TEST_CASE("the disk is full, fails or can't be written: exit code 3, the reason, no partial file; later the run goes on") {
  const TinyExperiment x;
  REQUIRE(again(x, "whole").code == 0);
  const Files whole = x.files("whole");
  const int calls = calls_of(x);
  int faults = 0;
  for (const auto& [kind, reason] : std::map<std::string, std::string>{{"enospc-on", "No space left on device"},
                                                                       {"eio", "Input/output error"},
                                                                       {"eio-on", "Input/output error"},
                                                                       {"erofs-on", "Read-only file system"}})
    for (int at = 1; at <= calls; at += 2 * step()) {
      CAPTURE(kind, at);
      fs::remove_all(x.out("o"));
      const Outcome outcome = qfid_process(x.run_arguments("o"), with_fault(x, "o", kind, at));
      if (outcome.code != 3) {  // a removal of what isn't there may fail
        CHECK(outcome.code == 0);
        CHECK(kind == "eio");
      } else {
        CHECK(outcome.err.find(reason) != std::string::npos);
        CHECK(outcome.err.find(x.out("o")) != std::string::npos);
        ++faults;
      }
      require_no_partial_file(x.files("o"), whole);
      CHECK(again(x, "o").code == 0);
      CHECK(x.files("o") == whole);
    }
  std::cout << faults << " faults injected\n";
  CHECK(faults > 10);
}

TEST_CASE("short writes change nothing") {
  const TinyExperiment x;
  REQUIRE(again(x, "whole").code == 0);
  CHECK(qfid_process(x.run_arguments("o"), with_fault(x, "o", "short", 1)).code == 0);
  CHECK(x.files("o") == x.files("whole"));
}

TEST_CASE(
    "files that end early or can't be read, at every read: exit code 3, the file, the place; then the run is as ever") {
  const TinyExperiment x;
  REQUIRE(again(x, "whole").code == 0);
  const std::string log = (x.dir.path() / "reads").string();
  const auto everything = [&](const std::string& kind, int at, const std::string& log_to = "") {
    ProcessOptions options = with_fault(x, "", kind, at, log_to);
    options.before_exec = [inner = options.before_exec, under = fs::canonical(x.dir.path()).string()] {
      inner();
      setenv("QFID_FAULT_UNDER", under.c_str(), 1);
    };
    return options;
  };
  REQUIRE(qfid_process(x.run_arguments("counted"), everything("read-none", 0, log)).code == 0);
  const std::string lines = read_file(log);
  const int reads = static_cast<int>(std::count(lines.begin(), lines.end(), '\n'));
  CHECK(reads > 50);
  int faults = 0;
  for (const auto& [kind, reason] : std::map<std::string, std::string>{{"read-end", "cut short while being read"},
                                                                       {"read-eio", "can't read: Input/output error"}})
    for (int at = 1; at <= reads; at += step()) {
      CAPTURE(kind, at);
      fs::remove_all(x.out("o"));
      const Outcome outcome = qfid_process(x.run_arguments("o"), everything(kind, at));
      CHECK(outcome.code == (outcome.err.find("x.yaml") == std::string::npos ? 3 : 2));  // of the configuration as ever
      CHECK(outcome.err.find(reason) != std::string::npos);
      CHECK(outcome.err.find(x.dir.path().string()) != std::string::npos);
      CHECK(outcome.err.find("byte ") != std::string::npos);
      require_no_partial_file(x.files("o"), x.files("whole"));
      CHECK(again(x, "o").code == 0);
      CHECK(x.files("o") == x.files("whole"));
      ++faults;
    }
  std::cout << faults << " faults injected in " << reads << " reads\n";
}

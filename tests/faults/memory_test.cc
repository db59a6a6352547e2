// Memory that can't be had, at the k-th allocation of some size, anywhere in a run (tests/support/interpose.cc): exit code 4
// and a message that says how much was asked for, or the target that failed is named and the others go on; no file is
// partial; and the same command ends in the bytes of a run that nothing happened to. Every k is tried with
// QFID_FAULT_STEP=1 (scripts/soak).
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>

#include <catch2/catch_test_macros.hpp>
#include <iostream>
#include <nlohmann/json.hpp>

#include "tests/support/tiny_experiment.h"

using namespace qfid::tests;
namespace fs = std::filesystem;

namespace {

using Files = std::map<std::string, std::string>;

ProcessOptions short_of_memory(const std::string& kind, int at, int bytes, const std::string& log = "") {
  ProcessOptions options;
  options.before_exec = [=] {
    setenv("LD_PRELOAD", QFID_INTERPOSE, 1);
    setenv("QFID_FAULT", kind.c_str(), 1);
    setenv("QFID_FAULT_AT", std::to_string(at).c_str(), 1);
    setenv("QFID_FAULT_BYTES", std::to_string(bytes).c_str(), 1);
    setenv("QFID_FAULT_LOG", log.c_str(), 1);
    setenv("OMP_WAIT_POLICY", "passive", 1);
  };
  return options;
}

/// Whole files under their own names: of the run itself, or of what was known of it. A process that ended at once leaves
/// temporary ones too.
void require_whole_files(const Files& found, const Files& whole, bool at_once) {
  for (const auto& [name, content] : found) {
    CAPTURE(name);
    if (at_once && name.ends_with(".tmp")) continue;
    CHECK_FALSE(name.ends_with(".tmp"));
    REQUIRE(whole.contains(name));
    if (name == "results.json") CHECK(nlohmann::json::accept(content));
    CHECK(!content.empty());
  }
}

int every(int calls, int sampled) {
  const char* const text = std::getenv("QFID_FAULT_STEP");
  return text == nullptr ? std::max(1, calls / sampled) : std::max(1, std::atoi(text));
}

struct Tally {
  int faults = 0, named = 0, absorbed = 0;
  int died = 0;  ///< in oneDNN, where memory for the code that it generates is short: it uses what it didn't get
};

/// One run short of memory, and what comes after.
void one_fault(const TinyExperiment& x, const std::string& kind, int at, int bytes, const Files& whole, Tally& tally) {
  CAPTURE(kind, at, bytes);
  fs::remove_all(x.out("o"));
  const Outcome outcome = qfid_process(x.run_arguments("o"), short_of_memory(kind, at, bytes));
  CAPTURE(outcome.err);
  ++tally.faults;
  if (outcome.code == 0) {  // what asked for it does without
    ++tally.absorbed;
    CHECK(x.files("o") == whole);
    return;
  }
  if (outcome.code == 1000 + SIGSEGV) {
    ++tally.died;
  } else {
    CHECK(outcome.code == 4);
    CHECK(outcome.err.find("out of memory: ") != std::string::npos);
  }
  tally.named +=
      outcome.err.find(" failed: ") != std::string::npos || outcome.err.find(": no ") != std::string::npos ? 1 : 0;
  require_whole_files(x.files("o"), whole, outcome.err.find("ended at once") != std::string::npos);
  const Outcome second = qfid_process(x.run_arguments("o"));
  CHECK(second.code == 0);
  CHECK(x.files("o") == whole);
}

void enumerate(const TinyExperiment& x, int bytes, int sampled) {
  REQUIRE(qfid_process(x.run_arguments("whole")).code == 0);
  const Files whole = x.files("whole");
  const std::string log = (x.dir.path() / "allocations").string();
  REQUIRE(qfid_process(x.run_arguments("counted"), short_of_memory("oom", 0, bytes, log)).code == 0);
  const std::string lines = read_file(log);
  const int calls = static_cast<int>(std::count(lines.begin(), lines.end(), '\n'));
  CHECK(calls > 50);
  Tally tally;
  for (int at = 1; at <= calls; at += every(calls, sampled)) one_fault(x, "oom", at, bytes, whole, tally);
  for (int at = 1; at <= calls; at += 3 * every(calls, sampled)) one_fault(x, "oom-on", at, bytes, whole, tally);
  std::cout << tally.faults << " allocations of " << calls << " failed: " << tally.named << " named a target or pass, "
            << tally.absorbed << " were done without, " << tally.died << " ended oneDNN\n";
  CHECK(tally.faults >= sampled);
  CHECK(tally.absorbed * 4 < tally.faults);
  CHECK(tally.died * 10 <= tally.faults);
}

}  // namespace

TEST_CASE("out of memory anywhere, reference backend, one thread") { enumerate(TinyExperiment(), 4096, 40); }

TEST_CASE("out of memory anywhere, cpu backend, two threads") {
  TinyExperiment x;
  x.dir.write("x.yaml",
              replaced(replaced(TinyExperiment::text(), "backend: reference", "backend: cpu"), "threads: 1", "threads: 2"));
  enumerate(x, 4096, 40);
}

// A hostile environment: closed streams, full disks, pipes instead of files, no rights, no home. Each through the program
// itself, with a limit of time: it must say what is wrong, not hang and not crash.
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <catch2/catch_test_macros.hpp>

#include "tests/support/checkpoint_files.h"
#include "tests/support/command_line.h"

using namespace qfid::tests;
namespace fs = std::filesystem;

namespace {

struct Experiment {
  Experiment() {
    write_model(dir, "m");
    dir.write("tokens.npy", npy_tokens(std::vector<std::uint16_t>(64, 5)));
    config = dir.write("x.yaml", text()).string();
    out = (dir.path() / "out").string();
  }
  static std::string text(const std::string& tokens = "tokens.npy", const std::string& model = "m") {
    return "version: 1\nname: t\nmodels: {m: {path: " + model + "}}\ndata: {tokens: " + tokens +
           "}\nbaseline: {backend: reference}\ntargets: {t: {backend: reference}}\n";
  }
  /// Exit code and stderr of a run of this configuration text.
  std::string said(const std::string& yaml, const std::string& command = "run") const {
    std::vector<std::string> arguments{command, dir.write("y.yaml", yaml).string()};
    if (command == "run") arguments.insert(arguments.end(), {"--out", out});
    const Outcome outcome = qfid_process(arguments);
    return std::to_string(outcome.code) + " " + dir.shown(outcome.err);
  }
  TemporaryDirectory dir;
  std::string config, out;
};

ProcessOptions before(const std::function<void()>& work) {
  ProcessOptions options;
  options.before_exec = work;
  return options;
}

/// In a child: whoever we are, become nobody in particular.
void drop_privileges() {
  if (geteuid() != 0) return;
  if (setgroups(0, nullptr) != 0 || setgid(65534) != 0 || setuid(65534) != 0) _exit(126);
}

}  // namespace

TEST_CASE("things that aren't regular files, in every place a file is expected") {
  const Experiment x;
  mkfifo((x.dir.path() / "pipe").c_str(), 0666);
  fs::create_symlink("loop", x.dir.path() / "loop");
  const std::string bad = "4:16: token file \"";
  CHECK(x.said(Experiment::text("pipe")) ==
        "2 qfid: DIR/y.yaml:" + bad + "pipe\" isn't a regular file (looked for DIR/pipe)\n");
  CHECK(x.said(Experiment::text("/dev/zero")) ==
        "2 qfid: DIR/y.yaml:" + bad + "/dev/zero\" isn't a regular file (looked for /dev/zero)\n");
  CHECK(x.said(Experiment::text("/dev/null")) ==
        "2 qfid: DIR/y.yaml:" + bad + "/dev/null\" isn't a regular file (looked for /dev/null)\n");
  CHECK(x.said(Experiment::text("m")) == "2 qfid: DIR/y.yaml:" + bad + "m\" isn't a regular file (looked for DIR/m)\n");
  CHECK(x.said(Experiment::text("loop")) ==
        "2 qfid: DIR/y.yaml:" + bad + "loop\" can't be reached: Too many levels of symbolic links (looked for DIR/loop)\n");
  CHECK(x.said(Experiment::text("tokens.npy", "tokens.npy")) ==
        "2 qfid: DIR/y.yaml:3:20: model directory \"tokens.npy\" isn't a directory (looked for DIR/tokens.npy)\n");
  for (const char* file : {"pipe", "/dev/zero", "/dev/null"}) {
    CAPTURE(file);
    const Outcome outcome = qfid_process({"validate", (x.dir.path() / file).string()});
    CHECK(outcome.code == 2);
    CHECK(outcome.err.find("expected a regular file, found a ") != std::string::npos);
  }
  const Outcome looped = qfid_process({"validate", (x.dir.path() / "loop").string()});
  CHECK(looped.code == 2);
  CHECK(x.dir.shown(looped.err) == "qfid: DIR/loop: can't open: Too many levels of symbolic links\n");
  CHECK(qfid_process({"validate", ""}).code == 2);
  CHECK(qfid_process({"inspect", ""}).code == 3);
}

TEST_CASE("large and deep configurations end quickly") {
  const Experiment x;
  std::string keys, names, list;
  for (int i = 0; i < 100000; ++i) keys += "k" + std::to_string(i) + ": 1\n";
  for (int i = 0; i < 80000; ++i) names += "  t" + std::to_string(i) + ": {}\n";
  for (int i = 0; i < 1001; ++i) list += (i == 0 ? "" : ", ") + std::string("{match: lm_head, linear: f32}");
  const std::string head = Experiment::text().substr(0, Experiment::text().find("targets"));
  const std::string many = x.said(keys, "validate");
  CHECK(many.size() < 30000);
  CHECK(many.ends_with("\nand 99905 more\n"));  // and five missing keys, 100 lines shown
  CHECK(x.said(head + "targets:\n" + names, "validate") ==
        "2 qfid: DIR/y.yaml:7:3: targets has 80000 entries, expected at most 1000\n");
  CHECK(x.said(head + "targets: {t: {overrides: [" + list + "]}}", "validate") ==
        "2 qfid: DIR/y.yaml:6:26: targets.t.overrides has 1001 entries, expected at most 1000\n");
  CHECK(x.said(std::string(1 << 20, '#') + "\n", "validate") == "2 qfid: DIR/y.yaml:1:1: larger than 1 MiB\n");
  CHECK(x.said(std::string((1 << 20) - 1, 'x'), "validate").starts_with("2 qfid: DIR/y.yaml:1:1: the file is \"xxx"));
  for (const char* unit : {"[", "{a: ", "- ", "? ", "a: [", "!!x ", "\"", "'", "|\n ", "%YAML 1.2\n", "&a ", "*a ", "---\n",
                           "\xE2\x82\xAC", "a:\n "}) {
    std::string text;
    while (text.size() < (1U << 20) - 16) text += unit;
    CAPTURE(unit);
    CHECK(x.said(text, "validate").starts_with("2 qfid: DIR/y.yaml:"));
  }
}

TEST_CASE("far more threads than processors are refused") {
  const Experiment x;
  CHECK(x.said(Experiment::text() + "run: {threads: 4096}\n").starts_with("2 qfid: DIR/y.yaml: run.threads 4096 is above "));
}

TEST_CASE("names that would lead elsewhere or hide something") {
  const Experiment x;
  const std::string yaml = Experiment::text();
  const auto named = [&](const std::string& name) { return x.said(replaced(yaml, "name: t", "name: " + name), "validate"); };
  const std::string bad = "2 qfid: DIR/y.yaml:2:7: name must be at most 100 characters without '/', and not . or ..\n";
  CHECK(named("..") == bad);
  CHECK(named("../x") == bad);
  CHECK(named(std::string(101, 'x')) == bad);
  CHECK(named("\"a\\0b\"").ends_with(", expected a string without control characters\n"));
  CHECK(named("\"a\\eb\"").ends_with(", expected a string without control characters\n"));
  CHECK(x.said(replaced(yaml, "path: m", "path: \"m\\0n\""), "validate").ends_with("a string without control characters\n"));
  CHECK(named("\"\xE2\x82\xAC <b>\"") == "0 ");
}

TEST_CASE("stdout on a full disk is an error, a reader that has enough isn't") {
  const Experiment x;
  for (const std::vector<std::string>& arguments : {std::vector<std::string>{"schema"},
                                                    {"backends"},
                                                    {"--help"},
                                                    {"completion", "bash"},
                                                    {"plan", x.config},
                                                    {"validate", x.config},
                                                    {"inspect", (x.dir.path() / "m").string()}}) {
    CAPTURE(arguments[0]);
    const Outcome full = qfid_process(arguments, before([] { dup2(open("/dev/full", O_WRONLY), STDOUT_FILENO); }));
    CHECK(full.code == 3);
    CHECK(full.err == "qfid: can't write to standard output\n");
    const Outcome gone = qfid_process(arguments, before([] {
                                        int ends[2];
                                        if (pipe(ends) != 0) _exit(126);
                                        dup2(ends[1], STDOUT_FILENO);
                                        close(ends[0]);
                                        close(ends[1]);
                                      }));
    CHECK(gone.code == 0);
    CHECK(gone.err.empty());
  }
}

TEST_CASE("closed streams: nothing of ours takes their place") {
  const Experiment x;
  const auto run = [&](const std::vector<int>& closed) {
    fs::remove_all(x.out);
    return qfid_process({"run", x.config, "--out", x.out}, before([closed] {
                          for (int stream : closed) close(stream);
                        }));
  };
  const std::string expected = read_file(x.dir.path() / "tokens.npy");
  CHECK(run({STDIN_FILENO}).code == 0);
  CHECK(run({STDERR_FILENO}).code == 0);
  const Outcome no_stdout = run({STDOUT_FILENO});
  CHECK(no_stdout.code == 3);
  CHECK(no_stdout.err.ends_with("qfid: can't write to standard output\n"));
  CHECK(run({STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}).code == 3);
  for (const char* file : {"results.json", "report.md", "report.html", "layers.csv", "tokens.npy"}) {
    CHECK(read_file(fs::path(x.out) / file).find("wrote ") == std::string::npos);
    CHECK(read_file(fs::path(x.out) / file).size() > 100);
  }
}

TEST_CASE("a full disk keeps what was there, and the table is on the screen all the same") {
  const Experiment x;
  CHECK(qfid_process({"run", x.config, "--out", x.out}).code == 0);
  const std::string before_it = read_file(fs::path(x.out) / "report.md") + read_file(fs::path(x.out) / "results.json");
  // A limit on the size of files stands in for the disk: what is written first fits, the rest doesn't.
  const Outcome full = qfid_process({"run", x.config, "--out", x.out, "--restart", "--set", "name=other"}, before([] {
                                      signal(SIGXFSZ, SIG_IGN);
                                      const rlimit limit{12000, 12000};
                                      setrlimit(RLIMIT_FSIZE, &limit);
                                    }));
  CHECK(full.code == 3);
  CHECK(x.dir.shown(full.err).find(": can't write: File too large") != std::string::npos);
  CHECK(full.out.find("perplexity") != std::string::npos);
  CHECK(read_file(fs::path(x.out) / "report.md") + read_file(fs::path(x.out) / "results.json") == before_it);
  CHECK(std::distance(fs::directory_iterator(x.out), fs::directory_iterator()) == 6);
}

TEST_CASE("places that can't be written or read say so before anything runs") {
  const Experiment x;
  fs::permissions(x.dir.path(), fs::perms::owner_all | fs::perms::group_all | fs::perms::others_all);
  const auto run = [&](const std::string& out) {
    const Outcome outcome = qfid_process({"run", x.config, "--out", out}, before(drop_privileges));
    return std::to_string(outcome.code) + " " + x.dir.shown(outcome.err);
  };
  fs::create_directory(x.dir.path() / "locked");
  fs::permissions(x.dir.path() / "locked",
                  fs::perms::owner_read | fs::perms::owner_exec | fs::perms::others_read | fs::perms::others_exec);
  CHECK(run((x.dir.path() / "locked").string()) == "3 qfid: DIR/locked: can't write there: Permission denied\n");
  CHECK(run((x.dir.path() / "locked" / "deeper").string()) ==
        "3 qfid: DIR/locked/deeper: can't write there: Permission denied\n");
  CHECK(run(x.config) == "3 qfid: DIR/x.yaml: can't write there: Not a directory\n");
  CHECK(run("/proc/nowhere").starts_with("3 qfid: /proc/nowhere: can't write there: "));

  fs::permissions(x.dir.path() / "m" / "config.json", fs::perms::none);
  CHECK(run(x.out) == "3 qfid: DIR/m/config.json: can't open: Permission denied\n");
  fs::permissions(x.dir.path() / "m" / "config.json", fs::perms::all);
  fs::permissions(x.dir.path() / "m" / "model.safetensors", fs::perms::none);
  CHECK(run(x.out) == "3 qfid: DIR/m/model.safetensors: can't open: Permission denied\n");
  fs::permissions(x.dir.path() / "tokens.npy", fs::perms::none);
  CHECK(run(x.out) == "3 qfid: DIR/tokens.npy: can't open: Permission denied\n");
  fs::permissions(x.config, fs::perms::none);
  CHECK(run(x.out) == "2 qfid: DIR/x.yaml: can't open: Permission denied\n");
}

TEST_CASE("no home, no environment; leftovers of a killed run; odd file names") {
  const Experiment x;
  CHECK(qfid_process({"run", x.config, "--out", x.out, "--quiet"}, before([] {
                       unsetenv("HOME");
                       unsetenv("PATH");
                       setenv("LC_ALL", "xx_YY.nonsense", 1);
                     }))
            .code == 0);
  // A pipe and a link where the temporary files go: neither waited for nor written through.
  const fs::path victim = x.dir.write("victim", "precious");
  mkfifo((fs::path(x.out) / "report.md.tmp").c_str(), 0600);
  fs::create_symlink(victim, fs::path(x.out) / "results.json.tmp");
  CHECK(qfid_process({"run", x.config, "--out", x.out, "--quiet", "--restart"}).code == 0);
  CHECK(read_file(victim) == "precious");
  CHECK(std::distance(fs::directory_iterator(x.out), fs::directory_iterator()) == 6);
  // A directory where a file goes.
  fs::remove(fs::path(x.out) / "layers.csv");
  fs::create_directories(fs::path(x.out) / "layers.csv" / "x");
  const Outcome taken = qfid_process({"run", x.config, "--out", x.out, "--quiet", "--restart"});
  CHECK(taken.code == 3);
  CHECK(x.dir.shown(taken.err) == "qfid: DIR/out/layers.csv: can't write: Is a directory\n");
  // A configuration whose name isn't UTF-8: the record still is.
  const std::string odd = (x.dir.path() / "caf\xE9.yaml").string();
  fs::copy_file(x.config, odd);
  const std::string out = (x.dir.path() / "odd").string();
  CHECK(qfid_process({"run", odd, "--out", out, "--quiet"}).code == 0);
  CHECK(nlohmann::json::parse(read_file(fs::path(out) / "results.json"))["schema_version"] == 1);
}

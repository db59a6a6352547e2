#include "eval/cli/cli.h"

#include <fcntl.h>
#include <malloc.h>
#include <poll.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <csignal>
#include <format>
#include <functional>
#include <iostream>
#include <new>

#include "eval/cli/commands.h"
#include "eval/cli/result_commands.h"
#include "eval/data/protocol.h"
#include "eval/experiment/version.h"
#include "quant/core/error.h"
#include "quant/core/nearest.h"
#include "quant/core/out_of_memory.h"

namespace qfid::eval {

namespace {

constexpr const char* footer = R"(Examples:
  qfid run configs/quickstart.yaml                      run it; tables on stdout, files in qfid-out/quickstart
  qfid run my.yaml --set data.windows=8 --target int8   a quick look at one target
  qfid plan my.yaml                                     what would run, how long, how much memory
  qfid inspect path/to/model                            what a checkpoint holds and how it is read
  qfid run my.yaml --shard 2/8 --out part2              an eighth of it; qfid merge part* --out all puts them together
  qfid report qfid-out/quickstart                       report.html and report.md again, without running anything
  qfid check qfid-out/quickstart/results.json --gates gates.yaml    do these results pass?

Exit codes: 0 pass, 1 a gate failed, 2 usage or configuration, 3 bad input file, 4 backend unavailable or out of
memory, 5 internal error or a run failed midway, 130 interrupted, 143 terminated.)";

void add_config(CLI::App& command, RunOptions& options) {
  command.add_option("CONFIG", options.config, "YAML configuration (see configs/README.md)")->required();
  // One value each time, so that the configuration may follow.
  const auto repeatable = [&](const char* name, std::vector<std::string>& values, const char* help) {
    const auto add = [&values](const std::vector<std::string>& more) {
      values.insert(values.end(), more.begin(), more.end());
    };
    command.add_option_function<std::vector<std::string>>(name, add, help)->type_size(1)->allow_extra_args(false);
  };
  command
      .add_option_function<std::int64_t>(
          "--windows", [&options](std::int64_t n) { options.sets.push_back("data.windows=" + std::to_string(n)); },
          "Windows to evaluate: --set data.windows=N")
      ->check(CLI::PositiveNumber);
  repeatable("--set", options.sets, "Override a key: KEY=VALUE, e.g. --set data.windows=8 (repeatable)");
  repeatable("--model", options.models, "Only this model (repeatable)");
  repeatable("--target", options.targets, "Only this target (repeatable)");
}

void add_tokenize(CLI::App& command, TokenizeOptions& options) {
  std::vector<std::string> names;
  for (const ProtocolTraits& row : protocols()) names.emplace_back(row.name);
  command.add_option("TEXT", options.text, "Text file, UTF-8")->required();
  command.add_option("--tokenizer", options.tokenizer, "tokenizer.json of the model (byte-level BPE)")->required();
  command.add_option("-o,--out", options.out, "The .npy file to write")->required();
  command
      .add_option("--protocol", options.protocol,
                  "Whose joining of documents and special tokens (docs/metrics.md; default window: no special tokens)")
      ->check(CLI::IsMember(names));
  command.add_option("--documents", options.documents, "file (default), lines, or jsonl with the field \"text\"")
      ->check(CLI::IsMember({"file", "lines", "jsonl"}));
  command.add_flag("--detokenize", options.detokenize, "WikiText's release back to plain English first");
}

void add_run(CLI::App& command, RunOptions& options) {
  add_config(command, options);
  command.add_option(
      "--out", options.out,
      "Directory for results.json, report.html, report.md, layers.csv, tokens*.npy (default qfid-out/NAME); a run that was "
      "stopped there goes on");
  command.add_flag("--restart", options.restart, "Begin anew, whatever run --out holds");
  command.add_option(
      "--shard", options.shard,
      "I/N: only part I of N (1/8 ... 8/8), for qfid merge; slurm: as this task's place in its job array says");
  command.add_flag("--no-timings", options.no_timings, "Leave timings out of the files: equal runs give equal bytes");
  command.add_option("--junit", options.junit, "Also write the gates' verdicts as JUnit XML");
  command.add_option("--dump", options.dump, "Also write logits and taps as .npy files to this directory (large)");
  command.add_option("--dump-limit", options.dump_limit, "GiB that --dump may write (default 4)")
      ->check(CLI::PositiveNumber);
  command.add_flag("--quiet", options.quiet, "No progress, no table");
}

void add_merge(CLI::App& command, MergeOptions& options) {
  command.add_option("DIRS", options.directories, "Directories of all shards of one run")->required();
  command.add_option("--out", options.out, "Directory for the files of the whole run")->required();
  command.add_option("--junit", options.junit, "Also write the gates' verdicts as JUnit XML");
  command.add_flag("--quiet", options.quiet, "No table");
}

/// Standard streams that the caller closed must not become the first files we open.
void hold_standard_streams() {
  for (int stream = 0; stream <= 2; ++stream)
    if (fcntl(stream, F_GETFD) == -1) {
      const int opened = open("/dev/null", stream == 0 ? O_WRONLY : O_RDONLY);  // using it fails, as it would have
      if (opened >= 0 && opened != stream) {
        dup2(opened, stream);
        close(opened);
      }
    }
}

int complain(const std::string& message, int code) {
  std::cerr << "qfid: " << printable(message) << "\n";
  return code;
}

/// stdout is data: a full disk behind it is an error; a reader that has seen enough (`| head`) is not.
int flushed(int code) {
  std::cout.flush();
  if (std::cout) return code;
  pollfd out{STDOUT_FILENO, POLLOUT, 0};
  if (poll(&out, 1, 0) > 0 && (out.revents & POLLERR) != 0) return code;
  return complain("can't write to standard output", code == 0 ? 3 : code);
}

using Complain = std::function<int(const std::string& message, int code)>;

int guarded(const std::function<int()>& work, const Complain& say = complain) {
  try {
    return flushed(work());
  } catch (const quant::Error& error) {
    return say(error.what(), error.exit_code());
  } catch (const std::bad_alloc& error) {
    return say(quant::message_of(error), 4);
  } catch (const std::exception& error) { return say(std::string("internal error: ") + error.what(), 5); }
}

/// What the process needs before it does anything.
void settle() {
  hold_standard_streams();
  // Activations of a few MiB come and go thousands of times: keep their pages instead of returning them to the system.
  mallopt(M_MMAP_THRESHOLD, 32 << 20);
  mallopt(M_TRIM_THRESHOLD, 512 << 20);
  std::signal(SIGPIPE, SIG_IGN);
}

/// CLI11 would say that an unknown command "was not expected"; we say which ones there are.
bool unknown_command(int argc, const char* const* argv) {
  if (argc < 2 || argv[1][0] == '-') return false;
  std::vector<std::string> names;
  for (const CommandInfo& info : command_list()) names.emplace_back(info.name);
  if (std::find(names.begin(), names.end(), argv[1]) != names.end()) return false;
  std::string list;
  for (const std::string& name : names) list += (list.empty() ? "" : ", ") + name;
  complain("unknown command \"" + std::string(argv[1]) + "\", expected one of " + list + quant::did_you_mean(argv[1], names),
           2);
  return true;
}

}  // namespace

std::string printable(std::string_view text) {
  std::string out;
  for (char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    out += c == '\n' || (byte >= 0x20 && byte != 0x7F) ? std::string(1, c) : std::format("\\x{:02x}", byte);
  }
  return out;
}

int run_cli(int argc, const char* const* argv) {
  settle();
  if (unknown_command(argc, argv)) return 2;
  CLI::App app{"qfid: how faithful is a quantized transformer, and who is to blame?"};
  app.footer(footer);
  app.set_version_flag("--version", "qfid " + tool_version() + " (" + git_commit() + ")");
  app.require_subcommand(1);
  RunOptions options;
  PlanOptions plan;
  MergeOptions merge;
  std::string model, shell;
  TokenizeOptions tokenize;
  ResultOptions results;
  std::function<int()> work;
  for (const CommandInfo& info : command_list()) {
    CLI::App* command = app.add_subcommand(info.name, info.summary);
    const std::string name = info.name;
    if (name == "run") {
      add_run(*command, options);
      add_cache_options(*command, options.cache);
      command->callback([&] { work = [&] { return command_run(options); }; });
    } else if (name == "merge") {
      add_merge(*command, merge);
      command->callback([&] { work = [&] { return command_merge(merge); }; });
    } else if (add_result_command(*command, name, results, work)) {
      continue;
    } else if (name == "plan" || name == "validate") {
      add_config(*command, options);
      if (name == "plan") {
        command->add_option("--pilot", plan.pilot,
                            "Results of a short run: the smallest effect that the planned windows can see");
        command->add_option("--time-budget", plan.time_budget, "How many windows fit these seconds")
            ->check(CLI::PositiveNumber);
      }
      command->callback([&, name] {
        work = [&, name] { return name == "plan" ? command_plan(options, plan) : command_validate(options); };
      });
    } else if (name == "inspect") {
      command->add_option("MODEL", model, "Checkpoint directory")->required();
      command->callback([&] { work = [&] { return command_inspect(model); }; });
    } else if (name == "tokenize") {
      add_tokenize(*command, tokenize);
      command->callback([&] { work = [&] { return command_tokenize(tokenize); }; });
    } else if (name == "completion") {
      command->add_option("SHELL", shell, "bash, zsh or fish")->required();
      command->callback([&] { work = [&] { return command_completion(shell); }; });
    } else {
      command->callback([&, name] {
        work = name == "backends" ? command_backends : name == "metrics" ? command_metrics : command_schema;
      });
    }
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) { return flushed(app.exit(error) == 0 ? 0 : 2); }
  return guarded(work);
}

int run_cli(int argc, const char* const* argv, const RunProgram& program) {
  settle();
  CLI::App app{program.summary};
  app.set_version_flag("--version", program.name + " " + tool_version() + " (" + git_commit() + ")");
  app.require_subcommand(1);
  RunOptions options;
  CLI::App* const run = app.add_subcommand("run", program.summary);
  add_run(*run, options);
  run->add_option("--lost-after", *program.lost_after,
                  "Seconds of silence after which a rank counts as lost and its unit goes to another (default 60)")
      ->check(CLI::Range(1.0, 1e6));
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) { return flushed(app.exit(error) == 0 ? 0 : 2); }
  return guarded([&] { return program.run(options); },
                 [&](const std::string& message, int code) {
                   program.complain(message, code);
                   return code;
                 });
}

}  // namespace qfid::eval

#include "eval/cli/cli.h"

#include <malloc.h>

#include <CLI/CLI.hpp>
#include <csignal>
#include <functional>
#include <iostream>
#include <new>

#include "eval/cli/commands.h"
#include "eval/experiment/version.h"
#include "quant/core/error.h"

namespace qfid::eval {

namespace {

constexpr const char* footer = R"(Examples:
  qfid run configs/quickstart.yaml                      run it; tables on stdout, files in qfid-out/quickstart
  qfid run my.yaml --set data.windows=8 --target int8   a quick look at one target
  qfid plan my.yaml                                     what would run, how long, how much memory
  qfid inspect path/to/model                            what a checkpoint holds and how it is read

Exit codes: 0 pass, 1 a gate failed, 2 usage or configuration, 3 bad input file, 4 backend unavailable or out of
memory, 5 internal error or a run failed midway, 130 interrupted.)";

void add_config(CLI::App& command, RunOptions& options) {
  command.add_option("CONFIG", options.config, "YAML configuration (see configs/README.md)")->required();
  command.add_option("--set", options.sets, "Override a key: KEY=VALUE, e.g. --set data.windows=8 (repeatable)");
  command.add_option("--model", options.models, "Only this model (repeatable)");
  command.add_option("--target", options.targets, "Only this target (repeatable)");
}

int guarded(const std::function<int()>& work) {
  try {
    return work();
  } catch (const quant::Error& error) {
    std::cerr << "qfid: " << error.what() << "\n";
    return error.exit_code();
  } catch (const std::bad_alloc&) {
    std::cerr << "qfid: out of memory\n";
    return 4;
  } catch (const std::exception& error) {
    std::cerr << "qfid: internal error: " << error.what() << "\n";
    return 5;
  }
}

}  // namespace

int run_cli(int argc, const char* const* argv) {
  // Activations of a few MiB come and go thousands of times: keep their pages instead of returning them to the system.
  mallopt(M_MMAP_THRESHOLD, 32 << 20);
  mallopt(M_TRIM_THRESHOLD, 512 << 20);
  std::signal(SIGPIPE, SIG_IGN);
  CLI::App app{"qfid: how faithful is a quantized transformer, and who is to blame?"};
  app.footer(footer);
  app.set_version_flag("--version", "qfid " + tool_version() + " (" + git_commit() + ")");
  app.require_subcommand(1);
  RunOptions options;
  std::string model, shell;
  std::function<int()> work;
  for (const CommandInfo& info : command_list()) {
    CLI::App* command = app.add_subcommand(info.name, info.summary);
    const std::string name = info.name;
    if (name == "run") {
      add_config(*command, options);
      command->add_option("--out", options.out,
                          "Directory for results.json, report.md, layers.csv, tokens*.npy (default qfid-out/NAME)");
      command->add_flag("--quiet", options.quiet, "No progress, no table");
      command->callback([&] { work = [&] { return command_run(options); }; });
    } else if (name == "plan" || name == "validate") {
      add_config(*command, options);
      command->callback(
          [&, name] { work = [&, name] { return name == "plan" ? command_plan(options) : command_validate(options); }; });
    } else if (name == "inspect") {
      command->add_option("MODEL", model, "Checkpoint directory")->required();
      command->callback([&] { work = [&] { return command_inspect(model); }; });
    } else if (name == "completion") {
      command->add_option("SHELL", shell, "bash, zsh or fish")->required();
      command->callback([&] { work = [&] { return command_completion(shell); }; });
    } else {
      command->callback([&, name] { work = name == "backends" ? command_backends : command_schema; });
    }
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    const int code = app.exit(error);
    return code == 0 ? 0 : 2;
  }
  return guarded(work);
}

}  // namespace qfid::eval

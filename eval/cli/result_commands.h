// Options of the commands that work on results: check, baseline, compare.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <string>

#include "eval/cli/commands.h"

namespace qfid::eval {

struct ResultOptions {
  CheckOptions check;
  BaselineOptions baseline;
  CompareOptions compare;
};
/// Adds the options of `name` to `command`; false when it isn't one of these. `options` and `work` outlive the parsing.
bool add_result_command(CLI::App& command, const std::string& name, ResultOptions& options, std::function<int()>& work);

}  // namespace qfid::eval

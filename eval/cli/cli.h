// The program: commands and exit codes. The only place that turns an exception into an exit code.
//   0 pass   1 a gate failed   2 usage or configuration   3 bad input file   4 backend unavailable or out of memory
//   5 internal, or a run failed midway   130 interrupted
#pragma once

#include <functional>
#include <string>

#include "eval/cli/commands.h"

namespace qfid::eval {

int run_cli(int argc, const char* const* argv);

/// Another program with the command `run` alone, whose options are qfid's: what it does is its own.
struct RunProgram {
  std::string name, summary;
  std::function<int(const RunOptions&)> run;
  std::function<void(const std::string& message, int code)> complain;  ///< told of what ends the program
  double* lost_after;                                                  ///< where --lost-after goes, seconds
};
int run_cli(int argc, const char* const* argv, const RunProgram& program);

}  // namespace qfid::eval

// The program: commands and exit codes. The only place that turns an exception into an exit code.
//   0 pass   1 a gate failed   2 usage or configuration   3 bad input file   4 backend unavailable or out of memory
//   5 internal, or a run failed midway   130 interrupted
#pragma once

namespace qfid::eval {

int run_cli(int argc, const char* const* argv);

}  // namespace qfid::eval

// The program as its user meets it: in this process through run_cli, or as a process of its own.
#pragma once

#include <sys/types.h>

#include <functional>
#include <string>
#include <vector>

namespace qfid::tests {

struct Outcome {
  int code = -1;  ///< exit code; 1000 + signal when a signal ended it; 2000 when it had to be stopped
  std::string out, err;
};

/// `qfid ARGUMENTS...` through run_cli, with what it wrote to std::cout and std::cerr.
Outcome qfid_here(const std::vector<std::string>& arguments);

struct ProcessOptions {
  std::function<void()> before_exec;         ///< in the child: close streams, lower limits, drop privileges
  std::function<void(pid_t)> while_running;  ///< in the parent, once it runs
  int seconds = 120;                         ///< then it is killed
};
/// The built program as a process of its own; output goes through files, so nothing can block.
Outcome qfid_process(const std::vector<std::string>& arguments, const ProcessOptions& options = {});
/// Any program, found on PATH.
Outcome process(const std::string& program, const std::vector<std::string>& arguments, const ProcessOptions& options = {});

}  // namespace qfid::tests

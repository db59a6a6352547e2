// One function a command; each returns its exit code and throws quant::Error for everything else.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace qfid::eval {

struct RunOptions {
  std::string config, out;
  std::vector<std::string> sets, models, targets;
  bool quiet = false;
};

int command_run(const RunOptions& options);
int command_plan(const RunOptions& options);
int command_validate(const RunOptions& options);
int command_inspect(const std::string& model);
int command_backends();
int command_schema();
int command_completion(const std::string& shell);

/// Text that may quote file contents: control characters are shown as \xNN, never sent to a terminal.
std::string printable(std::string_view text);

/// Command names with one line each: help and completion are made of this.
struct CommandInfo {
  const char* name;
  const char* summary;
};
const std::vector<CommandInfo>& command_list();

}  // namespace qfid::eval

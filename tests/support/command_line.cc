#include "tests/support/command_line.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <iostream>
#include <sstream>
#include <thread>

#include "eval/cli/cli.h"
#include "tests/support/temporary_directory.h"

namespace qfid::tests {

namespace {

std::vector<const char*> pointers(const std::string& program, const std::vector<std::string>& arguments) {
  std::vector<const char*> argv{program.c_str()};
  for (const std::string& argument : arguments) argv.push_back(argument.c_str());
  argv.push_back(nullptr);
  return argv;
}

/// A stream's output, caught until the end of this object's life.
class Caught {
 public:
  explicit Caught(std::ostream& stream) : stream_(stream), before_(stream.rdbuf(text_.rdbuf())) {}
  Caught(const Caught&) = delete;
  Caught& operator=(const Caught&) = delete;
  ~Caught() { stream_.rdbuf(before_); }
  std::string text() const { return text_.str(); }

 private:
  std::ostream& stream_;
  std::ostringstream text_;
  std::streambuf* before_;
};

/// Exit code as in Outcome; kills what runs too long.
int wait_for(pid_t child, int seconds) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(seconds);
  int status = 0;
  while (waitpid(child, &status, WNOHANG) == 0) {
    if (std::chrono::steady_clock::now() > end) {
      kill(child, SIGKILL);
      waitpid(child, &status, 0);
      return 2000;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

}  // namespace

Outcome qfid_here(const std::vector<std::string>& arguments) {
  const std::string program = "qfid";
  const std::vector<const char*> argv = pointers(program, arguments);
  Outcome outcome;
  const Caught out(std::cout), err(std::cerr);
  outcome.code = eval::run_cli(static_cast<int>(argv.size()) - 1, argv.data());
  outcome.out = out.text();
  outcome.err = err.text();
  return outcome;
}

Outcome process(const std::string& program, const std::vector<std::string>& arguments, const ProcessOptions& options) {
  const TemporaryDirectory dir;
  const std::string out = (dir.path() / "out").string(), err = (dir.path() / "err").string();
  const std::vector<const char*> argv = pointers(program, arguments);
  const pid_t child = fork();
  if (child == 0) {
    dup2(open(out.c_str(), O_WRONLY | O_CREAT, 0600), STDOUT_FILENO);
    dup2(open(err.c_str(), O_WRONLY | O_CREAT, 0600), STDERR_FILENO);
    for (int file = 3; file < 64; ++file) close(file);
    if (options.before_exec) options.before_exec();
    execvp(program.c_str(), const_cast<char* const*>(argv.data()));
    _exit(127);
  }
  if (options.while_running) options.while_running(child);
  Outcome outcome;
  outcome.code = wait_for(child, options.seconds);
  outcome.out = read_file(out);
  outcome.err = read_file(err);
  return outcome;
}

Outcome qfid_process(const std::vector<std::string>& arguments, const ProcessOptions& options) {
  return process(QFID_PROGRAM, arguments, options);
}

}  // namespace qfid::tests

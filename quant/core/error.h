// The one exception type of the project. An error carries a message a person can act on (what was expected, what was
// found, where) and the kind that decides the exit code; only eval/cli turns it into one.
#pragma once

#include <stdexcept>
#include <string>

namespace qfid::quant {

enum class ErrorKind {
  usage = 2,        ///< command line or configuration
  input = 3,        ///< a bad input file
  unavailable = 4,  ///< backend unavailable, problem unsupported, or out of memory
  internal = 5,     ///< our own mistake
};

class Error : public std::runtime_error {
 public:
  Error(ErrorKind kind, const std::string& message) : std::runtime_error(whole(message)), kind_(kind) {}
  ErrorKind kind() const noexcept { return kind_; }
  int exit_code() const noexcept { return static_cast<int>(kind_); }

 private:
  /// what() ends at the first NUL, and a message may quote a name that holds one.
  static std::string whole(std::string message) {
    for (std::size_t at = 0; (at = message.find('\0', at)) != std::string::npos; at += 2) message.replace(at, 1, "\\0");
    return message;
  }
  ErrorKind kind_;
};

/// Throws Error{internal} with `message` unless `ok`: for preconditions a caller inside the project must meet.
inline void require(bool ok, const char* message) {
  if (!ok) throw Error(ErrorKind::internal, message);
}
inline void require(bool ok, const std::string& message) {
  if (!ok) throw Error(ErrorKind::internal, message);
}

}  // namespace qfid::quant

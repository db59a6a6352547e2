// What commands that compute ask of the process around them: to be told to stop, and a place to write.
#pragma once

#include <atomic>
#include <filesystem>

namespace qfid::eval {

/// True once SIGINT or SIGTERM came; the second one ends the process at once. Handles both from the first call on.
const std::atomic<bool>& stop_on_signals();
/// The signal that stop_on_signals() caught; 0 = none yet.
int stop_signal();
/// Makes the directory; Error{input} naming it when it can't be written to.
void require_writable(const std::filesystem::path& directory);

}  // namespace qfid::eval

// Windows of bigram-backcopy with what the task itself says of them.
#pragma once

#include <vector>

#include "eval/data/backcopy.h"
#include "eval/data/windows.h"
#include "eval/metrics/backcopy.h"

namespace qfid::eval {

/// Of whole sequences under protocol window.
std::vector<BackcopyWindow> backcopy_windows(const BackcopyTask& task, const std::vector<Window>& windows);

}  // namespace qfid::eval

// What a run asks of, and sets in, the process it runs in.
#pragma once

#include <string>

#include "eval/experiment/spec.h"

namespace qfid::eval {

std::string utc_now();  ///< ISO 8601
double peak_memory();   ///< largest resident memory so far, bytes
/// Starts so many threads once, and ends them. Error{unavailable} when they can't be had: OpenMP's library would end the
/// process, with the exit code of a failed gate.
void require_threads(int count);
void set_threads(const Spec& spec);  ///< those of the spec, for all backends; Error{usage} for far too many

}  // namespace qfid::eval

// What a run asks of, and sets in, the process it runs in.
#pragma once

#include <string>

#include "eval/experiment/spec.h"

namespace qfid::eval {

std::string utc_now();               ///< ISO 8601
double peak_memory();                ///< largest resident memory so far, bytes
void set_threads(const Spec& spec);  ///< those of the spec, for all backends; Error{usage} for far too many

}  // namespace qfid::eval

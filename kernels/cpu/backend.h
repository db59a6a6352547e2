// The CPU backend: oneDNN's kernels behind the contract. Compiled when oneDNN is found, else replaced by absent.cc.
#pragma once

#include <memory>

#include "kernels/backend.h"

namespace qfid::kernels::cpu {

std::unique_ptr<Backend> make_cpu_backend();

}  // namespace qfid::kernels::cpu

// The GPU backend's place in the house. Not part of this version: absent.cc answers with that reason.
#pragma once

#include <memory>

#include "kernels/backend.h"

namespace qfid::kernels::gpu {

std::unique_ptr<Backend> make_gpu_backend();

}  // namespace qfid::kernels::gpu

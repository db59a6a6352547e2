// The GPU backend: cuBLASLt 13 and our own kernels, on NVIDIA devices of compute capability 8.0 and newer.
#pragma once

#include <memory>

#include "kernels/backend.h"

namespace qfid::kernels::gpu {

/// On CUDA device number `device` among those CUDA_VISIBLE_DEVICES leaves. Costs nothing until it is asked something.
std::unique_ptr<Backend> make_gpu_backend(int device = 0);

}  // namespace qfid::kernels::gpu

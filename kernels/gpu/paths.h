// Where this build found CUDA's libraries; paths.cc is made by CMake.
#pragma once

namespace qfid::kernels::gpu {

const char* cuda_library_dir();

}  // namespace qfid::kernels::gpu

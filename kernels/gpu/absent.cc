// The gpu backend of a build without it: answers every question with the reason.
#include "kernels/absent_backend.h"
#include "kernels/gpu/backend.h"

namespace qfid::kernels::gpu {

std::unique_ptr<Backend> make_gpu_backend(int) {
  return std::make_unique<AbsentBackend>("gpu", "this build has no GPU backend: install CUDA 13 (nvcc) and build again");
}

}  // namespace qfid::kernels::gpu

// The gpu backend of a build without it: answers every question with the reason.
#include "kernels/absent_backend.h"
#include "kernels/gpu/backend.h"

namespace qfid::kernels::gpu {

std::unique_ptr<Backend> make_gpu_backend() {
  return std::make_unique<AbsentBackend>("gpu", "this version of qfid has no GPU backend");
}

}  // namespace qfid::kernels::gpu

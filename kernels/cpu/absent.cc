// The cpu backend of a build without it: answers every question with the reason.
#include "kernels/absent_backend.h"
#include "kernels/cpu/backend.h"

namespace qfid::kernels::cpu {

std::unique_ptr<Backend> make_cpu_backend() {
  return std::make_unique<AbsentBackend>(
      "cpu", "this build has no oneDNN: install libdnnl-dev 3.6 or newer (scripts/setup) and build again");
}

}  // namespace qfid::kernels::cpu

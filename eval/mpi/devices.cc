#include "eval/mpi/devices.h"

#include <algorithm>

#include "kernels/registry/registry.h"

namespace qfid::eval {

namespace {

/// Usable devices, up to `most`.
int device_count(int most) {
  int count = 0;
  while (count < most && kernels::make_backend("gpu", count)->available()) ++count;
  return count;
}

}  // namespace

void choose_devices(Spec& spec, int local_rank, int local_size) {
  const auto free = [](const TargetSpec& target) { return target.backend == "gpu" && !target.device_chosen; };
  if (!free(spec.baseline) && std::none_of(spec.targets.begin(), spec.targets.end(), free)) return;
  const int count = device_count(local_size);
  if (count == 0) return;  // the run says why there is none
  if (free(spec.baseline)) spec.baseline.device = local_rank % count;
  for (TargetSpec& target : spec.targets)
    if (free(target)) target.device = local_rank % count;
}

}  // namespace qfid::eval

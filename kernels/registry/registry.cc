#include "kernels/registry/registry.h"

#include "kernels/cpu/backend.h"
#include "kernels/gpu/backend.h"
#include "kernels/host/host_backend.h"
#include "kernels/reference/backend.h"
#include "quant/core/nearest.h"

namespace qfid::kernels {

std::vector<std::string_view> backend_names() { return {"reference", "cpu", "gpu"}; }

std::unique_ptr<Backend> make_backend(std::string_view name, int device) {
  if (name == "reference") return reference::make_reference_backend();
  if (name == "cpu") return cpu::make_cpu_backend();
  if (name == "gpu") return gpu::make_gpu_backend(device);
  throw quant::Error(quant::ErrorKind::usage, "unknown backend \"" + std::string(name) +
                                                  "\", expected reference, cpu or gpu" +
                                                  quant::did_you_mean(name, backend_names()));
}

void set_threads(int n) { host::set_thread_count(n); }

}  // namespace qfid::kernels

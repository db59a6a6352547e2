// What every backend in host memory does alike: memory, the full-precision operations of a transformer, the reductions.
// Normalization statistics are formed in double; each row by one thread.
#pragma once

#include "kernels/backend.h"
#include "kernels/host/reductions.h"

namespace qfid::kernels::host {

class HostBackend : public Backend {
 public:
  DeviceTensor upload(const quant::Tensor& host) override;
  quant::Tensor download(const DeviceTensor& tensor) override;
  DeviceTensor slice(const DeviceTensor& x, std::int64_t begin, std::int64_t end) override;
  DeviceTensor embedding(const DeviceTensor& ids, const DeviceTensor& table) override;
  DeviceTensor add(const DeviceTensor& a, const DeviceTensor& b) override;
  DeviceTensor layer_norm(const DeviceTensor& x, const DeviceTensor& gamma, const DeviceTensor& beta, float eps) override;
  DeviceTensor rms_norm(const DeviceTensor& x, const DeviceTensor& gamma, float eps) override;
  DeviceTensor activation(const DeviceTensor& x, Activation kind) override;
  DeviceTensor rotary(const DeviceTensor& x, std::int64_t first, double theta) override;
  Reductions& reductions() override { return reductions_; }

 private:
  HostReductions reductions_;
};

/// out[i] = activation of x[i], i < n; out may be x.
void activate(const float* x, float* out, std::int64_t n, Activation kind);

/// CPU model as the operating system names it, and threads OpenMP will use.
std::string cpu_model();
int thread_count();
/// Threads for everything that follows; n >= 1.
void set_thread_count(int n);

}  // namespace qfid::kernels::host

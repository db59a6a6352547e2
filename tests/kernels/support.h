// What all tests of kernels share: the backends that are here, random tensors, a listener, bits.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "kernels/backend.h"
#include "quant/core/random.h"
#include "quant/core/tensor.h"

namespace qfid::tests {

using namespace qfid::kernels;
using quant::Tensor;

struct NamedBackend {
  std::string name;
  std::shared_ptr<Backend> backend;
  Backend* operator->() const { return backend.get(); }
  Backend& operator*() const { return *backend; }
};
/// The backends on the host, the reference first; or the one that QFID_TEST_BACKEND names (ctest runs the same binary again
/// with it set to gpu). One that isn't here skips the test, saying why.
std::vector<NamedBackend> backends();
/// Its one reference backend.
NamedBackend reference();

/// scale * standard normal numbers.
Tensor filled(const Shape& shape, quant::Random& random, float scale = 1.0F);
Tensor filled(const Shape& shape, std::uint64_t seed, float scale = 1.0F);
/// Whole numbers in [-largest, largest].
Tensor integers(const Shape& shape, std::uint64_t seed, int largest);

std::vector<double> numbers(const Tensor& f32);
bool same_bits(const Tensor& a, const Tensor& b);
/// Share of elements that are not 0: a comparison of mostly zeros shows nothing.
double share_nonzero(const Tensor& f32);

/// Keeps every tap it is handed.
class Collector : public TapSink {
 public:
  bool wants(TapPoint) const override { return true; }
  void take(TapPoint point, const DeviceTensor& tensor) override { taps[point] = tensor; }
  std::map<TapPoint, DeviceTensor> taps;
};

/// Threads for the time of its life.
class Threads {
 public:
  explicit Threads(int n);
  Threads(const Threads&) = delete;
  Threads& operator=(const Threads&) = delete;
  ~Threads();

 private:
  int before_;
};

}  // namespace qfid::tests

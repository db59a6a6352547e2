#include "tests/kernels/support.h"

#include <catch2/catch_test_macros.hpp>
#include <cstdlib>
#include <cstring>

#include "kernels/registry/registry.h"

namespace qfid::tests {

std::vector<NamedBackend> backends() {
  if (const char* asked = std::getenv("QFID_TEST_BACKEND"); asked != nullptr && *asked != '\0') {
    NamedBackend one{asked, make_backend(asked)};
    if (const Support available = one->available(); !available)
      SKIP("backend " << asked << " isn't here: " << available.reason);
    return {one};
  }
  std::vector<NamedBackend> here;
  for (const char* name : {"reference", "cpu"}) {
    NamedBackend one{name, make_backend(name)};
    if (one->available()) here.push_back(std::move(one));
  }
  return here;
}

NamedBackend reference() { return {"reference", make_backend("reference")}; }

Tensor filled(const Shape& shape, quant::Random& random, float scale) {
  Tensor tensor(DType::f32, shape);
  for (float& x : tensor.view<float>().span()) x = scale * static_cast<float>(random.normal());
  return tensor;
}

Tensor filled(const Shape& shape, std::uint64_t seed, float scale) {
  quant::Random random(seed);
  return filled(shape, random, scale);
}

Tensor integers(const Shape& shape, std::uint64_t seed, int largest) {
  quant::Random random(seed);
  Tensor tensor(DType::f32, shape);
  const auto count = static_cast<std::uint64_t>(2 * largest + 1);
  for (float& x : tensor.view<float>().span()) x = static_cast<float>(static_cast<int>(random.below(count)) - largest);
  return tensor;
}

std::vector<double> numbers(const Tensor& f32) {
  const auto x = f32.view<float>();
  return {x.data(), x.data() + x.size()};
}

bool same_bits(const Tensor& a, const Tensor& b) {
  return a.shape() == b.shape() && a.dtype() == b.dtype() && std::memcmp(a.raw(), b.raw(), a.bytes()) == 0;
}

double share_nonzero(const Tensor& f32) {
  const auto x = f32.view<float>();
  std::int64_t n = 0;
  for (const float value : x.span()) n += value != 0.0F;
  return static_cast<double>(n) / static_cast<double>(x.size());
}

Threads::Threads(int n) : before_(reference()->info().threads) { set_threads(n); }
Threads::~Threads() { set_threads(before_); }

}  // namespace qfid::tests

// Which of the offered algorithms a product runs with. What a choice costs is mostly the algorithms that lose, loading their
// kernels first, then running them: each is timed once, in the heuristic's order (of f32 no further than it helps); those
// near the fastest are timed again by turns, and compared in their bits from the fastest on until one's are right.
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/gpu/elementwise.h"
#include "kernels/gpu/gemm.h"
#include "quant/core/random.h"

namespace qfid::kernels::gpu {

using quant::Error;
using quant::ErrorKind;

namespace {

/// How far a product of ones may lie from K: results are stored in bf16, or FP8's accumulator keeps about 14 bits.
double probe_tolerance(const GemmShape& s) {
  if (s.dst == Number::bf16) return 0x1p-7;
  return s.a == Number::e4m3 || s.a == Number::e5m2 ? 0x1p-10 : 0;
}

/// Small products are bound by their launch: nothing to choose.
bool worth_timing(const GemmShape& s) { return static_cast<double>(s.m * s.n) * static_cast<double>(s.k * s.batch) >= 1e8; }

/// How much is spent on a choice. f32's products last longest, are rarely of a large model, and the heuristic orders them
/// well; 16 and 8 bit products are bound by the card's power when they are large, which a single launch doesn't show.
struct Effort {
  int fruitless;  // offers in a row that aren't faster than those before them: the rest isn't timed
  int launches;   // of one timing
  float near;     // of the fastest: timed again
  int rounds;     // of that, by turns, because clocks follow what was run before
};

/// For a product that took so many milliseconds.
Effort effort_of(const GemmShape& s, float once) {
  const int launches = std::clamp(static_cast<int>(0.3F / once), 1, 16);
  if (s.a == Number::f32) return {3, launches, 1.06F, once < 1 ? 2 : 1};
  return {std::numeric_limits<int>::max(), once < 0.5F ? launches : 6, 1.15F, 3};
}

struct Timed {
  std::size_t candidate;
  std::vector<float> samples;

  /// The median, the lower one of two.
  float milliseconds() const {
    std::vector<float> sorted = samples;
    std::ranges::sort(sorted);
    return sorted[(sorted.size() - 1) / 2];
  }
};

}  // namespace

/// Memory for probing: operands, a result and another. Results are compared in words of 16 bytes.
struct GemmPlan::Buffers {
  Buffers(Context& c, const GemmShape& s) : context(c), shape(s) {
    const auto span = [](std::int64_t rows, std::int64_t ld, std::int64_t batch, std::int64_t stride) {
      return (batch - 1) * stride + rows * ld;
    };
    n_a = span(s.m, s.lda, s.batch, s.stride_a);
    n_b = span(s.n, s.ldb, s.batch, s.stride_b);
    result_bytes = (static_cast<std::size_t>(span(s.m, s.ldd, s.batch, s.stride_d)) * size_of(s.dst) + 15) / 16 * 16;
    a = c.allocate(static_cast<std::size_t>(n_a) * size_of(s.a));
    b = c.allocate(static_cast<std::size_t>(n_b) * size_of(s.b));
    result = c.allocate(result_bytes);
    bias = c.zeros<float>(s.n);
    wrong = c.array<std::uint32_t>(1);
  }
  void fill_at_random() {
    fill_random(a.get(), shape.a, n_a, 1, context.stream());
    fill_random(b.get(), shape.b, n_b, 2, context.stream());
    if (shape.inner_scales == InnerScales::none) return;
    // Not powers of two: the order in which scales are multiplied and sums rounded shows.
    quant::Random random(3);
    std::vector<float> numbers(static_cast<std::size_t>(shape.scales()));
    for (float& x : numbers) x = static_cast<float>(0.5 + random.uniform());
    scales = context.uploaded(numbers);
  }
  /// Scales are ones until the operands are random.
  GemmPointers into(const std::shared_ptr<void>& dst) const {
    return {a.get(), b.get(), bias.get(), dst.get(), scales.get(), scales.get()};
  }

  Context& context;
  const GemmShape& shape;
  std::int64_t n_a, n_b;
  std::size_t result_bytes;
  std::shared_ptr<void> a, b, result, other;
  std::shared_ptr<float> bias, scales;
  std::shared_ptr<std::uint32_t> wrong;
};

/// Time on the stream.
class GemmPlan::Timer {
 public:
  Timer(const GemmPlan& plan, const Buffers& buffers) : plan_(plan), buffers_(buffers) {
    check(cudaEventCreate(&start_), "cudaEventCreate");
    check(cudaEventCreate(&end_), "cudaEventCreate");
  }
  ~Timer() {
    cudaEventDestroy(start_);
    cudaEventDestroy(end_);
  }
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;

  float milliseconds(std::size_t candidate, int launches) const {
    const cudaStream_t stream = plan_.context_.stream();
    check(cudaEventRecord(start_, stream), "cudaEventRecord");
    for (int n = 0; n < launches; ++n) plan_.run(buffers_.into(buffers_.other), candidate);
    check(cudaEventRecord(end_, stream), "cudaEventRecord");
    check(cudaEventSynchronize(end_), "cudaEventSynchronize");
    float ms = 0;
    check(cudaEventElapsedTime(&ms, start_, end_), "cudaEventElapsedTime");
    return ms / static_cast<float>(launches);
  }

 private:
  const GemmPlan& plan_;
  const Buffers& buffers_;
  cudaEvent_t start_ = nullptr, end_ = nullptr;
};

void GemmPlan::choose() {
  Buffers buffers(context_, shape_);
  fill_ones(buffers.a.get(), shape_.a, buffers.n_a, context_.stream());
  fill_ones(buffers.b.get(), shape_.b, buffers.n_b, context_.stream());
  while (chosen_ < offers_.size() && !passes(buffers, chosen_)) ++chosen_;
  if (chosen_ == offers_.size())
    throw Error(ErrorKind::internal, "gpu: no algorithm of cuBLASLt multiplies ones right: " + shape_.to_string());
  name_ = name_of(chosen_);
  if (!worth_timing(shape_)) return;
  buffers.fill_at_random();
  context_.clear(buffers.result.get(), buffers.result_bytes);
  buffers.other = context_.allocate(buffers.result_bytes);
  run(buffers.into(buffers.result), chosen_);
  chosen_ = fastest(buffers);
}

/// Operands of all ones are in the buffers.
bool GemmPlan::passes(const Buffers& buffers, std::size_t candidate) const {
  const GemmShape& s = shape_;
  context_.clear(buffers.wrong.get(), sizeof(std::uint32_t));
  context_.clear(buffers.result.get(), buffers.result_bytes);
  run(buffers.into(buffers.result), candidate);
  find_unlike(buffers.result.get(), s.dst, static_cast<double>(s.k), probe_tolerance(s), s.batch, s.stride_d, s.m, s.n,
              s.ldd, buffers.wrong.get(), context_.stream());
  return context_.fetched(buffers.wrong.get(), 1)[0] == 0;
}

/// A first run: the library loads its kernel then, which takes longer than any product. A few rows do where it takes them.
void GemmPlan::load(const Buffers& buffers, std::size_t candidate) const {
  Layouts few;
  describe(few, std::min<std::int64_t>(shape_.m, 128), 1);
  const cublasStatus_t status = multiply(buffers.into(buffers.other), candidate, few);
  forget(few);
  if (status != CUBLAS_STATUS_SUCCESS) run(buffers.into(buffers.other), candidate);
}

/// Whether a candidate leaves what the first one left in `result`.
bool GemmPlan::same_bits(const Buffers& buffers, std::size_t candidate) const {
  context_.clear(buffers.wrong.get(), sizeof(std::uint32_t));
  context_.clear(buffers.other.get(), buffers.result_bytes);
  run(buffers.into(buffers.other), candidate);
  find_different(buffers.result.get(), buffers.other.get(), static_cast<std::int64_t>(buffers.result_bytes / 16),
                 buffers.wrong.get(), context_.stream());
  return context_.fetched(buffers.wrong.get(), 1)[0] == 0;
}

/// Among those with the first one's bits.
std::size_t GemmPlan::fastest(const Buffers& buffers) const {
  const Timer timer(*this, buffers);
  const float once = std::max(timer.milliseconds(chosen_, 1), 1e-3F);
  const auto [fruitless, launches, near, rounds] = effort_of(shape_, once);
  std::vector<Timed> timed{{chosen_, {timer.milliseconds(chosen_, launches)}}};
  float least = timed[0].milliseconds();
  int in_vain = 0;
  for (std::size_t i = chosen_ + 1; i < offers_.size() && in_vain < fruitless; ++i) {
    load(buffers, i);
    const float time = timer.milliseconds(i, launches);
    timed.push_back({i, {time}});
    in_vain = time < least ? 0 : in_vain + 1;
    least = std::min(least, time);
  }
  std::erase_if(timed, [&](const Timed& t) { return t.candidate != chosen_ && t.samples[0] > near * least; });
  for (int round = 0; round < rounds && timed.size() > 1; ++round)
    for (Timed& t : timed) t.samples.push_back(timer.milliseconds(t.candidate, launches));
  std::ranges::stable_sort(timed, {}, &Timed::milliseconds);
  for (const Timed& t : timed)
    if (t.candidate == chosen_ || same_bits(buffers, t.candidate)) return t.candidate;
  return chosen_;
}

}  // namespace qfid::kernels::gpu

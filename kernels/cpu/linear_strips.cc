// Linears by strips of outputs: a task is a block of rows and some strips, each followed at once by scales, bias, activation
// and residual while its sums are in cache. A number of the result is formed alone, whatever the tasks are.
#include <omp.h>

#include <algorithm>
#include <cstring>

#include "kernels/cpu/linear.h"
#include "kernels/cpu/strip_tail.h"
#include "quant/core/dispatch.h"
#include "quant/core/first_error.h"

namespace qfid::kernels::cpu {

namespace {

constexpr std::int64_t row_block = CpuLinear::row_block;
constexpr int code_offset = 128;  ///< makes s8 codes u8, as ukernels without AMX need; taken back with the zero point
constexpr std::int64_t tasks_a_thread = 4;
constexpr std::int64_t columns_together = 128;  ///< of sums before what follows: rows of the result in pieces of 512 bytes

struct Offset {
  __attribute__((always_inline)) void operator()(const std::uint8_t* __restrict codes, std::int64_t n,
                                                 std::uint8_t* __restrict dst) const {
    for (std::int64_t i = 0; i < n; ++i) dst[i] = static_cast<std::uint8_t>(codes[i] ^ code_offset);
  }
};

struct Widen {
  template <class T>
  __attribute__((always_inline)) void operator()(const T* __restrict src, std::int64_t n,
                                                 std::int16_t* __restrict dst) const {
    std::copy_n(src, n, dst);
  }
};

/// A thread at work.
struct Worker {
  StripMemory& memory;
  StripWeights::Tiles tiles;
  float scales[row_block];
  std::int32_t zeros[row_block];
};

class Multiplication {
 public:
  Multiplication(const CpuLinear& w, const LinearSource& src, const LinearTail& tail, float* dst, float* sum)
      : w_(w),
        strips_(*w.strips),
        src_(src),
        tail_(tail),
        residual_(tail.residual.defined() ? static_cast<const float*>(tail.residual.storage.get()) : nullptr),
        dst_(dst),
        sum_(sum),
        type_(w.strips->route().type),
        offset_(type_ == BlockType::u8s8 && w.types.a == DataType::s8 ? code_offset : 0) {}

  /// Rows [row, row + rows) of strips [first, last).
  void run(std::int64_t row, std::int64_t rows, std::int64_t first, std::int64_t last, Worker& worker) const {
    const std::int64_t out = w_.problem().out;
    const std::byte* src = numbers(row, rows, worker);
    std::byte* sums = worker.memory.sums.reserve(row_block * columns_together * 4);
    for (std::int64_t r = 0; w_.scaled && r < rows; ++r) {
      worker.scales[r] = src_.scale(row + r);
      worker.zeros[r] = src_.zero(row + r) + offset_;
    }
    const std::int64_t width = strips_.width(), together = std::max<std::int64_t>(1, columns_together / width);
    for (std::int64_t strip = first; strip < last; strip += together) {
      const std::int64_t end = std::min(strip + together, last), column = strip * width, at = row * out + column;
      for (std::int64_t i = strip; i < end; ++i)
        strips_.run(src, rows, i, sums + (i - strip) * row_block * width * 4, worker.memory, worker.tiles);
      finish({.sums = sums,
              .rows = rows,
              .columns = std::min(end * width, out) - column,
              .width = width,
              .strip = row_block * width,
              .integer = strips_.route().integer(),
              .row_scales = w_.scaled ? worker.scales : nullptr,
              .zeros = worker.zeros,
              .column_scales = w_.scale.data() + column,
              .column_sums = w_.colsum.data() + column,
              .bias = w_.scaled || w_.has_bias ? w_.bias.data() + column : nullptr,
              .activation = tail_.activation,
              .y = dst_ + at,
              .residual = residual_ == nullptr ? nullptr : residual_ + at,
              .sum = sum_ == nullptr ? nullptr : sum_ + at,
              .stride = out});
    }
  }

 private:
  /// Rows as numbers of the products, padded; where they are if they are that already.
  const std::byte* numbers(std::int64_t row, std::int64_t rows, Worker& worker) const {
    const std::int64_t in = w_.problem().in, depth = strips_.depth();
    const auto width = static_cast<std::int64_t>(strips_.route().bytes);
    const bool codes = !src_.x.codes.empty();
    const auto stored = codes ? static_cast<std::int64_t>(quant::info(src_.x.codes.dtype()).bytes) : 4;
    if (stored == width && depth == in && offset_ == 0) return src_.raw + row * in * stored;
    std::byte* to = worker.memory.src.reserve(row_block * depth * width);
    for (std::int64_t r = 0; r < rows; ++r) {
      std::byte* dst = to + r * depth * width;
      fill((row + r) * in, in, dst);
      std::memset(dst + in * width, 0, static_cast<std::size_t>((depth - in) * width));
    }
    return to;
  }

  /// `n` numbers from element `at` of the source on.
  void fill(std::int64_t at, std::int64_t n, std::byte* dst) const {
    const quant::Tensor& codes = src_.x.codes;
    const auto* bytes = reinterpret_cast<const std::uint8_t*>(src_.raw) + at;
    if (codes.empty()) {
      std::memcpy(dst, src_.raw + at * 4, static_cast<std::size_t>(n) * 4);
    } else if (type_ != BlockType::s16 && offset_ == 0) {
      expand_codes(codes, at, n, w_.types.a, dst);
    } else if (type_ == BlockType::u8s8) {
      quant::dispatched(Offset{}, bytes, n, reinterpret_cast<std::uint8_t*>(dst));
    } else if (codes.dtype() == quant::DType::u8) {
      quant::dispatched(Widen{}, bytes, n, reinterpret_cast<std::int16_t*>(dst));
    } else {
      quant::dispatched(Widen{}, reinterpret_cast<const std::int8_t*>(bytes), n, reinterpret_cast<std::int16_t*>(dst));
    }
  }

  const CpuLinear& w_;
  const StripWeights& strips_;
  const LinearSource& src_;
  const LinearTail& tail_;
  const float* residual_;
  float *dst_, *sum_;
  BlockType type_;
  int offset_;
};

}  // namespace

void multiply_in_strips(CpuLinear& linear, const LinearSource& src, const LinearTail& tail, std::vector<StripMemory>& memory,
                        float* dst, float* sum) {
  const StripWeights& strips = *linear.strips;
  const Multiplication multiplication(linear, src, tail, dst, sum);
  const std::int64_t blocks = (src.rows + row_block - 1) / row_block, wanted = tasks_a_thread * omp_get_max_threads();
  const std::int64_t groups = blocks == 0 ? 1 : std::clamp<std::int64_t>((wanted + blocks - 1) / blocks, 1, strips.strips());
  memory.resize(std::max(memory.size(), static_cast<std::size_t>(omp_get_max_threads())));
  quant::FirstError error;
#pragma omp parallel
  {
    Worker worker{memory[static_cast<std::size_t>(omp_get_thread_num())], StripWeights::Tiles(strips.tiled()), {}, {}};
#pragma omp for schedule(dynamic)
    for (std::int64_t i = 0; i < blocks * groups; ++i)
      error.guard([&] {
        const std::int64_t row = i / groups * row_block, group = i % groups, n = strips.strips();
        multiplication.run(row, std::min(row_block, src.rows - row), group * n / groups, (group + 1) * n / groups, worker);
      });
  }
  error.rethrow();
}

}  // namespace qfid::kernels::cpu

// Linears by oneDNN's matmul primitives, in row blocks side by side on all threads, each followed at once by its scales and
// bias.
#include <omp.h>

#include <algorithm>
#include <cstring>

#include "kernels/cpu/linear.h"
#include "kernels/cpu/strip_tail.h"
#include "quant/core/first_error.h"

namespace qfid::kernels::cpu {

namespace {

constexpr std::int64_t row_block = CpuLinear::row_block;

/// What one thread needs while it goes through row blocks.
struct Workspace {
  GemmContext context;
  std::vector<std::byte> src, padded;
  std::vector<float> part;
  float scales[row_block];
  std::int32_t zeros[row_block];
};

/// Sum over K blocks of exact f32 products, as s32.
void exact_products(CpuLinear& w, Workspace& work, const quant::Tensor& codes, std::int64_t row, std::int64_t rows,
                    std::int32_t* acc) {
  const std::int64_t in = w.problem().in, out = w.problem().out;
  std::fill_n(acc, rows * out, 0);
  work.part.resize(static_cast<std::size_t>(row_block * out));
  for (std::size_t block = 0; block < w.packed.size(); ++block) {
    const std::int64_t begin = static_cast<std::int64_t>(block) * exact_block, k = std::min(exact_block, in - begin);
    work.src.assign(static_cast<std::size_t>(row_block * k) * 4, std::byte{0});
    for (std::int64_t r = 0; r < rows; ++r)
      expand_codes(codes, (row + r) * in + begin, k, DataType::f32, work.src.data() + static_cast<std::size_t>(r * k) * 4);
    w.packed[block]->product().run(work.context, work.src.data(), w.packed[block]->data(), nullptr, work.part.data());
    for (std::int64_t i = 0; i < rows * out; ++i)
      acc[i] += static_cast<std::int32_t>(work.part[static_cast<std::size_t>(i)]);
  }
}

void products(CpuLinear& w, Workspace& work, const LinearSource& src, std::int64_t row, std::int64_t rows, float* dst) {
  const LinearProblem& p = w.problem();
  if (w.types.integer_as_f32) return exact_products(w, work, src.x.codes, row, rows, reinterpret_cast<std::int32_t*>(dst));
  const std::size_t width = size_of(w.types.a);
  const std::size_t stored = w.emulated ? 4 : quant::info(quant::storage(p.activations.format)).bytes;
  const std::byte* from = src.raw + static_cast<std::size_t>(row * p.in) * stored;
  if (width != stored) {
    work.src.resize(static_cast<std::size_t>(rows * p.in) * width);
    expand_codes(src.x.codes, row * p.in, rows * p.in, w.types.a, work.src.data());
    from = work.src.data();
  }
  PackedWeights& packed = *w.packed[0];
  const void* bias = !w.scaled && w.has_bias ? w.bias.data() : nullptr;
  if (rows == row_block) return packed.product().run(work.context, from, packed.data(), bias, dst);
  // A short block is padded: one shape, one layout, one implementation.
  work.padded.resize(static_cast<std::size_t>(row_block * p.in) * width);
  std::memcpy(work.padded.data(), from, static_cast<std::size_t>(rows * p.in) * width);
  work.part.resize(static_cast<std::size_t>(row_block * p.out));
  packed.product().run(work.context, work.padded.data(), packed.data(), bias, work.part.data());
  std::memcpy(dst, work.part.data(), static_cast<std::size_t>(rows * p.out) * 4);
}

void one_block(CpuLinear& w, Workspace& work, const LinearSource& src, std::int64_t row, std::int64_t rows, float* dst) {
  products(w, work, src, row, rows, dst);
  if (!w.scaled) return;
  for (std::int64_t r = 0; r < rows; ++r) {
    work.scales[r] = src.scale(row + r);
    work.zeros[r] = src.zero(row + r);
  }
  const std::int64_t out = w.problem().out;
  const bool integer = w.types.integer_as_f32 || w.types.accumulator == DataType::s32;
  finish({.sums = dst,
          .rows = rows,
          .columns = out,
          .width = out,
          .strip = 0,
          .integer = integer,
          .row_scales = work.scales,
          .zeros = work.zeros,
          .column_scales = w.scale.data(),
          .column_sums = w.colsum.data(),
          .bias = w.bias.data(),
          .activation = {},
          .y = dst,
          .residual = nullptr,
          .sum = nullptr,
          .stride = out});
}

}  // namespace

void multiply_by_primitives(CpuLinear& linear, const LinearSource& src, float* dst) {
  const std::int64_t out = linear.problem().out, blocks = (src.rows + row_block - 1) / row_block;
  quant::FirstError error;
#pragma omp parallel
  {
    std::optional<Workspace> work;
    error.guard([&] { work.emplace(); });
#pragma omp for schedule(dynamic)
    for (std::int64_t i = 0; i < blocks; ++i)
      error.guard([&] {
        one_block(linear, *work, src, i * row_block, std::min(row_block, src.rows - i * row_block),
                  dst + i * row_block * out);
      });
  }
  error.rethrow();
}

}  // namespace qfid::kernels::cpu

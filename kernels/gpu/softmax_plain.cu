// Attention's row pass where nothing is added to a score, nothing masked but the keys beyond a row's last, and nobody
// listens. With long rows it takes as long as both products: 29 instructions a key (docs/results). A row's scores stay in
// registers between the maximum and the codes: as numbers, or, where one positive factor scales a row of bf16 accumulators,
// as they came, two a register (rounding keeps order, so the largest accumulator makes the largest score).
#include <cmath>

#include "kernels/gpu/rows.cuh"

namespace qfid::kernels::gpu {

namespace {

/// Accumulators and how they are held: packed are bf16 under one factor a row.
enum class Kind { s32, f32, bf16, packed };

constexpr unsigned no_scores = 0xFF80FF80U;  ///< two bf16 of -infinity

__device__ inline __nv_bfloat162 pair_of(unsigned word) { return *reinterpret_cast<const __nv_bfloat162*>(&word); }
__device__ inline float low_of(unsigned word) { return __uint_as_float(word << 16); }
__device__ inline float high_of(unsigned word) { return __uint_as_float(word & 0xFFFF0000U); }

/// One unit's accumulators as they lie in memory; loads of all units are under way before the first is used.
template <Kind kind>
struct RawUnit {
  static constexpr int words = kind == Kind::s32 || kind == Kind::f32 ? 8 : 4;
  unsigned v[words];

  __device__ void load(const void* acc, std::int64_t at) {
    const auto* from = reinterpret_cast<const uint4*>(static_cast<const char*>(acc) + at * (words == 8 ? 4 : 2));
#pragma unroll
    for (int i = 0; i < words / 4; ++i) {
      const uint4 four = from[i];
      v[4 * i] = four.x;
      v[4 * i + 1] = four.y;
      v[4 * i + 2] = four.z;
      v[4 * i + 3] = four.w;
    }
  }
  __device__ float number(int n) const {
    if constexpr (kind == Kind::s32) return static_cast<float>(static_cast<int>(v[n]));
    if constexpr (kind == Kind::f32) return __uint_as_float(v[n]);
    return n % 2 == 0 ? low_of(v[n / 2]) : high_of(v[n / 2]);
  }
};

/// A unit's scores between the maximum and the codes.
template <Kind kind>
struct HeldUnit {
  float s[unit];

  __device__ float take(const RawUnit<kind>& raw, int j, int visible, const RowScores& scores) {
    float factor[unit];
    if (scores.uniform) {
#pragma unroll
      for (int n = 0; n < unit; ++n) factor[n] = scores.factor;
    } else {
      const auto* keys = reinterpret_cast<const float4*>(scores.sk + j);
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const float4 four = keys[i];
        factor[4 * i] = (scores.sq * four.x) * scores.c;
        factor[4 * i + 1] = (scores.sq * four.y) * scores.c;
        factor[4 * i + 2] = (scores.sq * four.z) * scores.c;
        factor[4 * i + 3] = (scores.sq * four.w) * scores.c;
      }
    }
#pragma unroll
    for (int n = 0; n < unit; ++n) s[n] = raw.number(n) * factor[n];
    if (j + unit > visible) {
#pragma unroll
      for (int n = 0; n < unit; ++n) s[n] = j + n < visible ? s[n] : -INFINITY;
    }
    float top = s[0];
#pragma unroll
    for (int n = 1; n < unit; ++n) top = fmaxf(top, s[n]);
    return top;
  }
  __device__ float score(int n, float) const { return s[n]; }
};

template <>
struct HeldUnit<Kind::packed> {
  RawUnit<Kind::packed> raw;

  __device__ float take(const RawUnit<Kind::packed>& from, int j, int visible, const RowScores& scores) {
    raw = from;
    if (j + unit > visible) {
#pragma unroll
      for (int n = 0; n < unit / 2; ++n) {
        const int left = visible - j - 2 * n;
        raw.v[n] = left >= 2 ? raw.v[n] : left == 1 ? (raw.v[n] & 0xFFFFU) | 0xFF800000U : no_scores;
      }
    }
    const __nv_bfloat162 two =
        __hmax2(__hmax2(pair_of(raw.v[0]), pair_of(raw.v[1])), __hmax2(pair_of(raw.v[2]), pair_of(raw.v[3])));
    return fmaxf(__low2float(two), __high2float(two)) * scores.factor;
  }
  __device__ float score(int n, float factor) const { return raw.number(n) * factor; }
};

/// Stores a unit's codes; nonzero as in code_word, or a plain count where codes are wider.
template <Format F, class T>
__device__ void store_unit(T* p, const float (&e)[unit], float scale, unsigned& nonzero) {
  if constexpr (sizeof(T) == 1) {
    constexpr unsigned shift = F == Format::uint8 ? 0x80808080U : 0U;  // uint8 is stored less 128
    const unsigned low = code_word<F>(e, scale, nonzero), high = code_word<F>(e + 4, scale, nonzero);
    *reinterpret_cast<uint2*>(p) = make_uint2(low ^ shift, high ^ shift);
  } else {
    struct alignas(16) {
      T v[unit];
    } out;
#pragma unroll
    for (int n = 0; n < unit; ++n) {
      float value;
      const unsigned code = prob_code<F>(e[n], scale, value);
      out.v[n] = operand_of<F, T>(code, value);
      nonzero += value == 0.0F ? 0U : 1U;
    }
#pragma unroll
    for (int i = 0; i < static_cast<int>(unit * sizeof(T) / 16); ++i)
      reinterpret_cast<uint4*>(p)[i] = reinterpret_cast<const uint4*>(out.v)[i];
  }
}

template <Format F, class T>
__device__ void store_zeros(T* p) {
  constexpr unsigned zero = F == Format::uint8 ? 0x80808080U : 0U;
#pragma unroll
  for (int i = 0; i < static_cast<int>(unit * sizeof(T) / 8); ++i) reinterpret_cast<uint2*>(p)[i] = make_uint2(zero, zero);
}

template <Format F, class T, int threads, int units, Kind kind>
__global__ void __launch_bounds__(threads* rows_of_block(threads))
    plain_kernel(RowChunk chunk, ScoreInputs in, ProbJob job) {
  __shared__ float tops[threads / 32], sums[threads / 32];
  __shared__ int counts[threads / 32];
  const int r = static_cast<int>(blockIdx.x) * rows_of_block(threads) + static_cast<int>(threadIdx.x) / threads;
  if (r >= chunk.rows) return;  // whole warps; with a block a row, none
  const int z = static_cast<int>(blockIdx.y), n = z * static_cast<int>(chunk.rows) + r, ld = static_cast<int>(chunk.ld);
  const int first = static_cast<int>(threadIdx.x % threads) * unit;
  const Row row = row_of(chunk, z, r);
  const std::int64_t start = static_cast<std::int64_t>(n) * ld;
  RawUnit<kind> raw[units];
#pragma unroll
  for (int u = 0; u < units; ++u)
    if (const int j = first + u * threads * unit; j < row.visible) raw[u].load(in.acc, start + j);
  const RowScores scores = scores_of(in, chunk, row);
  HeldUnit<kind> held[units];
  float top = -INFINITY;
#pragma unroll
  for (int u = 0; u < units; ++u)
    if (const int j = first + u * threads * unit; j < row.visible)
      top = fmaxf(top, held[u].take(raw[u], j, row.visible, scores));
  top = row_max(threads, top, tops);

  const bool has_sink = in.sink != nullptr;
  const float sink = has_sink ? in.sink[row.at] : -INFINITY;
  const float m = top == -INFINITY ? 0.0F : fmaxf(top, sink);  // a masked row's E is exp(-inf - 0) = 0; NaN stays NaN
  T* p = static_cast<T*>(job.p) + start;
  float sum = 0;
  unsigned nonzero = 0;
#pragma unroll
  for (int u = 0; u < units; ++u) {
    const int j = first + u * threads * unit;
    if (j < row.visible) {
      float e[unit];
#pragma unroll
      for (int k = 0; k < unit; ++k) e[k] = expf(held[u].score(k, scores.factor) - m);
      sum += unit_sum(e);
      store_unit<F>(p + j, e, job.scale, nonzero);
    } else if (j < ld) {
      store_zeros<F>(p + j);
    }
  }
  int count = static_cast<int>(sizeof(T) == 1 ? __dp4a(nonzero, 0x01010101U, 0U) : nonzero);
  row_sum(threads, sum, count, sums, counts);
  if (first != 0) return;
  const bool masked = top == -INFINITY && sum == sum;
  job.l[n] = masked ? 0.0F : sum + (has_sink ? expf(sink - m) : 0.0F);
  add_counts(chunk, job, row, row.visible, row.visible - count, masked);
}

template <Format F, class T, Kind kind>
bool by_length(const RowChunk& chunk, const ScoreInputs& in, const ProbJob& job, cudaStream_t stream) {
  const auto run = [&]<int threads, int units>() {
    const dim3 blocks(blocks_for(chunk.rows, rows_of_block(threads)), static_cast<unsigned>(chunk.batches));
    plain_kernel<F, T, threads, units, kind><<<blocks, threads * rows_of_block(threads), 0, stream>>>(chunk, in, job);
    return true;
  };
  const RowShare share = row_share(chunk.ld);
  if (share.threads == 32 && share.units == 2) return run.template operator()<32, 2>();
  if (share.threads == 32) return run.template operator()<32, 4>();
  if (share.threads == 64) return run.template operator()<64, 4>();
  if (share.threads == 128) return run.template operator()<128, 4>();
  if (share.threads == 256) return run.template operator()<256, 4>();
  if (share.units == 4) return run.template operator()<512, 4>();
  return false;
}

template <Format F, class T>
bool by_kind(const RowChunk& chunk, const ScoreInputs& in, const ProbJob& job, cudaStream_t stream) {
  if constexpr (F != Format::f32) {
    if (in.acc_number == Number::s32) return by_length<F, T, Kind::s32>(chunk, in, job, stream);
    if (in.acc_number == Number::bf16) {
      if (in.key_scales == nullptr && in.c > 0) return by_length<F, T, Kind::packed>(chunk, in, job, stream);
      return by_length<F, T, Kind::bf16>(chunk, in, job, stream);
    }
  }
  return in.acc_number == Number::f32 && by_length<F, T, Kind::f32>(chunk, in, job, stream);
}

}  // namespace

bool plain_rows(const RowChunk& chunk, const ScoreInputs& in, const ProbJob& job, cudaStream_t stream) {
  // Codes expanded to a wider operand are left to the other pass.
  const bool own_width = size_of(job.number) == (job.format == Format::f32 ? 4 : job.format == Format::bf16 ? 2 : 1);
  if (in.key_mask != nullptr || in.bias != nullptr || in.round_bf16 || job.quantized_sum || !own_width) return false;
  switch (job.format) {
    case Format::uint8:
      return by_kind<Format::uint8, std::uint8_t>(chunk, in, job, stream);
    case Format::int8:
      return by_kind<Format::int8, std::uint8_t>(chunk, in, job, stream);
    case Format::e4m3:
      return by_kind<Format::e4m3, std::uint8_t>(chunk, in, job, stream);
    case Format::e5m2:
      return by_kind<Format::e5m2, std::uint8_t>(chunk, in, job, stream);
    case Format::bf16:
      return by_kind<Format::bf16, std::uint16_t>(chunk, in, job, stream);
    case Format::f32:
      return by_kind<Format::f32, std::uint32_t>(chunk, in, job, stream);
  }
  return false;
}

}  // namespace qfid::kernels::gpu

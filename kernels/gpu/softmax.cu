// Attention's row pass with the row's own maximum: a warp or a block of 256 threads a row, four keys a thread at a time, the
// scores held in registers between the maximum and the codes (up to 8,192 keys; longer rows read them twice).
// E, sums and codes follow kernels/attention.h without contraction; sums run in a fixed order. Rows without masks, bias,
// listener or a sum of codes take a path of about twenty instructions a key: at S = 8,192 the pass costs as much as both
// products.
#include <cmath>

#include "kernels/gpu/scores.cuh"

namespace qfid::kernels::gpu {

namespace {

constexpr int block_threads = 256;

template <class T>
struct alignas(sizeof(T) * 4) Four {
  T v[4];
};

/// Turns four accumulators into scores; j, a multiple of 4, is the first one's key. plain: nothing added, nothing masked but
/// from `visible` on.
template <bool plain, bool half>
struct RowReader {
  const ScoreInputs& in;
  std::int64_t first;  ///< of the row's accumulators
  RowScores scores;
  int visible;
  bool integer;

  __device__ RawFour<half> load(int j) const {
    RawFour<half> raw{};
    if (plain && j < visible) raw = raw_four<half>(in, first + j);
    return raw;
  }

  __device__ void finish(const RawFour<half>& raw, int j, float (&s)[4]) const {
    if constexpr (plain) {
      float acc[4];
      numbers_of<half>(raw, integer, acc);
      if (scores.uniform) {
#pragma unroll
        for (int n = 0; n < 4; ++n) s[n] = acc[n] * scores.factor;
      } else if (j < visible) {
        const Four<float> sk = *reinterpret_cast<const Four<float>*>(scores.sk + j);
#pragma unroll
        for (int n = 0; n < 4; ++n) s[n] = acc[n] * ((scores.sq * sk.v[n]) * scores.c);
      }
    } else {
#pragma unroll
      for (int n = 0; n < 4; ++n)
        if (j + n < visible) s[n] = score(accumulated(in, first + j + n), j + n, scores);
    }
    if (j + 4 > visible) {
#pragma unroll
      for (int n = 0; n < 4; ++n) s[n] = j + n < visible ? s[n] : -INFINITY;
    }
  }

  __device__ void read(int j, float (&s)[4]) const { finish(load(j), j, s); }
};

/// Everything a row adds up. zeros counts masked keys too, which are taken off at the end.
struct RowSums {
  float e = 0;
  double codes = 0;
  int visible = 0, zeros = 0;
};

/// Codes of four keys in one word, their zero bytes counted.
template <Format F>
__device__ unsigned pack_four(const float (&e)[4], float scale, int& zeros) {
  unsigned word;
  if constexpr (F == Format::e4m3 || F == Format::e5m2) {
    constexpr auto kind = F == Format::e4m3 ? __NV_E4M3 : __NV_E5M2;
    const unsigned low = __nv_cvt_float2_to_fp8x2(make_float2(e[0] * scale, e[1] * scale), __NV_SATFINITE, kind);
    const unsigned high = __nv_cvt_float2_to_fp8x2(make_float2(e[2] * scale, e[3] * scale), __NV_SATFINITE, kind);
    word = low | high << 16;
  } else {
    unsigned bits[4];
#pragma unroll
    for (int n = 0; n < 4; ++n) bits[n] = __float_as_uint(e[n] * scale + 12582912.0F);
    word = __byte_perm(__byte_perm(bits[0], bits[1], 0x0040), __byte_perm(bits[2], bits[3], 0x0040), 0x5410);
  }
  // Bit 7 of each byte that is zero: codes are at most 255, so all eight bits count.
  const unsigned nonzero = ((word & 0x7F7F7F7FU) + 0x7F7F7F7FU) | word;
  zeros += 4 - __popc(nonzero & 0x80808080U);
  return F == Format::uint8 ? word ^ 0x80808080U : word;
}

template <Format F, class T, bool plain>
__device__ void code_four(const float (&s)[4], float m, const ProbJob& job, T* p, void* tap, int keys_left, RowSums& sums) {
  float e[4];
#pragma unroll
  for (int n = 0; n < 4; ++n) {
    e[n] = expf(s[n] - m);
    sums.e += e[n];
  }
  if constexpr (plain && sizeof(T) == 1) {
    *reinterpret_cast<unsigned*>(p) = pack_four<F>(e, job.scale, sums.zeros);
  } else {
    Four<T> out;
#pragma unroll
    for (int n = 0; n < 4; ++n) {
      float value;
      const unsigned code = prob_code<F>(e[n], job.scale, value);
      out.v[n] = operand_of<F, T>(code, value);
      sums.zeros += value == 0.0F ? 1 : 0;
      if constexpr (!plain) {
        if (job.quantized_sum) sums.codes += static_cast<double>(value);
        sums.visible += s[n] != -INFINITY ? 1 : 0;
        if (tap != nullptr && n < keys_left) store_code<F>(tap, n, code);
      }
    }
    *reinterpret_cast<Four<T>*>(p) = out;
  }
}

template <int threads, class V>
__device__ V sum_of(V v, V* shared) {
  if constexpr (threads == 32) return warp_sum(v);
  return block_sum(v, shared);
}

/// A row's float sum and count at once: half the barriers.
template <int threads>
__device__ void sum_both(float& e, int& zeros, float* shared_f, int* shared_i) {
  e = warp_sum(e);
  zeros = warp_sum(zeros);
  if constexpr (threads > 32) {
    const int warp = static_cast<int>(threadIdx.x >> 5U);
    __syncthreads();
    if ((threadIdx.x & 31U) == 0) {
      shared_f[warp] = e;
      shared_i[warp] = zeros;
    }
    __syncthreads();
    e = shared_f[0];
    zeros = shared_i[0];
    for (int w = 1; w < threads / 32; ++w) {
      e += shared_f[w];
      zeros += shared_i[w];
    }
  }
}

/// items: groups of four keys a thread holds; 0: as many as the row has, read again for each use.
template <int threads, int items, class F>
__device__ void over_row(int end, int tid, const F& f) {
  if constexpr (items > 0) {
#pragma unroll
    for (int it = 0; it < items; ++it) f((it * threads + tid) * 4, it);
  } else {
    for (int j = tid * 4; j < end; j += threads * 4) f(j, 0);
  }
}

template <Format F, class T, int threads, int items, bool plain, bool half>
__global__ void __launch_bounds__(block_threads) softmax_kernel(RowChunk chunk, ScoreInputs in, ProbJob job, ScoreTaps taps) {
  __shared__ float shared_f[32];
  __shared__ double shared_d[32];
  __shared__ int shared_i[32];
  const int r = static_cast<int>(blockIdx.x * (block_threads / threads) + threadIdx.x / threads);
  if (r >= chunk.rows) return;  // whole warps; with a block a row, whole blocks
  const int z = static_cast<int>(blockIdx.y), n = z * static_cast<int>(chunk.rows) + r;
  const int tid = static_cast<int>(threadIdx.x % threads), ld = static_cast<int>(chunk.ld);
  const Row row = row_of(chunk, z, r);
  const RowReader<plain, half> reader{in, static_cast<std::int64_t>(n) * ld, scores_of(in, chunk, row), row.visible,
                                      in.acc_number == Number::s32};
  T* p = static_cast<T*>(job.p) + static_cast<std::int64_t>(n) * ld;
  const int keys = static_cast<int>(chunk.keys);

  constexpr int held = items == 0 ? 1 : items;
  float s[held][4];
  float top = -INFINITY;
  RawFour<half> raw[held];
  if constexpr (items > 0) over_row<threads, items>(ld, tid, [&](int j, int it) { raw[it] = reader.load(j); });
  over_row<threads, items>(row.visible, tid, [&](int j, int it) {
    if constexpr (items == 0) raw[0] = reader.load(j);
    reader.finish(raw[it], j, s[it]);
#pragma unroll
    for (int k = 0; k < 4; ++k) top = fmaxf(top, s[it][k]);
  });
  if constexpr (threads == 32) top = warp_max(top);
  if constexpr (threads > 32) top = block_max(top, shared_f);

  const bool has_sink = in.sink != nullptr, masked = top == -INFINITY;
  const float sink = has_sink ? in.sink[row.at] : -INFINITY;
  const float m = masked ? 0.0F : fmaxf(top, sink);  // a masked row's E is exp(-inf - 0) = 0
  RowSums sums;
  const std::int64_t tap_row = row.at * chunk.kv_len;
  over_row<threads, items>(ld, tid, [&](int j, int it) {
    if (j >= ld) return;
    if constexpr (items == 0) reader.read(j, s[0]);
    void* tap = nullptr;
    if constexpr (!plain) {
      if (taps.p_codes != nullptr && j < keys)
        tap = static_cast<char*>(taps.p_codes) + (tap_row + j) * (F == Format::f32 ? 4 : F == Format::bf16 ? 2 : 1);
      if (taps.scores != nullptr)
        for (int k = 0; k < 4 && j + k < keys; ++k) taps.scores[tap_row + j + k] = s[it][k];
    }
    code_four<F, T, plain>(s[it], m, job, p + j, tap, keys - j, sums);
  });

  float sum = sums.e;
  int zeros = sums.zeros, visible = row.visible;
  sum_both<threads>(sum, zeros, shared_f, shared_i);
  if constexpr (!plain) {
    if (job.quantized_sum)
      sum = static_cast<float>(sum_of<threads>(sums.codes, shared_d) / static_cast<double>(job.scale));
    visible = sum_of<threads>(sums.visible, shared_i);
  }
  zeros -= ld - visible;
  const float l = masked ? 0.0F : sum + (has_sink ? expf(sink - m) : 0.0F);
  if (tid == 0) {
    job.l[n] = l;
    auto* counts = reinterpret_cast<unsigned long long*>(job.counts) +
                   (static_cast<std::int64_t>(row.b) * chunk.q_heads + row.h) * 3;
    if (visible != 0) atomicAdd(counts, static_cast<unsigned long long>(visible));
    if (zeros != 0) atomicAdd(counts + 1, static_cast<unsigned long long>(zeros));
    if (masked) atomicAdd(counts + 2, 1ULL);
    if constexpr (!plain)
      if (taps.lse != nullptr)
        taps.lse[row.at] = masked ? sink : static_cast<float>(static_cast<double>(m) + log(static_cast<double>(l)));
  }
  if constexpr (!plain) {
    if (taps.probs == nullptr || masked) return;
    over_row<threads, items>(keys, tid, [&](int j, int it) {
      if (j >= keys) return;
      if constexpr (items == 0) reader.read(j, s[0]);
      for (int k = 0; k < 4 && j + k < keys; ++k)
        if (s[it][k] != -INFINITY) taps.probs[tap_row + j + k] = expf(s[it][k] - m) / l;
    });
  }
}

/// A listener must not change a bit: both paths give a thread the same keys in the same order.
template <Format F, class T, int threads, int items>
void launch(const RowChunk& chunk, const ScoreInputs& in, const ProbJob& job, const ScoreTaps& taps, cudaStream_t stream) {
  const bool plain = in.key_mask == nullptr && in.bias == nullptr && !in.round_bf16 && !job.quantized_sum &&
                     taps.scores == nullptr && taps.probs == nullptr && taps.p_codes == nullptr && taps.lse == nullptr;
  const dim3 blocks(blocks_for(chunk.rows, block_threads / threads), static_cast<unsigned>(chunk.batches));
  const bool half = in.acc_number == Number::bf16;
  if (!plain) {
    softmax_kernel<F, T, threads, 0, false, false><<<blocks, block_threads, 0, stream>>>(chunk, in, job, taps);
  } else if (half) {
    softmax_kernel<F, T, threads, items, true, true><<<blocks, block_threads, 0, stream>>>(chunk, in, job, taps);
  } else {
    softmax_kernel<F, T, threads, items, true, false><<<blocks, block_threads, 0, stream>>>(chunk, in, job, taps);
  }
}

template <Format F, class T>
void by_length(const RowChunk& chunk, const ScoreInputs& in, const ProbJob& job, const ScoreTaps& taps,
               cudaStream_t stream) {
  const std::int64_t n = chunk.ld;
  if (n <= 512) return launch<F, T, 32, 4>(chunk, in, job, taps, stream);
  if (n <= 1024) return launch<F, T, 32, 8>(chunk, in, job, taps, stream);
  if (n <= 2048) return launch<F, T, 256, 2>(chunk, in, job, taps, stream);
  if (n <= 8192) return launch<F, T, 256, 8>(chunk, in, job, taps, stream);
  launch<F, T, 256, 0>(chunk, in, job, taps, stream);
}

}  // namespace

void softmax_rows(const RowChunk& chunk, const ScoreInputs& in, const ProbJob& job, const ScoreTaps& taps,
                  cudaStream_t stream) {
  with_prob_types(job.format, job.number, [&]<Format F, class T>() { by_length<F, T>(chunk, in, job, taps, stream); });
  launched("softmax_rows");
}

}  // namespace qfid::kernels::gpu

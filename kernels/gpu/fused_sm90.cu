// Two groups of four warps work on 64 query rows each; a thread of a third copies tiles of 128 keys ahead of them.
#include "kernels/gpu/fused_rows_sm90.cuh"

namespace qfid::kernels::gpu {

namespace {

constexpr int row_threads = 256, block_threads = row_threads + 128, stages = 6;

struct Barriers {
  Barrier query, full[stages], empty[stages];
};

/// Tiles in shared memory, in the order in which both sides count them.
template <int D>
struct Ring {
  static constexpr int bytes = tile_keys * D;
  char* tiles;
  Barriers* barriers;
  int n = 0;

  __device__ void load(const char* src) {
    const int s = n % stages;
    if (n >= stages) barrier_wait(&barriers->empty[s], (n / stages - 1) & 1);
    bulk_copy(tiles + s * bytes, src, bytes, &barriers->full[s]);
    ++n;
  }
  /// Waits for the next tile; its address.
  __device__ std::uint32_t take() {
    const int s = n % stages;
    barrier_wait(&barriers->full[s], n / stages & 1);
    return shared_address(tiles + s * bytes);
  }
  /// The tile taken last isn't needed any more.
  __device__ void give() {
    __syncwarp();
    if ((threadIdx.x & 31U) == 0) barrier_arrive(&barriers->empty[n % stages]);
    ++n;
  }
};

template <int D>
__device__ void produce(const FusedJob& j, const Place& p, char* query, Ring<D> ring) {
  const std::int64_t q_tile = (static_cast<std::int64_t>(p.b) * j.q_heads + p.h) * j.q_tiles + p.tile;
  const std::int64_t kv_tile = (static_cast<std::int64_t>(p.b) * j.kv_heads + p.kv_head) * j.k_tiles;
  const char* k = static_cast<const char*>(j.k) + kv_tile * Ring<D>::bytes;
  const char* v = static_cast<const char*>(j.v) + kv_tile * Ring<D>::bytes;
  bulk_copy(query, static_cast<const char*>(j.q) + q_tile * Ring<D>::bytes, Ring<D>::bytes, &ring.barriers->query);
  for (int t = 0; t < p.tiles; ++t) ring.load(k + static_cast<std::int64_t>(t) * Ring<D>::bytes);
  for (int t = 0; t < p.tiles; ++t) {
    ring.load(k + static_cast<std::int64_t>(t) * Ring<D>::bytes);
    ring.load(v + static_cast<std::int64_t>(t) * Ring<D>::bytes);
  }
  if (j.taps.probs == nullptr) return;
  for (int t = 0; t < p.tiles; ++t) ring.load(k + static_cast<std::int64_t>(t) * Ring<D>::bytes);
}

/// Accumulators of one tile of scores: [4 n + 2 r + e] is row r, column 8 n + lane % 4 * 2 + e. The other group's warps work
/// meanwhile; more products under way at a time made the loops longer than the instruction cache, and slower.
template <class F, int D>
__device__ void products(typename F::Score (&s)[64], std::uint64_t query, Ring<D>& ring) {
  const std::uint64_t keys = mma_descriptor<D>(ring.take());
  mma_hold(s);
  mma_fence();
#pragma unroll
  for (int k = 0; k < D / 32; ++k) mma_shared<F::qk, 128>(s, query + 2 * k, keys + 2 * k, k > 0 ? 1 : 0);
  mma_commit();
  mma_wait();
  mma_hold(s);
  ring.give();
}

template <class T>
__device__ void widen(const T (&s)[64], T (&top)[2]) {
#pragma unroll
  for (int i = 0; i < 64; ++i) top[i / 2 % 2] = max(top[i / 2 % 2], s[i]);
}

/// The maxima of one tile join the rows', not rounded. Where one positive factor scales a row, the largest accumulator makes
/// the largest score, and most tiles need nothing else.
template <class F, Kind kind>
__device__ void join_maxima(const typename F::Score (&s)[64], const FusedJob& j, const Rows& rows, int first, bool inside,
                            bool monotone, float (&top)[2]) {
  if (!monotone || !inside) {
    float x[64];
    to_scores<F, kind>(s, x, j, rows, first, inside);
    return widen(x, top);
  }
  typename F::Score most[2] = {s[0], s[2]};
  widen(s, most);
#pragma unroll
  for (int r = 0; r < 2; ++r) { top[r] = fmaxf(top[r], static_cast<float>(most[r]) * rows.scores[r].factor); }
}

/// The rows' maxima. Rounding keeps order: that of the largest is the largest of the rounded.
template <class F, int D, Kind kind>
__device__ void first_pass(const FusedJob& j, const Place& p, std::uint64_t query, Ring<D>& ring, Rows& rows, int column,
                           int all_visible) {
  float top[2] = {-INFINITY, -INFINITY};
  constexpr bool perhaps_uniform = kind == Kind::uniform || kind == Kind::any;
  const bool monotone = perhaps_uniform && rows.scores[0].uniform && j.in.c > 0.0F;
  for (int t = 0; t < p.tiles; ++t) {
    typename F::Score s[64];
    products<F>(s, query, ring);
    join_maxima<F, kind>(s, j, rows, column + t * tile_keys, (t + 1) * tile_keys <= all_visible, monotone, top);
  }
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    rows.m[r] = quad_max(top[r]);
    if (rounds<kind>(j)) rows.m[r] = bf16_number(encode_bf16(rows.m[r]));
  }
}

/// tile (+)= P.V of one tile.
template <class F, int D>
__device__ void value_products(typename F::Sum (&tile)[D / 2], const std::uint32_t (&a)[4][4], Ring<D>& ring, bool first) {
  const std::uint64_t values = mma_descriptor<tile_keys>(ring.take());
  mma_hold(tile);
  mma_fence();
#pragma unroll
  for (int k = 0; k < 4; ++k) mma_registers<F::pv, D>(tile, a[k], values + 2 * k, first && k == 0 ? 0 : 1);
  mma_commit();
  mma_wait();
  mma_hold(tile);
  ring.give();
}

/// sum += P.V of one tile. FP8 sums of a tile are added in f32 unless they may stay where they are (direct).
template <class F, int D, bool direct>
__device__ void add_values(typename F::Sum (&sum)[D / 2], const std::uint32_t (&a)[4][4], Ring<D>& ring, bool first) {
  if constexpr (direct) {
    value_products<F, D>(sum, a, ring, first);
  } else {
    typename F::Sum tile[D / 2];
    value_products<F, D>(tile, a, ring, true);
#pragma unroll
    for (int i = 0; i < D / 2; ++i) sum[i] = first ? tile[i] : sum[i] + tile[i];
  }
}

template <class F, int D, Kind kind>
__device__ void third_pass(const FusedJob& j, const Place& p, std::uint64_t query, Ring<D>& ring, const Rows& rows,
                           int column, const float (&l)[2]) {
  for (int t = 0; t < p.tiles; ++t) {
    typename F::Score s[64];
    float x[64];
    products<F>(s, query, ring);
    const int first = column + t * tile_keys;
    to_scores<F, kind>(s, x, j, rows, first, false);
#pragma unroll
    for (int i = 0; i < 64; ++i) {
      const int r = i / 2 % 2;
      if (rows.stored[r] && x[i] != -INFINITY)
        j.taps.probs[rows.row[r].at * j.kv_len + first + i / 4 * 8 + i % 2] = expf(x[i] - rows.m[r]) / l[r];
    }
  }
}

/// What follows the last tile: denominators, the rows of the output, lse. `masked`: those without a largest score; NaN,
/// which makes none, isn't masked.
template <class F, int D, bool general>
__device__ __forceinline__ void finish(const FusedJob& j, Rows& rows, const typename F::Sum (&sum)[D / 2], bool (&masked)[2],
                                       const float (&sink)[2], float (&l)[2]) {
  const bool first_lane = (threadIdx.x & 3U) == 0;
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    float total = quad_sum(rows.l[r]);
    masked[r] = masked[r] && total == total;
    if constexpr (general)
      if (j.prob.quantized_sum && total == total)
        total = static_cast<float>(quad_sum(rows.code_sum[r]) / static_cast<double>(j.prob.scale));
    l[r] = masked[r] ? 0.0F : total + (j.in.sink == nullptr ? 0.0F : expf(sink[r] - rows.m[r]));
    if (!general && first_lane) rows.visible[r] = rows.row[r].visible;
    if (!rows.stored[r]) continue;
    store_row<F, D>(j, rows.row[r], sum, r, l[r]);
    if (j.taps.lse != nullptr && first_lane)
      j.taps.lse[rows.row[r].at] =
          masked[r] ? sink[r] : static_cast<float>(static_cast<double>(rows.m[r]) + log(static_cast<double>(l[r])));
  }
}

template <class F, int D, bool direct, Kind kind>
__device__ void consume(const FusedJob& j, const Place& p, const char* query_tile, Ring<D> ring) {
  constexpr bool general = kind == Kind::general;
  const int warp = static_cast<int>(threadIdx.x >> 5U), lane = static_cast<int>(threadIdx.x & 31U);
  const int first_row = p.tile * static_cast<int>(fused_rows) + warp * 16, column = lane % 4 * 2;
  Rows rows(j, p, first_row + lane / 4);
  // Later rows see no fewer keys: the warp's first row tells what all of them see.
  const int first_seen = min(first_row, j.q_len - 1) + 1 + j.kv_len - j.q_len;
  const int all_visible = j.causal ? min(first_seen, j.kv_len) : j.kv_len;
  barrier_wait(&ring.barriers->query, 0);
  const std::uint64_t query = mma_descriptor<D>(shared_address(query_tile + warp / 4 * 64 * D));
  first_pass<F, D, kind>(j, p, query, ring, rows, column, all_visible);
  bool masked[2];
  float sink[2];
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    masked[r] = rows.m[r] == -INFINITY;
    sink[r] = j.in.sink == nullptr ? -INFINITY : j.in.sink[rows.row[r].at];
    rows.m[r] = masked[r] ? 0.0F : fmaxf(rows.m[r], sink[r]);  // a masked row's E is exp(-inf - 0) = 0; NaN stays
  }
  typename F::Sum sum[D / 2];
#pragma unroll
  for (int i = 0; i < D / 2; ++i) sum[i] = 0;
  for (int t = 0; t < p.tiles; ++t) {
    std::uint32_t a[4][4];
    {
      const int first = column + t * tile_keys;
      typename F::Score s[64];
      float x[64];
      products<F>(s, query, ring);
      to_scores<F, kind>(s, x, j, rows, first, (t + 1) * tile_keys <= all_visible);
      if (rounds<kind>(j)) round_to_bf16(x);
      if constexpr (general) tap_raw<F>(s, j, rows, first);
      code_tile<F, general>(x, j, rows, first, a);
    }
    add_values<F, D, direct>(sum, a, ring, t == 0);
  }
  float l[2];
  finish<F, D, general>(j, rows, sum, masked, sink, l);
  add_row_counts(j, rows, masked);
  if constexpr (general)
    if (j.taps.probs != nullptr) third_pass<F, D, kind>(j, p, query, ring, rows, column, l);
}

template <int D>
constexpr int shared_bytes =
    (static_cast<int>(fused_rows) + stages * tile_keys) * D + 1024 + static_cast<int>(sizeof(Barriers));

template <class F, int D, bool direct, Kind kind>
__global__ void __launch_bounds__(block_threads, 1) fused_kernel(const __grid_constant__ FusedJob j) {
  extern __shared__ char shared[];
  char* query = shared + (1024U - (shared_address(shared) & 1023U)) % 1024U;
  Ring<D> ring{query + fused_rows * D, reinterpret_cast<Barriers*>(query + (fused_rows + stages * tile_keys) * D)};
  if (threadIdx.x == 0) {
    barrier_init(&ring.barriers->query, 1);
    for (int s = 0; s < stages; ++s) {
      barrier_init(&ring.barriers->full[s], 1);
      barrier_init(&ring.barriers->empty[s], row_threads / 32);
    }
    barriers_ready();
  }
  __syncthreads();
  const Place p = place_of(j);
  if (threadIdx.x >= row_threads) {
    registers_give<24>();
    if (threadIdx.x == row_threads) produce<D>(j, p, query, ring);
    return;
  }
  registers_take<240>();
  consume<F, D, direct, kind>(j, p, query, ring);
}

template <class F, int D, bool direct, Kind kind>
void launch(const FusedJob& j, cudaStream_t stream) {
  void (*const kernel)(FusedJob) = fused_kernel<F, D, direct, kind>;
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared_bytes<D>), "cudaFuncSetAttribute");
  const auto blocks = static_cast<unsigned>(static_cast<std::int64_t>(j.windows) * j.q_heads * j.q_tiles);
  kernel<<<blocks, block_threads, shared_bytes<D>, stream>>>(j);
}

template <class F, bool direct, Kind kind>
void by_width(const FusedJob& j, int D, cudaStream_t stream) {
  if (D == 64) launch<F, 64, direct, kind>(j, stream);
  if (D == 128) launch<F, 128, direct, kind>(j, stream);
}

/// The kernels for these formats: of their own for the commonest kinds of scores where `own`.
template <class F, bool direct, bool own>
void by_kind(const FusedJob& j, int D, bool general, cudaStream_t stream) {
  if (general) return by_width<F, direct, Kind::general>(j, D, stream);
  if constexpr (own) {
    if (!j.in.round_bf16 && j.in.key_scales == nullptr) return by_width<F, direct, Kind::uniform>(j, D, stream);
    if (!j.in.round_bf16) return by_width<F, direct, Kind::keyed>(j, D, stream);
    if (j.in.key_scales != nullptr) return by_width<F, direct, Kind::keyed_rounded>(j, D, stream);
  }
  by_width<F, direct, Kind::any>(j, D, stream);
}

}  // namespace

FusedNames fused_names(Format q, Format k, Format p, Format v) {
  if (q == Format::int8 && k == Format::int8 && v == Format::int8) {
    if (p == Format::uint8) return {"s8*s8->s32", "u8*s8->s32"};
    if (p == Format::int8) return {"s8*s8->s32", "s8*s8->s32"};
  }
  const bool e4m3 = q == Format::e4m3 && k == Format::e4m3 && p == Format::e4m3 && v == Format::e4m3;
  return e4m3 ? FusedNames{"e4m3*e4m3->f32", "e4m3*e4m3->f32"} : FusedNames{};
}

void fused_attention(const FusedJob& j, int D, cudaStream_t stream) {
  const bool heard = j.taps.scores != nullptr || j.taps.probs != nullptr || j.taps.p_codes != nullptr || j.raw != nullptr;
  const bool general = heard || j.in.key_mask != nullptr || j.in.bias != nullptr || j.prob.quantized_sum;
  if (j.prob.format == Format::uint8) by_kind<Int8Unsigned, true, true>(j, D, general, stream);
  if (j.prob.format == Format::int8) by_kind<Int8Signed, true, false>(j, D, general, stream);
  if (j.prob.format == Format::e4m3 && j.fast_accum) by_kind<E4m3, true, false>(j, D, general, stream);
  if (j.prob.format == Format::e4m3 && !j.fast_accum) by_kind<E4m3, false, true>(j, D, general, stream);
  launched("fused_attention");
}

}  // namespace qfid::kernels::gpu

// Attention without S and P in memory: a (window, head, query block) per task. The scores of one query block against all the
// keys it can see are a panel in cache, in blocks of 64 keys; it gives each row's exact maximum, then P's codes and their
// product with V follow, a few key blocks at a time, O staying in the block product's sums with one rescale at the end.
// Where a panel would leave L2 and products are cheap (AMX), scores are made twice instead. Causal blocks that no row sees
// are never made. Any task's result depends on its operands alone, never on threads.
#include <omp.h>

#include <cmath>
#include <cstring>
#include <vector>

#include "kernels/cpu/attention_state.h"
#include "kernels/cpu/block_product.h"
#include "kernels/cpu/panel_operands.h"
#include "kernels/cpu/row_blocks.h"
#include "kernels/cpu/softmax.h"
#include "kernels/host/cache_size.h"
#include "quant/codec.h"
#include "quant/core/first_error.h"

namespace qfid::kernels::cpu {

using quant::Tensor;

namespace {

/// The products of query blocks of `rows` rows.
struct Products {
  std::int64_t rows = 0;
  const BlockProduct* qk = nullptr;
  struct Value {
    const BlockProduct *first, *next;  ///< first chunk of keys, later ones
  };
  std::vector<Value> pv;  ///< [chunk length - 1][columns]
  std::size_t scratch = 0;
};

/// Query blocks of `rows` rows; whether the panel holds all their scores, or a key block's, which are then made twice: for
/// the rows' maxima and for their codes.
struct Panels {
  std::int64_t rows;
  bool held;
  std::int64_t chunk;  ///< key blocks of one product with V: its operands stay in L1 and L2
};

struct Plan {
  BlockRoute qk, pv;
  Panels panels;
  Products whole, rest;  ///< query blocks of all rows, and the last one
  bool amx;
};

/// False where a product can't be made.
bool make_products(Products& made, std::int64_t rows, const Plan& plan, const PanelOperands& x, BlockCache& cache) {
  bool all = true;
  const auto get = [&](const BlockShape& shape) {
    const BlockProduct* product = cache.get(shape, plan.amx);
    all = all && product != nullptr;
    if (product != nullptr) made.scratch = std::max(made.scratch, product->scratch_bytes());
    return product;
  };
  made.rows = rows;
  made.qk = get({plan.qk.type, rows, key_block, x.depth(), x.depth(), key_block, false});
  for (std::int64_t n = 1; n <= plan.panels.chunk; ++n)
    for (const ValueColumns& c : x.columns()) {
      const BlockShape shape{plan.pv.type, rows, c.n, n * key_block, plan.panels.chunk * key_block, x.width(), false};
      BlockShape next = shape;
      next.add = true;
      made.pv.push_back({get(shape), get(next)});
    }
  return all;
}

void prepare_workspace(PanelWorkspace& w, const Plan& plan, const PanelOperands& x) {
  const std::int64_t rows = plan.panels.rows;
  w.q.reserve(rows * x.depth() * static_cast<std::int64_t>(plan.qk.bytes));
  w.panel.reserve((plan.panels.held ? x.blocks() : 1) * rows * key_block * 4);
  w.p.reserve(rows * plan.panels.chunk * key_block * static_cast<std::int64_t>(plan.pv.bytes));
  w.out.reserve(rows * x.width() * 4);
  w.scratch.reserve(static_cast<std::int64_t>(std::max(plan.whole.scratch, plan.rest.scratch)));
  w.values.reserve(rows * key_block * 4);
  w.top.resize(static_cast<std::size_t>(rows * row_lanes));
  w.sum.resize(static_cast<std::size_t>(rows * row_lanes));
  for (std::vector<float>* v : {&w.tops, &w.m, &w.l, &w.sq}) v->resize(static_cast<std::size_t>(rows));
  w.code_sum.resize(static_cast<std::size_t>(rows));
}

class BlockTask {
 public:
  BlockTask(const AttentionCall& call, const Plan& plan, const PanelOperands& x, PanelWorkspace& w,
            const BlockProduct*& tiles, std::int64_t b, std::int64_t h, std::int64_t first)
      : p_(call.prepared.problem()),
        o_(call.operands),
        taps_(call.taps),
        context_(call.context),
        plan_(plan),
        x_(x),
        w_(w),
        tiles_(tiles),
        b_(b),
        h_(h),
        kv_head_(h / (p_.q_heads / p_.kv_heads)),
        first_(first),
        rows_(std::min(plan.panels.rows, o_.q_len - first)),
        products_(rows_ == plan.whole.rows ? plan.whole : plan.rest),
        keys_(keys_seen(p_, o_, first + rows_ - 1)),
        blocks_((keys_ + key_block - 1) / key_block) {}

  ProbCounts run() {
    ProbCounts counts;
    x_.queries(b_, h_, first_, rows_, w_.q.raw());
    for (std::int64_t r = 0; r < rows_; ++r) w_.sq[at(r)] = o_.q.scale_at(b_, first_ + r, h_);
    std::fill(w_.top.begin(), w_.top.end(), minus_infinity);
    for (std::int64_t n = 0; n < blocks_; ++n) counts.visible += scores(n);
    maxima();
    std::int64_t zeros = 0;
    const std::int64_t chunk = plan_.panels.chunk;
    for (std::int64_t n = 0; n < blocks_; n += chunk) zeros += values(n, std::min(chunk, blocks_ - n));
    counts.zero_codes = zeros - (rows_ * blocks_ * key_block - counts.visible);  // masked keys have code 0 and don't count
    finish(counts);
    return counts;
  }

 private:
  static std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }
  std::int64_t tap_row(std::int64_t r) const { return (b_ * p_.q_heads + h_) * o_.q_len + first_ + r; }
  float* panel(std::int64_t n) const { return w_.panel.as<float>() + (plan_.panels.held ? n * rows_ * key_block : 0); }
  std::int64_t width(std::int64_t n) const { return std::min(key_block, o_.kv_len - n * key_block); }

  /// Steps 3: key block n of the panel. Returns how many of its scores aren't masked.
  std::int64_t scores(std::int64_t n) {
    float* s = panel(n);
    products_.qk->run(w_.q.raw(), x_.keys(b_, kv_head_, n), s, w_.scratch.raw(), tiles_);
    const std::int64_t before = n * key_block;
    const float* bias = o_.bias_row(b_, h_, first_);
    const std::int64_t seen = p_.causal ? first_ + 1 + o_.kv_len - o_.q_len - before : key_block;
    const ScoreBlock block{rows_,
                           w_.sq.data(),
                           p_.softmax_scale(),
                           x_.key_scales(b_, kv_head_, n),
                           x_.one_key_scale(b_, kv_head_),
                           x_.excess(b_, kv_head_, n),
                           seen,
                           p_.causal ? 1 : 0,
                           width(n),
                           bias == nullptr ? nullptr : bias + before,
                           o_.kv_len,
                           o_.key_mask == nullptr ? nullptr : o_.key_mask + b_ * o_.kv_len + before,
                           p_.schemes.scores_storage == DType::bf16,
                           w_.top.data()};
    if (!taps_.scores_i32.empty()) tap_sums(n, block);
    const std::int64_t visible =
        plan_.qk.integer() ? score_block(block, reinterpret_cast<std::int32_t*>(s)) : score_block(block, s);
    for (std::int64_t r = 0; r < rows_ && !taps_.scores.empty(); ++r)
      std::copy_n(s + r * key_block, width(n), taps_.scores.view<float>().data() + tap_row(r) * o_.kv_len + before);
    return visible;
  }

  void tap_sums(std::int64_t n, const ScoreBlock& block) {
    const auto* sums = reinterpret_cast<const std::int32_t*>(panel(n));
    for (std::int64_t r = 0; r < rows_; ++r) {
      std::int32_t* tap = taps_.scores_i32.view<std::int32_t>().data() + tap_row(r) * o_.kv_len + n * key_block;
      const std::int64_t visible = std::clamp<std::int64_t>(block.visible + r * block.visible_step, 0, block.width);
      for (std::int64_t j = 0; j < visible; ++j)
        tap[j] = sums[r * key_block + j] - (block.excess == nullptr ? 0 : block.excess[j]);
    }
  }

  /// Row maxima with the sink, and what the sink alone adds to the denominator.
  void maxima() {
    const bool has_sink = !o_.sink_logits.empty();
    for (std::int64_t r = 0; r < rows_; ++r) {
      const float top = *std::max_element(w_.top.begin() + r * row_lanes, w_.top.begin() + (r + 1) * row_lanes);
      const float sink = has_sink ? o_.sink_logits.view<float>()[tap_row(r)] : minus_infinity;
      w_.tops[at(r)] = top;
      // Without a largest score, a masked row's codes are 0 whatever the sink, exp(-inf - 0); NaN stays NaN.
      w_.m[at(r)] = top == minus_infinity ? 0.0F : std::max(sink, top);
      w_.l[at(r)] = !has_sink ? 0.0F : sink < top ? exp_one(sink - top) : 1.0F;
    }
    std::fill(w_.sum.begin(), w_.sum.end(), 0.0F);
    std::fill(w_.code_sum.begin(), w_.code_sum.end(), 0.0);
  }

  /// Steps 5 and 6 of key blocks [n, n + count): codes of P, and O += P V. Returns how many codes are 0.
  std::int64_t values(std::int64_t n, std::int64_t count) {
    std::int64_t zeros = 0;
    for (std::int64_t i = 0; i < count; ++i) {
      auto* values = w_.values.as<float>();
      if (!plan_.panels.held) scores(n + i);
      zeros +=
          code_block({rows_, panel(n + i), w_.m.data(), &p_.schemes.p, plan_.pv.type,
                      w_.p.raw() + at(i * key_block) * plan_.pv.bytes, plan_.panels.chunk * key_block, w_.sum.data(),
                      p_.schemes.p.quantized_sum ? w_.code_sum.data() : nullptr, taps_.p_codes.empty() ? nullptr : values});
      if (!taps_.p_codes.empty()) tap_codes(n + i, values);
    }
    for (std::size_t c = 0; c < x_.columns().size(); ++c) {
      const Products::Value& product = products_.pv[at(count - 1) * x_.columns().size() + c];
      const ValueColumns& columns = x_.columns()[c];
      (n == 0 ? product.first : product.next)
          ->run(w_.p.raw(), x_.values(b_, kv_head_, n, columns), w_.out.raw() + columns.first * 4, w_.scratch.raw(), tiles_);
    }
    return zeros;
  }

  void tap_codes(std::int64_t n, const float* values) {
    const auto count = at(width(n));
    quant::CodeCounts ignored;
    for (std::int64_t r = 0; r < rows_; ++r) {
      const std::span<const float> src(values + r * key_block, count);
      const std::int64_t to = tap_row(r) * o_.kv_len + n * key_block;
      switch (taps_.p_codes.dtype()) {
        case DType::e4m3:
          quant::cast_to_e4m3(src, 1.0F, quant::Overflow::satfinite, {taps_.p_codes.view<quant::e4m3>().data() + to, count},
                              ignored);
          break;
        case DType::e5m2:
          quant::cast_to_e5m2(src, 1.0F, quant::Overflow::satfinite, {taps_.p_codes.view<quant::e5m2>().data() + to, count},
                              ignored);
          break;
        case DType::bf16:
          quant::cast_to_bf16(src, {taps_.p_codes.view<quant::bf16>().data() + to, count});
          break;
        case DType::f32:
          std::copy(src.begin(), src.end(), taps_.p_codes.view<float>().data() + to);
          break;
        default:
          for (std::size_t j = 0; j < count; ++j)
            taps_.p_codes.raw()[at(to) + j] = static_cast<std::byte>(static_cast<int>(src[j]));
      }
    }
  }

  /// The sum of E over the keys.
  float key_sum(std::int64_t r) const {
    float sum = 0;
    for (std::int64_t i = 0; i < row_lanes; ++i) sum += w_.sum[at(r * row_lanes + i)];
    return sum;
  }

  float denominator(std::int64_t r, float key_sum) const {
    const ProbScheme& scheme = p_.schemes.p;
    if (scheme.quantized_sum && !std::isnan(key_sum)) {
      const double sum = w_.code_sum[at(r)], scale = static_cast<double>(scheme.effective_scale());
      return w_.l[at(r)] + (quant::is_integer(scheme.format) ? static_cast<float>(sum) / scheme.effective_scale()
                                                             : static_cast<float>(sum / scale));
    }
    return w_.l[at(r)] + key_sum;
  }

  /// One rescale of O, and what listeners hear of the rows.
  void finish(ProbCounts& counts) {
    const std::int64_t d = p_.v_head_dim;
    const float p_scale = p_.schemes.p.effective_scale();
    const float* scales = x_.value_scales(b_, kv_head_);
    for (std::int64_t r = 0; r < rows_; ++r) {
      float* out = context_.view<float>().data() + ((b_ * o_.q_len + first_ + r) * p_.q_heads + h_) * d;
      const float keys = key_sum(r);
      const bool masked = w_.tops[at(r)] == minus_infinity && !std::isnan(keys);
      counts.masked_rows += masked ? 1 : 0;
      const float l = masked ? 1.0F : denominator(r, keys), divisor = p_scale * l;
      if (masked) {
        std::fill_n(out, d, 0.0F);
      } else if (plan_.pv.integer()) {
        rescale(w_.out.as<std::int32_t>() + r * x_.width(), scales, divisor, out, d);
      } else {
        rescale(w_.out.as<float>() + r * x_.width(), scales, divisor, out, d);
      }
      tap_row_sums(r, masked, l);
    }
  }

  void tap_row_sums(std::int64_t r, bool masked, float l) {
    const float m = w_.m[at(r)];
    if (!taps_.lse.empty())
      taps_.lse.view<float>()[tap_row(r)] =
          masked ? (o_.sink_logits.empty() ? minus_infinity : o_.sink_logits.view<float>()[tap_row(r)])
                 : static_cast<float>(static_cast<double>(m) + std::log(static_cast<double>(l)));
    if (taps_.probs.empty() || masked) return;
    float* probs = taps_.probs.view<float>().data() + tap_row(r) * o_.kv_len;
    for (std::int64_t n = 0; n < blocks_; ++n) {
      exp_row(panel(n) + r * key_block, m, probs + n * key_block, width(n));
      for (std::int64_t j = 0; j < width(n); ++j) probs[n * key_block + j] /= l;
    }
  }

  const AttentionProblem& p_;
  const host::AttentionOperands& o_;
  AttentionTaps& taps_;
  Tensor& context_;
  const Plan& plan_;
  const PanelOperands& x_;
  PanelWorkspace& w_;
  const BlockProduct*& tiles_;  ///< as BlockProduct::run
  std::int64_t b_, h_, kv_head_, first_, rows_;
  const Products& products_;
  std::int64_t keys_, blocks_;
};

/// From the size of the caches: never what a score or an output is, only what lies where. A panel may fill three quarters of
/// L2, the operands of its products the rest. With AMX a product costs less than a panel outside L2.
Panels panels_of(const AttentionCall& call, const BlockRoute& qk) {
  const host::AttentionOperands& o = call.operands;
  const std::int64_t l2 = host::l2_bytes();
  const auto fits = [&](std::int64_t rows) { return std::min(rows, o.q_len) * o.kv_len * 4 <= l2 / 4 * 3; };
  const bool tiles = call.prepared.isa.amx && qk.type != BlockType::f32, keep = !call.taps.probs.empty();
  // Tiles of sums have 6 rows in s16 pairs, 16 on AMX.
  const bool pairs = qk.type == BlockType::s16;
  const std::int64_t most = pairs ? 48 : tiles ? 128 : 64, fewest = pairs ? 36 : tiles ? 64 : 32;
  const std::int64_t chunk = tiles ? 2 : 4;
  if ((l2 == 0 || (tiles && !fits(fewest))) && !keep) return {std::min(most, o.q_len), false, chunk};
  return {std::min(fits(most) ? most : fewest, o.q_len), true, chunk};
}

std::string name_of(const Plan& plan) {
  const bool pairs = plan.qk.type == BlockType::s16 || plan.pv.type == BlockType::s16;
  return "qk=" + block_name(plan.qk.type) + ";pv=" + block_name(plan.pv.type) + " in panels" +
         (pairs ? " (exact s16 products of integer codes: no VNNI)" : "");
}

void run_tasks(const AttentionCall& call, const Plan& plan, const PanelOperands& x, PanelMemory& memory) {
  const AttentionProblem& p = call.prepared.problem();
  const host::AttentionOperands& o = call.operands;
  const std::int64_t rows = plan.panels.rows, group = p.q_heads / p.kv_heads, query_blocks = (o.q_len + rows - 1) / rows;
  const std::int64_t per_head = query_blocks * group, tasks = o.batch * p.kv_heads * per_head;
  std::vector<ProbCounts> counts(static_cast<std::size_t>(tasks));
  const auto head_of = [&](std::int64_t i) { return i / per_head % p.kv_heads * group + i % group; };
  memory.threads.resize(std::max(memory.threads.size(), static_cast<std::size_t>(omp_get_max_threads())));
  quant::FirstError error;
#pragma omp parallel
  {
    PanelWorkspace& work = memory.threads[static_cast<std::size_t>(omp_get_thread_num())];
    error.guard([&] { prepare_workspace(work, plan, x); });
    const BlockProduct* tiles = nullptr;
#pragma omp for schedule(dynamic)
    for (std::int64_t i = 0; i < tasks; ++i)
      error.guard([&] {
        counts[static_cast<std::size_t>(i)] =
            BlockTask(call, plan, x, work, tiles, i / (per_head * p.kv_heads), head_of(i), i % per_head / group * rows)
                .run();
      });
    BlockProduct::release(plan.amx);
  }
  error.rethrow();
  for (std::int64_t i = 0; i < tasks; ++i) {
    ProbCounts& sum = call.probs[static_cast<std::size_t>(i / (per_head * p.kv_heads) * p.q_heads + head_of(i))];
    const ProbCounts& part = counts[static_cast<std::size_t>(i)];
    sum.visible += part.visible;
    sum.zero_codes += part.zero_codes;
    sum.masked_rows += part.masked_rows;
  }
}

}  // namespace

bool attention_in_panels(const AttentionCall& call, BlockCache& cache, PanelMemory& memory) {
  const CpuAttention& a = call.prepared;
  const ProbScheme& scheme = a.problem().schemes.p;
  // A running maximum over one block is the row's.
  const bool running = scheme.reference != PReference::row_max && scheme.block < call.operands.kv_len;
  if (running || call.operands.q_len < 1) return false;
  const auto qk = block_route(a.qk, a.isa), pv = block_route(a.pv, a.isa);
  if (!qk || !pv) return false;
  const PanelOperands x(a.problem(), call.operands, *qk, *pv, memory);
  Plan plan{*qk, *pv, panels_of(call, *qk), {}, {}, a.isa.amx};
  if (!make_products(plan.whole, plan.panels.rows, plan, x, cache)) return false;
  const std::int64_t rest = call.operands.q_len % plan.panels.rows;
  if (rest != 0 && !make_products(plan.rest, rest, plan, x, cache)) return false;
  call.prepared.name = name_of(plan);
  run_tasks(call, plan, x, memory);
  return true;
}

}  // namespace qfid::kernels::cpu

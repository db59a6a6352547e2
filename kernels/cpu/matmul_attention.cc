// Attention through oneDNN's matmul primitives, a (window, head) per task: query blocks of 128 rows against the keys they
// can see. The way of running references of P, whose blocks have any length, and of CPUs where the block kernels of
// panel_attention.cc can't be made. The order of roundings is that of kernels/attention.h.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "kernels/cpu/attention_state.h"
#include "kernels/cpu/softmax.h"
#include "quant/core/first_error.h"

namespace qfid::kernels::cpu {

using quant::Tensor;

namespace {

constexpr std::int64_t query_block = 128;

/// One thread's memory, grown as needed.
struct Workspace {
  GemmContext context;
  std::vector<std::byte> q, k, v, codes, p;
  std::vector<float> scores, e, scratch, out, part, m, l, sk, sv;
  std::vector<std::int32_t> exact;
};

template <class T>
T* grown(std::vector<T>& memory, std::int64_t n) {
  if (memory.size() < static_cast<std::size_t>(n)) memory.resize(static_cast<std::size_t>(n));
  return memory.data();
}

class HeadTask {
 public:
  HeadTask(const CpuAttention& a, const host::AttentionOperands& o, GemmCache& cache, Workspace& w, AttentionTaps& taps,
           std::int64_t b, std::int64_t h)
      : p_(a.problem()),
        a_(a),
        o_(o),
        cache_(cache),
        w_(w),
        taps_(taps),
        b_(b),
        h_(h),
        kv_head_(h / (p_.q_heads / p_.kv_heads)) {}

  void run(Tensor& context, ProbCounts& counts) {
    gather(o_.k, o_.kv_len, p_.kv_heads, kv_head_, p_.head_dim, a_.qk.b, p_.head_dim, w_.k, 0, o_.kv_len);
    gather(o_.v, o_.kv_len, p_.kv_heads, kv_head_, p_.v_head_dim, a_.pv.b, p_.v_head_dim, w_.v, 0, o_.kv_len);
    float* sk = grown(w_.sk, o_.kv_len);
    for (std::int64_t j = 0; j < o_.kv_len; ++j) sk[j] = o_.k.scale_at(b_, j, kv_head_);
    float* sv = grown(w_.sv, p_.v_head_dim);
    for (std::int64_t c = 0; c < p_.v_head_dim; ++c) sv[c] = o_.v.scale_at(b_, 0, kv_head_, c);
    for (std::int64_t i = 0; i < o_.q_len; i += query_block) block(i, std::min(query_block, o_.q_len - i), context, counts);
  }

  /// Keys whose E refer to one maximum: a block of a running reference, or all.
  static std::int64_t key_block(const CpuAttention& a, std::int64_t keys) {
    return a.problem().schemes.p.reference == PReference::row_max ? keys : std::min(a.problem().schemes.p.block, keys);
  }
  /// f(offset, length) for each part of `width` keys that is one product: parts of the exact f32 route, or all.
  template <class F>
  static void for_products(const CpuAttention& a, std::int64_t width, const F& f) {
    const std::int64_t step = a.pv.integer_as_f32 ? exact_block : width;
    for (std::int64_t offset = 0; offset < width; offset += step) f(offset, std::min(step, width - offset));
  }
  /// Elements from one row of a product's first operand to the next. AMX reads rows of bf16 in pairs of 32 and multiplies
  /// what lies beyond K by zeros: the next row's NaN would be NaN in this one. There are zeros in between.
  static std::int64_t row_length(std::int64_t length, DataType type) {
    return type == DataType::bf16 ? (length + 31) / 32 * 32 : length;
  }
  static GemmShape qk_shape(const CpuAttention& a, std::int64_t rows, std::int64_t keys) {
    const std::int64_t d = a.problem().head_dim;
    return {a.qk.a, a.qk.b, a.qk.accumulator, rows, keys, d, true, false, false, row_length(d, a.qk.a)};
  }
  static GemmShape pv_shape(const CpuAttention& a, std::int64_t rows, std::int64_t keys) {
    const std::int64_t d = a.problem().v_head_dim;
    return {a.pv.a, a.pv.b, a.pv.accumulator, rows, d, keys, false, false, false, row_length(keys, a.pv.a)};
  }

 private:
  /// Rows [first, first + n) of one head as numbers of `type`, `row` of them apart, zeros in between.
  void gather(const host::Operand& x, std::int64_t length, std::int64_t heads, std::int64_t head, std::int64_t d,
              DataType type, std::int64_t row, std::vector<std::byte>& memory, std::int64_t first, std::int64_t n) const {
    const std::size_t width = size_of(type);
    std::byte* dst = grown(memory, n * row * static_cast<std::int64_t>(width));
    if (row != d) std::memset(dst, 0, static_cast<std::size_t>(n * row) * width);
    for (std::int64_t t = 0; t < n; ++t)
      expand_codes(x.codes, ((b_ * length + first + t) * heads + head) * d, d, type,
                   dst + static_cast<std::size_t>(t * row) * width);
  }

  void block(std::int64_t first, std::int64_t rows, Tensor& context, ProbCounts& counts) {
    const std::int64_t keys = keys_seen(p_, o_, first + rows - 1);
    gather(o_.q, o_.q_len, p_.q_heads, h_, p_.head_dim, a_.qk.a, row_length(p_.head_dim, a_.qk.a), w_.q, first, rows);
    float* s = grown(w_.scores, rows * keys);
    cache_.get(qk_shape(a_, rows, keys)).run(w_.context, w_.q.data(), w_.k.data(), nullptr, s);
    float* m = grown(w_.m, rows);
    float* l = grown(w_.l, rows);
    float* top = grown(w_.part, rows);
    for (std::int64_t r = 0; r < rows; ++r) top[r] = scores(first + r, keys, s + r * keys, counts);
    std::vector<float> tops(top, top + rows);
    for (std::int64_t r = 0; r < rows; ++r) {
      const bool has_sink = !o_.sink_logits.empty();
      m[r] = has_sink ? o_.sink_logits.view<float>()[(b_ * p_.q_heads + h_) * o_.q_len + first + r] : minus_infinity;
      l[r] = has_sink ? 1.0F : 0.0F;
    }
    values(first, rows, keys, s, tops, m, l, counts);
    finish(first, rows, keys, s, tops, m, l, context);
  }

  float scores(std::int64_t i, std::int64_t keys, float* s, ProbCounts& counts) {
    const std::int64_t kv = o_.kv_len, row = (b_ * p_.q_heads + h_) * o_.q_len + i;
    const std::int64_t visible = p_.causal ? std::clamp<std::int64_t>(i + 1 + kv - o_.q_len, 0, keys) : keys;
    const ScoreRow spec{o_.q.scale_at(b_, i, h_),
                        p_.softmax_scale(),
                        w_.sk.data(),
                        o_.bias_row(b_, h_, i),
                        o_.key_mask == nullptr ? nullptr : o_.key_mask + b_ * kv,
                        p_.schemes.scores_storage == DType::bf16};
    const bool integer = a_.qk.accumulator == DataType::s32;
    const auto* acc = reinterpret_cast<const std::int32_t*>(s);
    if (!taps_.scores_i32.empty()) {
      std::int32_t* tap = taps_.scores_i32.view<std::int32_t>().data() + row * kv;
      for (std::int64_t j = 0; j < visible; ++j) tap[j] = integer ? acc[j] : static_cast<std::int32_t>(s[j]);
    }
    const float m = integer ? finish_scores(acc, s, keys, visible, spec) : finish_scores(s, s, keys, visible, spec);
    const bool simple = spec.mask == nullptr && spec.bias == nullptr;
    counts.visible += simple ? visible : std::count_if(s, s + visible, [](float x) { return x != minus_infinity; });
    counts.masked_rows += masked(m, s, keys);
    if (!taps_.scores.empty()) std::copy_n(s, keys, taps_.scores.view<float>().data() + row * kv);
    return m;
  }

  /// Codes of P and their products with V, key block by key block; O unscaled in w_.out.
  void values(std::int64_t first, std::int64_t rows, std::int64_t keys, const float* s, const std::vector<float>& tops,
              float* m, float* l, ProbCounts& counts) {
    const ProbScheme& scheme = p_.schemes.p;
    const std::int64_t d = p_.v_head_dim, step = key_block(a_, keys), blocks = (keys + step - 1) / step;
    const bool running = scheme.reference != PReference::row_max;
    float* out = grown(w_.out, rows * d);
    std::fill_n(out, rows * d, 0.0F);
    for (std::int64_t n = 0; n < blocks; ++n) {
      const std::int64_t begin = (scheme.reference == PReference::running_reverse ? blocks - 1 - n : n) * step;
      const std::int64_t width = std::min(step, keys - begin);
      const std::int64_t p_bytes = rows * row_length(width, a_.pv.a) * static_cast<std::int64_t>(size_of(a_.pv.a));
      std::byte* p = grown(w_.p, p_bytes);
      if (row_length(width, a_.pv.a) != width) std::memset(p, 0, static_cast<std::size_t>(p_bytes));
      for (std::int64_t r = 0; r < rows; ++r) {
        const float* segment = s + r * keys + begin;
        const float top = running ? *std::max_element(segment, segment + width) : tops[static_cast<std::size_t>(r)];
        const PRow row{first + r, r, rows, begin, width, a_.pv.a};
        if (masked(top, segment, width)) {
          for_products(a_, width, [&](std::int64_t offset, std::int64_t length) {
            std::memset(row.at(p, offset, length, size_of(a_.pv.a)), 0, static_cast<std::size_t>(length) * size_of(a_.pv.a));
          });
          continue;
        }
        advance(m[r], l[r], top, out + r * d, d);
        probabilities(row, segment, m[r], l[r], p, counts);
      }
      product(p, begin, width, rows, running);
    }
  }

  /// Where a row's codes go: the operand of each product is [rows, row_length(length)]. There is one product of bf16.
  struct PRow {
    std::int64_t i, r, rows, begin, width;
    DataType type;
    std::byte* at(std::byte* p, std::int64_t offset, std::int64_t length, std::size_t size) const {
      return p + static_cast<std::size_t>(rows * offset + r * row_length(length, type)) * size;
    }
  };

  /// O (+)= P V over one key block; the exact f32 route sums its parts in s32.
  void product(const std::byte* p, std::int64_t begin, std::int64_t width, std::int64_t rows, bool add) {
    const std::int64_t d = p_.v_head_dim;
    const bool exact = a_.pv.integer_as_f32;
    float* part = grown(w_.part, rows * d);
    if (exact) std::fill_n(grown(w_.exact, rows * d), rows * d, 0);
    for_products(a_, width, [&](std::int64_t offset, std::int64_t length) {
      const std::byte* v = w_.v.data() + static_cast<std::size_t>((begin + offset) * d) * size_of(a_.pv.b);
      cache_.get(pv_shape(a_, rows, length))
          .run(w_.context, p + static_cast<std::size_t>(rows * offset) * size_of(a_.pv.a), v, nullptr, part);
      for (std::int64_t x = 0; exact && x < rows * d; ++x)
        w_.exact[static_cast<std::size_t>(x)] += static_cast<std::int32_t>(part[x]);
    });
    if (exact) return take_product(w_.exact.data(), w_.out.data(), rows * d, add);
    if (a_.pv.accumulator == DataType::f32) return take_product(part, w_.out.data(), rows * d, add);
    take_product(reinterpret_cast<const std::int32_t*>(part), w_.out.data(), rows * d, add);
  }

  static void advance(float& m, float& l, float top, float* out, std::int64_t d) {
    const float m_new = std::max(m, top);
    if (m != minus_infinity && m_new != m) {
      const float shrink = exp_one(m - m_new);
      l *= shrink;
      for (std::int64_t c = 0; c < d; ++c) out[c] *= shrink;
    }
    m = m_new;
  }

  void probabilities(const PRow& row, const float* segment, float m, float& l, std::byte* p, ProbCounts& counts) {
    const ProbScheme& scheme = p_.schemes.p;
    const std::int64_t width = row.width;
    float* e = grown(w_.e, width);
    const float sum = exp_row(segment, reference_of(m), e, width);
    const std::size_t stored = quant::info(quant::storage(scheme.format)).bytes;
    // Codes that the product takes as they are go to it at once.
    const bool as_is = stored == size_of(a_.pv.a);
    std::byte* codes = as_is ? row.at(p, 0, width, stored) : grown(w_.codes, width * 4);
    float code_sum = 0;
    counts.zero_codes += code_row(e, width, scheme, codes, grown(w_.scratch, width), code_sum) -
                         masked_keys(row.i, row.begin, width, segment);
    l += scheme.quantized_sum && !std::isnan(sum) ? code_sum : sum;
    if (!as_is)
      for_products(a_, width, [&](std::int64_t offset, std::int64_t length) {
        expand_row(codes + static_cast<std::size_t>(offset) * stored, length, row.at(p, offset, length, size_of(a_.pv.a)));
      });
    if (taps_.p_codes.empty()) return;
    const std::int64_t at = ((b_ * p_.q_heads + h_) * o_.q_len + row.i) * o_.kv_len + row.begin;
    std::memcpy(taps_.p_codes.raw() + static_cast<std::size_t>(at) * stored, codes,
                static_cast<std::size_t>(width) * stored);
  }

  /// Whether all scores of a segment are masked, `top` the largest: NaN makes no maximum, and isn't masked.
  static bool masked(float top, const float* segment, std::int64_t width) {
    return top == minus_infinity && std::all_of(segment, segment + width, [](float x) { return x == minus_infinity; });
  }
  /// What E is taken against: where NaN left no maximum, exp(-inf - 0) makes 0 of the masked keys beside it.
  static float reference_of(float m) { return m == minus_infinity ? 0.0F : m; }

  /// Keys of a row's segment that are masked.
  std::int64_t masked_keys(std::int64_t i, std::int64_t begin, std::int64_t width, const float* segment) const {
    if (o_.key_mask != nullptr || o_.bias_row(b_, h_, i) != nullptr)
      return std::count(segment, segment + width, minus_infinity);
    if (!p_.causal) return 0;
    return width - std::clamp<std::int64_t>(i + 1 + o_.kv_len - o_.q_len - begin, 0, width);
  }

  /// Codes of one row of P as numbers of the product's type, where that is another one.
  void expand_row(const std::byte* codes, std::int64_t width, std::byte* dst) const {
    const auto n = static_cast<std::size_t>(width);
    const DType from = quant::storage(p_.schemes.p.format);
    const bool wide = a_.pv.a == DataType::f32;
    if (from == DType::e4m3) {
      const std::span<const quant::e4m3> src(reinterpret_cast<const quant::e4m3*>(codes), n);
      return wide ? quant::expand(src, std::span(reinterpret_cast<float*>(dst), n))
                  : quant::expand(src, std::span(reinterpret_cast<quant::bf16*>(dst), n));
    }
    if (from == DType::e5m2) {
      const std::span<const quant::e5m2> src(reinterpret_cast<const quant::e5m2*>(codes), n);
      return wide ? quant::expand(src, std::span(reinterpret_cast<float*>(dst), n))
                  : quant::expand(src, std::span(reinterpret_cast<quant::bf16*>(dst), n));
    }
    auto* out = reinterpret_cast<float*>(dst);
    if (from == DType::bf16) return quant::expand(std::span(reinterpret_cast<const quant::bf16*>(codes), n), {out, n});
    for (std::size_t j = 0; j < n; ++j)
      out[j] = from == DType::u8 ? static_cast<float>(reinterpret_cast<const std::uint8_t*>(codes)[j])
                                 : static_cast<float>(reinterpret_cast<const std::int8_t*>(codes)[j]);
  }

  void finish(std::int64_t first, std::int64_t rows, std::int64_t keys, const float* s, const std::vector<float>& tops,
              const float* m, const float* l, Tensor& context) {
    const std::int64_t d = p_.v_head_dim;
    const float p_scale = p_.schemes.p.effective_scale();
    for (std::int64_t r = 0; r < rows; ++r) {
      const std::int64_t i = first + r, row = (b_ * p_.q_heads + h_) * o_.q_len + i;
      float* out = context.view<float>().data() + ((b_ * o_.q_len + i) * p_.q_heads + h_) * d;
      const bool none = masked(tops[static_cast<std::size_t>(r)], s + r * keys, keys);
      const float denominator = p_scale * l[r];
      for (std::int64_t c = 0; c < d; ++c)
        out[c] =
            none ? 0.0F : w_.out[static_cast<std::size_t>(r * d + c)] * w_.sv[static_cast<std::size_t>(c)] / denominator;
      if (!taps_.lse.empty())
        taps_.lse.view<float>()[row] =
            none ? m[r] : static_cast<float>(static_cast<double>(m[r]) + std::log(static_cast<double>(l[r])));
      if (taps_.probs.empty() || none) continue;
      float* probs = taps_.probs.view<float>().data() + row * o_.kv_len;
      exp_row(s + r * keys, reference_of(m[r]), probs, keys);
      for (std::int64_t j = 0; j < keys; ++j) probs[j] /= l[r];
    }
  }

  const AttentionProblem& p_;
  const CpuAttention& a_;
  const host::AttentionOperands& o_;
  GemmCache& cache_;
  Workspace& w_;
  AttentionTaps& taps_;
  std::int64_t b_, h_, kv_head_;
};

/// Makes every product of this problem before the parallel region and names them.
std::string make_products(const CpuAttention& a, const host::AttentionOperands& o, GemmCache& cache) {
  std::vector<std::string> qk, pv;
  const auto note = [](std::vector<std::string>& names, const std::string& name) {
    if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
  };
  for (std::int64_t i = 0; i < o.q_len; i += query_block) {
    const std::int64_t rows = std::min(query_block, o.q_len - i), keys = keys_seen(a.problem(), o, i + rows - 1);
    note(qk, cache.get(HeadTask::qk_shape(a, rows, keys)).implementation());
    const std::int64_t step = HeadTask::key_block(a, keys);
    for (const std::int64_t width : {step, keys % step})
      HeadTask::for_products(a, width, [&](std::int64_t, std::int64_t length) {
        note(pv, cache.get(HeadTask::pv_shape(a, rows, length)).implementation());
      });
  }
  const auto joined = [](const std::vector<std::string>& names) {
    std::string text;
    for (const std::string& name : names) text += (text.empty() ? "" : "+") + name;
    return text;
  };
  return "qk=" + joined(qk) + ";pv=" + joined(pv) +
         (a.qk.integer_as_f32 || a.pv.integer_as_f32 ? " (exact f32 products of integer codes: no VNNI)" : "");
}

}  // namespace

void attention_by_matmul(const AttentionCall& call, GemmCache& cache) {
  CpuAttention& a = call.prepared;
  const AttentionProblem& p = a.problem();
  a.name = make_products(a, call.operands, cache);
  quant::FirstError error;
#pragma omp parallel
  {
    std::optional<Workspace> work;
    error.guard([&] { work.emplace(); });
#pragma omp for schedule(dynamic)
    for (std::int64_t i = 0; i < call.operands.batch * p.q_heads; ++i)
      error.guard([&] {
        HeadTask(a, call.operands, cache, *work, call.taps, i / p.q_heads, i % p.q_heads)
            .run(call.context, call.probs[static_cast<std::size_t>(i)]);
      });
  }
  error.rethrow();
}

}  // namespace qfid::kernels::cpu

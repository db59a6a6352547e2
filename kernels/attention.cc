#include "kernels/attention.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "kernels/s32_sums.h"

namespace qfid::kernels {

using quant::Error;
using quant::ErrorKind;
using quant::Format;
using quant::GranularityKind;

float ProbScheme::effective_scale() const {
  switch (format) {
    case Format::uint8:
      return 255.0F;
    case Format::int8:
      return 127.0F;
    case Format::e4m3:
    case Format::e5m2:
      return p_scale > 0 ? p_scale : 256.0F;
    default:
      return 1.0F;
  }
}

std::string to_string(const ProbScheme& s) {
  std::string text(quant::to_string(s.format));
  if (s.p_scale > 0) {
    char buffer[32];
    const auto [end, error] = std::to_chars(buffer, buffer + sizeof buffer, s.p_scale);
    text += "/scale=" + std::string(buffer, end);
  }
  if (s.reference != PReference::row_max)
    text += std::string(s.reference == PReference::running_forward ? "/running_forward(" : "/running_reverse(") +
            std::to_string(s.block) + ")";
  if (s.quantized_sum) text += "/quantized_sum";
  return text;
}

namespace {

bool read_reference(std::string_view part, ProbScheme& scheme) {
  for (const auto& [word, reference] : {std::pair{std::string_view("running_forward"), PReference::running_forward},
                                        std::pair{std::string_view("running_reverse"), PReference::running_reverse}}) {
    if (!part.starts_with(word)) continue;
    scheme.reference = reference;
    std::string_view rest = part.substr(word.size());
    if (rest.empty()) return true;
    if (rest.front() != '(' || rest.back() != ')') return false;
    rest = rest.substr(1, rest.size() - 2);
    const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), scheme.block);
    return error == std::errc() && end == rest.data() + rest.size() && scheme.block >= 1 && scheme.block <= 1'000'000;
  }
  return false;
}

bool read_scale(std::string_view part, ProbScheme& scheme) {
  if (!part.starts_with("scale=")) return false;
  part.remove_prefix(6);
  const auto [end, error] = std::from_chars(part.data(), part.data() + part.size(), scheme.p_scale);
  return error == std::errc() && end == part.data() + part.size() && scheme.p_scale > 0 && scheme.p_scale <= 57344.0F;
}

}  // namespace

ProbScheme parse_prob_scheme(std::string_view text) {
  const auto fail = [&](const std::string& what) {
    throw Error(ErrorKind::usage, "p \"" + std::string(text) + "\": " + what);
  };
  ProbScheme scheme;
  std::string_view rest = text;
  const std::size_t slash = rest.find('/');
  scheme.format = quant::parse_scheme(rest.substr(0, slash)).format;
  while (rest.find('/') != std::string_view::npos) {
    rest.remove_prefix(rest.find('/') + 1);
    const std::string_view part = rest.substr(0, rest.find('/'));
    if (part == "quantized_sum") {
      scheme.quantized_sum = true;
    } else if (!read_scale(part, scheme) && !read_reference(part, scheme)) {
      fail("unknown part \"" + std::string(part) +
           "\", expected scale=NUMBER, running_forward(keys), running_reverse(keys) or quantized_sum");
    }
  }
  if (scheme.p_scale > 0 && !quant::is_fp8(scheme.format)) fail("only e4m3 and e5m2 take a scale (uint8 has 255, int8 127)");
  return scheme;
}

float AttentionProblem::softmax_scale() const {
  return scale ? *scale : static_cast<float>(1.0 / std::sqrt(static_cast<double>(head_dim)));
}

std::int64_t AttentionProblem::gates() const {
  if (!gate) return 0;
  return gate->site == GateSite::value ? kv_heads : q_heads;
}

std::string AttentionProblem::to_string() const {
  std::string text = "attention heads=" + std::to_string(q_heads) + "/" + std::to_string(kv_heads) +
                     " d=" + std::to_string(head_dim) + "/" + std::to_string(v_head_dim) + (causal ? " causal" : " full");
  if (gate)
    text += std::string(" gate=") + (gate->input == GateInput::value ? "value" : "hidden") + "->" +
            (gate->site == GateSite::value ? "value" : "output");
  if (learnable_sink) text += " sink=learnable";
  text += " q=" + quant::to_string(schemes.q) + " k=" + quant::to_string(schemes.k) + " p=" + kernels::to_string(schemes.p) +
          " v=" + quant::to_string(schemes.v);
  if (schemes.output != quant::QuantScheme{}) text += " output=" + quant::to_string(schemes.output);
  if (schemes.smooth_k) text += " smooth_k";
  if (schemes.scores_storage == DType::bf16) text += " scores=bf16";
  return text + " mode=" + std::string(kernels::to_string(mode)) + (fast_accum ? " fast_accum" : "");
}

void validate(const AttentionProblem& p) {
  const auto fail = [](const std::string& what) { throw Error(ErrorKind::usage, "attention: " + what); };
  const AttentionSchemes& s = p.schemes;
  if (p.q_heads < 1 || p.kv_heads < 1 || p.head_dim < 1 || p.v_head_dim < 1) fail("heads and head sizes must be at least 1");
  if (p.q_heads % p.kv_heads != 0) fail("q_heads must be a multiple of kv_heads");
  if (p.scale && !(std::isfinite(*p.scale) && *p.scale > 0)) fail("scale must be finite and above 0");
  const auto name = [](Format f) { return std::string(quant::to_string(f)); };
  const bool paired = p.mode != ExecutionMode::emulated;  // dequantized operands multiply whatever their formats were
  if (paired && quant::is_integer(s.q.format) != quant::is_integer(s.k.format))
    fail("q " + name(s.q.format) + " and k " + name(s.k.format) +
         " don't pair: both int8, or both from f32, bf16, e4m3, e5m2");
  if (paired && quant::is_integer(s.p.format) != quant::is_integer(s.v.format))
    fail("p " + name(s.p.format) + " and v " + name(s.v.format) +
         " don't pair: uint8 or int8 with int8, or both from f32, bf16, e4m3, e5m2");
  for (const auto& [field, scheme] : {std::pair{"q", &s.q}, std::pair{"k", &s.k}, std::pair{"v", &s.v}}) {
    if (scheme->format == Format::uint8) fail(std::string(field) + " must be int8 where it is an integer (symmetric)");
    if (!quant::is_scaled(scheme->format)) continue;
    const GranularityKind g = scheme->granularity.kind;
    const bool is_v = *field == 'v';
    const bool legal = g == GranularityKind::tensor || g == GranularityKind::head ||
                       (is_v ? g == GranularityKind::channel
                             : g == GranularityKind::token || (g == GranularityKind::block && scheme->granularity.n == 0));
    if (!legal)
      fail(std::string(field) + (is_v ? " takes granularity tensor, head or channel"
                                      : " takes granularity tensor, head, token or block(tokens)"));
    if (scheme->timing == quant::Timing::static_ && (g == GranularityKind::token || g == GranularityKind::block))
      fail(std::string(field) + ": a static range needs granularity tensor or head");
  }
  if (s.scores_storage != DType::f32 && s.scores_storage != DType::bf16) fail("scores_storage is f32 or bf16");
  if (s.p.block < 1) fail("p block must be at least 1");
}

void check_keys(const AttentionProblem& p, std::int64_t kv_len) {
  const ProbScheme& scheme = p.schemes.p;
  if (p.mode == ExecutionMode::emulated || !quant::is_integer(scheme.format)) return;
  const std::int64_t keys = scheme.reference == PReference::row_max ? kv_len : std::min(kv_len, scheme.block),
                     most = s32_products(scheme.format);
  if (keys > most)
    throw Error(ErrorKind::usage,
                "attention: s32 sums of " + std::string(quant::to_string(scheme.format)) + " p by int8 v over " +
                    std::to_string(keys) + " keys may overflow, at most " + std::to_string(most) +
                    " are exact: take a running reference with a shorter block, or p and v in e4m3 or bf16");
}

}  // namespace qfid::kernels

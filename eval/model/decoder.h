// A transformer over one backend's kernels, in one precision. The layer is the unit: the runner drives all arms in lockstep,
// so a model offers layer(l), never a whole forward.
//
//   pre-norm (OPT)    hidden -> norm -> q,k,v (gate_proj) -> attention -> out_proj -> + -> norm -> fc1 -> act -> fc2 -> +
//   post-norm (BERT)  hidden -> q,k,v (gate_proj) -> attention -> out_proj -> + -> norm -> fc1 -> act -> fc2 -> + -> norm
//
// Left out: key/value caching and generation (evaluation reads whole windows).
#pragma once

#include <map>
#include <memory>
#include <string>

#include "eval/model/decoder_weights.h"
#include "eval/model/intervention.h"
#include "eval/model/precision.h"
#include "kernels/backend.h"

namespace qfid::eval {

class Simulation;

/// What a model keeps on one backend once, whatever the number of precisions: norms, embeddings, and packed linears shared
/// by every arm that runs a module in the same schemes.
class DecoderResources {
 public:
  DecoderResources(kernels::Backend& backend, const DecoderWeights& weights);

  kernels::Backend& backend() const { return backend_; }
  const DecoderWeights& weights() const { return weights_; }

  struct Norm {
    kernels::DeviceTensor gamma, beta;
  };
  struct Layer {
    Norm attn_norm, ffn_norm;
    kernels::DeviceTensor sink;
  };
  const Layer& layer(int l) const { return layers_[static_cast<std::size_t>(l)]; }
  const Norm& final_norm() const { return final_norm_; }
  const kernels::DeviceTensor& token_table() const { return tokens_; }
  const kernels::DeviceTensor& position_table() const { return positions_; }
  const kernels::DeviceTensor& token_types() const { return token_types_; }  ///< undefined where the family has none
  const Norm& embed_norm() const { return embed_norm_; }

  /// The packed linear of `module` in these schemes; packed at the first request, then shared when `keep`.
  std::shared_ptr<kernels::PreparedLinear> linear(const std::string& module, const LinearSchemes& schemes,
                                                  Execution execution, const quant::Tensor& weight,
                                                  const quant::Tensor& bias, const SiteRanges& ranges, bool keep);

 private:
  Norm upload_norm(const quant::Tensor& gamma, const quant::Tensor& beta);

  kernels::Backend& backend_;
  const DecoderWeights& weights_;
  std::vector<Layer> layers_;
  Norm final_norm_, embed_norm_;
  kernels::DeviceTensor tokens_, positions_, token_types_;
  std::map<std::string, std::shared_ptr<kernels::PreparedLinear>> packed_;
};

/// What the casts of quantized inputs did, by site: linears by name ("q_proj", ...), attention operands as "attention.q",
/// ...
using NamedCounts = std::vector<std::pair<std::string, kernels::PendingCounts>>;

/// Everything a layer computed, named as in kernels/taps.h. Tensors [B, T, H] or [B, T, heads, d]. attn_in and ffn_in are
/// what the linears read, `residual` is the layer's output: behind its last norm in a post-norm model.
struct LayerTrace {
  kernels::DeviceTensor key_mask;  ///< as layer() was given it
  kernels::DeviceTensor hidden_in, attn_in, q, k, v, gate_logits, output, attn_out, ffn_in, ffn_act, ffn_out, residual;
  kernels::PendingAttention attention;  ///< its counts: of P by window and head
  NamedCounts codes;
};

/// ahead: everything is packed when a decoder is made, and shared. by_layer: a layer is packed when it is used and dropped
/// with the next one; for decoders that serve local() on a few windows and must not double a model's memory. They have no
/// logits.
enum class Packing : std::uint8_t { ahead, by_layer };

class Decoder {
 public:
  /// Packs what isn't packed yet. Error{unavailable} when the backend doesn't support a module's schemes, naming it.
  Decoder(DecoderResources& resources, const DecoderPrecision& precision, const SiteRanges& ranges,
          Packing packing = Packing::ahead);

  /// Rounds every site's tensor from now on (a decoder of full precision, over simulated_weights); null = none. Kept by the
  /// caller.
  void simulate(Simulation* simulation) { simulation_ = simulation; }

  int layers() const { return static_cast<int>(precision_.layers.size()); }
  kernels::Backend& backend() const { return resources_.backend(); }

  /// ids i32 [B, T], values in [0, vocab), T <= max positions -> f32 [B, T, H].
  kernels::DeviceTensor embed(const kernels::DeviceTensor& ids);
  /// One layer; `taps` hears what happens inside attention. key_mask u8 [B, T], 1 = a token that is there; undefined = all.
  LayerTrace layer(int l, const kernels::DeviceTensor& hidden, kernels::TapSink* taps,
                   const kernels::DeviceTensor& key_mask = {});
  /// What layer() changes from now on; null: nothing. The caller keeps it alive.
  void intervene(Intervention* change) { intervention_ = change; }
  /// Each operation of layer l fed with the *baseline's* inputs: the local error of each is visible alone. The returned
  /// trace holds q, k, v, gate_logits, output, attn_out, ffn_act, ffn_out.
  LayerTrace local(int l, const LayerTrace& baseline, kernels::TapSink* taps);
  bool has_head() const { return resources_.weights().config.has_head; }
  /// What lm_head reads: the final norm's output, in an encoder norm(act(head_dense(hidden))). `counts` as logits'.
  kernels::DeviceTensor final_hidden(const kernels::DeviceTensor& hidden, NamedCounts& counts);
  /// What a model without a head hands out (transformers' last_hidden_state): a pre-norm model's final norm; an encoder's
  /// hidden as it is.
  kernels::DeviceTensor last_hidden(const kernels::DeviceTensor& hidden);
  /// final_hidden and lm_head: f32 [B, T, H] -> [B, T, V]. To `counts` is added what the casts of its quantized inputs did.
  kernels::DeviceTensor logits(const kernels::DeviceTensor& hidden, NamedCounts& counts);
  /// Which tokens of these ids (i32 [B, T]) a query may see, u8 [B, T]: not an encoder's padding. Undefined: all.
  kernels::DeviceTensor key_mask(const quant::Tensor& ids) const;

  /// Module kind -> implementations that ran ("q_proj", ..., "attention", "lm_head").
  std::map<std::string, std::string> implementations() const;

 private:
  struct Layer {
    std::shared_ptr<kernels::PreparedLinear> q, k, v, gate, out, fc1, fc2;
    std::unique_ptr<kernels::PreparedAttention> attention;
  };
  Layer packed_layer(int l) const;
  Layer& use(int l);
  kernels::DeviceTensor run(const char* name, const std::shared_ptr<kernels::PreparedLinear>& linear,
                            const kernels::DeviceTensor& src, NamedCounts& counts);
  kernels::LinearResult run(const char* name, const std::shared_ptr<kernels::PreparedLinear>& linear,
                            const kernels::DeviceTensor& src, const kernels::LinearTail& tail, NamedCounts& counts);
  /// x behind the site's quantizer, where there is a simulation.
  kernels::DeviceTensor rounded(const std::string& site, kernels::DeviceTensor x) const;
  kernels::DeviceTensor rounded(int l, const char* name, kernels::DeviceTensor x) const;
  /// q, k and v of a layer.
  void project(int l, const kernels::DeviceTensor& attn_in, LayerTrace& trace);
  /// run(), and what an intervention makes of it.
  kernels::DeviceTensor module(int l, const char* name, const std::shared_ptr<kernels::PreparedLinear>& linear,
                               const kernels::DeviceTensor& src, NamedCounts& counts);
  /// module(), then fc1's activation, rounded at the module's site.
  kernels::DeviceTensor activated(int l, const kernels::DeviceTensor& ffn_in, NamedCounts& counts);
  /// y: module(), rounded at its site; sum: residual + y, rounded at `sum_site`.
  kernels::LinearResult added(int l, const char* name, const std::shared_ptr<kernels::PreparedLinear>& linear,
                              const kernels::DeviceTensor& src, const kernels::DeviceTensor& residual, const char* sum_site,
                              NamedCounts& counts);
  /// Nothing listens or changes anything between a linear and what follows it.
  bool undisturbed() const { return intervention_ == nullptr && simulation_ == nullptr; }
  void attend(int l, const kernels::DeviceTensor& attn_in, LayerTrace& trace, kernels::TapSink* taps);
  kernels::DeviceTensor heads(const kernels::DeviceTensor& x) const;

  DecoderResources& resources_;
  DecoderPrecision precision_;
  SiteRanges ranges_;
  Packing packing_;
  std::vector<Layer> layers_;  ///< all, or by_layer the one in use
  int in_use_ = -1;            ///< by_layer: which
  Intervention* intervention_ = nullptr;
  std::shared_ptr<kernels::PreparedLinear> lm_head_, head_dense_;
  Simulation* simulation_ = nullptr;
};

/// The attention problem of layer l's shape in these schemes.
kernels::AttentionProblem attention_problem(const ModelConfig& config, const kernels::AttentionSchemes& schemes,
                                            Execution execution);

/// Every module of the model with its linear problem: what plan and support checks walk through.
struct ModuleProblem {
  std::string module;
  kernels::LinearProblem problem;
};
std::vector<ModuleProblem> linear_problems(const ModelConfig& config, const DecoderPrecision& precision);

}  // namespace qfid::eval

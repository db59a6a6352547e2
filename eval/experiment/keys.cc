#include "eval/experiment/keys.h"

namespace qfid::eval {

namespace {

std::vector<KeyRow> build() {
  using enum KeyType;
  std::vector<KeyRow> rows{
      {"version", integer, true, "1..1", "", "Version of this vocabulary."},
      {"name", string, true, "", "", "Name of the experiment; the default output directory is qfid-out/NAME."},
      {"models", names, true, "", "", "Models by name."},
      {"models.*", map, false, "", "", "One model."},
      {"models.*.path", string, true, "", "", "Checkpoint directory, relative to this file."},
      {"models.*.group", string, false, "", "none", "Kind of model that this is one training of; goes with seed."},
      {"models.*.seed", integer, false, "0..1000000000", "none",
       "Training seed: reports compare groups over seeds, equal seeds as pairs (docs/metrics.md)."},
      {"models.*.step", integer, false, "0..2000000000", "none",
       "Training step of this checkpoint, with group and seed: reports draw measures over steps (docs/metrics.md)."},
      {"data", map, true, "", "", "What is evaluated."},
      {"data.tokens", string, false, "", "none",
       "Token file (.npy, 1-D uint16, int32 or int64), relative to this file. Data is tokens, text with a tokenizer, or "
       "bigram_backcopy."},
      {"data.targets", string, false, "", "none",
       "What stood where data.tokens is masked (.npy; both 2-D of one shape), -100 where nothing was: protocol mlm."},
      {"data.bigram_backcopy", map, false, "", "none",
       "Sequences of the synthetic task of Guo et al. 2024, generated (docs/metrics.md); a window is a sequence."},
      {"data.bigram_backcopy.tables", string, true, "", "",
       "Directory of bigram.npy, unigram.npy, triggers.npy and bos.npy, relative to this file."},
      {"data.bigram_backcopy.seed", integer, false, "0..1000000000", "1", "Seed of the sequences."},
      {"data.bigram_backcopy.sequences", integer, false, "1..1000000", "256", "Sequences, those of calibration included."},
      {"data.bigram_backcopy.length", integer, false, "2..100000", "64", "Tokens of a sequence behind <s>: the context."},
      {"data.text", string, false, "", "none", "Text file (UTF-8), relative to this file."},
      {"data.tokenizer", string, false, "", "none",
       "The model's tokenizer.json, relative to this file: byte-level BPE (docs/metrics.md)."},
      {"data.documents", choice, false, "file|lines|jsonl", "file",
       "What is one document of the text: the file, each line, or the field \"text\" of each line."},
      {"data.detokenize", choice, false, "none|wikitext", "none",
       "wikitext: WikiText's release back to plain English before tokenizing, as lm-evaluation-harness does."},
      {"data.protocol", choice, false, "window|gptq|llamacpp|outlier_free|lmeval|mlm|hidden", "window",
       "How tokens become windows and which predictions count (docs/metrics.md)."},
      {"data.windows", integer, false, "1..10000000", "all that fit",
       "Windows to evaluate; under lmeval at most so many, of whole documents."},
      {"data.first_token", integer, false, "0..1000000000000", "0",
       "First token of the first window; under lmeval of the first document that may begin there."},
      {"data.context", integer, false, "2..1000000",
       "the model's; llamacpp: 512; gptq: 2048, outlier_free: 512, or the model's if less", "Tokens in a window."},
      {"data.batch_windows", integer, false, "1..100000", "8",
       "Windows in a batch of outlier_free, whose batch means are averaged; only whole batches are taken."},
      {"data.calibration", map, false, "", "none", "Windows for static ranges; must not overlap the evaluated ones."},
      {"data.calibration.first_token", integer, true, "0..1000000000000", "",
       "First token of the first calibration window."},
      {"data.calibration.windows", integer, false, "1..100000", "16", "Number of calibration windows."},
      {"baseline", map, false, "", "cpu, f32", "The full-precision run everything is compared with."},
      {"baseline.backend", choice, false, "cpu|reference|gpu", "cpu", "Where it runs."},
      {"baseline.device", integer, false, "0..1023", "0", "Which GPU, among those CUDA_VISIBLE_DEVICES leaves."},
      {"baseline.precision", choice, false, "f32", "f32", "The baseline is f32."},
      {"presets", names, false, "", "none", "Presets of this file, by name: bodies of targets."},
      {"presets.*", map, false, "", "", "One preset."},
      {"targets", names, true, "", "", "Precision targets by name."},
      {"targets.*", map, false, "", "", "One target."},
      {"targets.*.backend", choice, false, "cpu|reference|gpu", "cpu", "Where the target runs."},
      {"targets.*.device", integer, false, "0..1023", "0", "Which GPU, among those CUDA_VISIBLE_DEVICES leaves."},
      {"targets.*.fast_accum", boolean, false, "", "false",
       "FP8 products on a GPU keep fewer accumulator bits along K: faster, less exact."},
      {"targets.*.mode", choice, false, "real|emulated|library", "real",
       "real: products run in the format. emulated: dequantized, in f32 (backend reference or cpu). library: cpu: oneDNN's "
       "own FP8 matmul; gpu: attention by cuBLASLt's products, not the fused kernel."},
      {"targets.*.preset", string, false, "", "none",
       "Preset to start from: a built-in name or one of this file's presets."},
      {"targets.*.simulated", map, false, "", "none",
       "W8A8 simulated in f32 as Bondarenko et al. 2023 do (docs/simulated-quantization.md), instead of formats to run in."},
      {"targets.*.simulated.weights", choice, false, "minmax|mse", "minmax", "Ranges of weights."},
      {"targets.*.simulated.percentile", number, false, "50..100", "the extremes",
       "Ranges of activations: this percentile of a batch, and 100 less it."},
      {"targets.*.simulated.momentum", number, false, "0..0.9999", "0.9",
       "Ranges of activations: what a batch leaves of the range of those before it."},
      {"targets.*.when_unavailable", choice, false, "fail|skip", "fail",
       "What to do where the backend or the problem isn't supported."},
      {"targets.*.overrides", list, false, "", "none", "Changes for some modules; applied in order, later ones win."},
      {"targets.*.overrides.*", map, false, "", "", "One override."},
      {"targets.*.overrides.*.match", string, true, "", "",
       "Module pattern: *, ?, number ranges [0-2]; modules are layers.N.q_proj, k_proj, v_proj, out_proj, fc1, fc2, "
       "gate_proj, attention, and lm_head; an encoder's also head_dense."},
      {"metrics", map, false, "", "defaults", "What is measured on how much."},
      {"metrics.local_windows", integer, false, "0..1000000", "16", "Windows on which local errors are measured; 0 = none."},
      {"metrics.kernel_windows", integer, false, "0..1000000", "1",
       "Of the local windows, those on which each target's emulated twin runs too (reference backend): the format's damage "
       "apart from the kernel's; 0 = none."},
      {"metrics.sink_windows", integer, false, "0..1000000", "16",
       "Windows for attention sinks, drains, divergence and codes of probabilities, magnitudes."},
      {"metrics.budget_windows", integer, false, "0..1000000", "0",
       "Windows on which each target's error budget is measured: every operand, linear and layer quantized alone, and "
       "all but it, in mode emulated; 0 = none."},
      {"metrics.noise_windows", integer, false, "0..1000000", "0",
       "Windows on which the noise floor of full precision is measured, by noise in module outputs and on another backend; "
       "0 = none. A gate within it is a mistake."},
      {"metrics.interventions", list, false, "", "none",
       "What is changed on purpose, in full precision and under every target (docs/metrics.md)."},
      {"metrics.interventions.*", choice, false, "mask_key_0|zero_v_0|gate_one|gate_mean", "", "One intervention."},
      {"metrics.intervention_windows", integer, false, "1..1000000", "16", "Windows on which interventions are scored."},
      {"metrics.confidence", number, false, "0.5..0.9999", "0.95", "Confidence of intervals."},
      {"metrics.sink_threshold", number, false, "0.01..0.99", "0.3",
       "Attention to the first key above which a head counts as a sink."},
      {"run", map, false, "", "defaults", "How it is run."},
      {"run.threads", integer, false, "1..4096", "all cores", "OpenMP threads."},
      {"run.chunk_windows", integer, false, "1..1024", "4",
       "Windows that go through a layer together; part of a run's identity."},
      {"gates", names, false, "", "none", "What must hold to ship, by name (docs/gates.md); every gate must pass."},
      {"gates.*", map, false, "", "", "One gate, for every model and target that its patterns match."},
      {"gates.*.metric", choice, false,
       "perplexity.ratio|nll.difference|kl.mean|kl_reverse.mean|top1.agreement|top1.flips|word_perplexity.ratio|"
       "byte_perplexity.ratio|bits_per_byte.difference|hidden.nmse.mean|hidden.cosine_distance.mean|"
       "hidden.pooled.cosine_distance.mean",
       "none",
       "What is bounded; of words and bytes under protocol lmeval, of hidden states under hidden. A gate has metric or "
       "exact."},
      {"gates.*.exact", choice, false, "logits|taps", "none",
       "Nothing may change against a saved baseline, bit for bit: the logits, or every tensor of every layer and the "
       "logits, "
       "on metrics.local_windows."},
      {"gates.*.max", number, false, "-1000000..1000000", "none", "The metric's upper bound. A gate has max or min."},
      {"gates.*.min", number, false, "-1000000..1000000", "none", "The metric's lower bound."},
      {"gates.*.models", string, false, "", "*", "Pattern of model names: * and ?."},
      {"gates.*.targets", string, false, "", "*", "Pattern of target names; the baseline is never gated."},
      {"gates.*.relative_to", map, false, "", "none",
       "Bound the paired difference from another result instead (perplexity.ratio: the ratio of the two)."},
      {"gates.*.relative_to.target", string, false, "", "none", "Another target of the same model and run."},
      {"gates.*.relative_to.file", string, false, "", "none",
       "A saved baseline (qfid baseline save), relative to this file."},
      {"gates.*.confidence", number, false, "0.5..0.9999", "0.99", "Confidence of a pass and of a fail."},
      {"gates.*.on_inconclusive", choice, false, "fail|warn", "fail", "What an inconclusive gate counts as."},
      {"gates.*.expected_failure", map, false, "", "none",
       "The gate is known to fail. Should it pass, or the day be over, the check fails."},
      {"gates.*.expected_failure.reason", string, true, "", "", "Why; reports show it."},
      {"gates.*.expected_failure.expires", string, true, "", "", "Last day on which it is accepted, YYYY-MM-DD (UTC)."},
  };
  const auto body = [&](std::string_view precision, std::string_view linear, std::string_view weights,
                        std::string_view activations, std::string_view attention,
                        const std::vector<std::pair<std::string_view, int>>& fields) {
    if (!precision.empty())
      rows.push_back(
          {precision, choice, false, "f32|bf16", "none", "Shorthand: every linear and attention operand in this format."});
    rows.push_back({linear, map, false, "", "f32", "Formats of the linears (q, k, v, out_proj, fc1, fc2)."});
    rows.push_back({weights, scheme, false, "", "f32",
                    "Weights: int8|e4m3|e5m2 with tensor, channel, group(n) or block(mxn); bf16; f32."});
    rows.push_back({activations, scheme, false, "", "f32",
                    "Activations: int8|uint8|e4m3|e5m2 with tensor, token or group(n); bf16; f32."});
    rows.push_back({attention, map, false, "", "f32", "Formats inside attention."});
    for (const auto& [path, kind] : fields) {
      switch (kind) {
        case 0:
          rows.push_back({path, scheme, false, "", "f32",
                          "Operand scheme: q, k: tensor, head, token, block(n); v: tensor, head, channel."});
          break;
        case 1:
          rows.push_back(
              {path, prob_scheme, false, "", "f32",
               "Codes of P: f32, bf16, uint8, int8, e4m3, e5m2[/scale=N][/running_forward(64)][/quantized_sum]."});
          break;
        case 2:
          rows.push_back({path, number, false, "0.001..57344", "256", "Scale of FP8 P codes."});
          break;
        case 3:
          rows.push_back({path, choice, false, "row_max|running_forward|running_reverse", "row_max",
                          "Which maximum exp(S - m) refers to."});
          break;
        case 4:
          rows.push_back({path, integer, false, "1..1000000", "64", "Keys per block of a running maximum."});
          break;
        case 5:
          rows.push_back({path, choice, false, "exact|quantized", "exact", "Whether the denominator sums E or its codes."});
          break;
        case 6:
          rows.push_back({path, boolean, false, "", "false", "Subtract the mean key from K before quantizing."});
          break;
        default:
          rows.push_back({path, choice, false, "f32|bf16", "f32", "Storage of the scores S."});
      }
    }
  };
  body("targets.*.precision", "targets.*.linear", "targets.*.linear.weights", "targets.*.linear.activations",
       "targets.*.attention",
       {{"targets.*.attention.q", 0},
        {"targets.*.attention.k", 0},
        {"targets.*.attention.v", 0},
        {"targets.*.attention.p", 1},
        {"targets.*.attention.output", 0},
        {"targets.*.attention.p_scale", 2},
        {"targets.*.attention.p_reference", 3},
        {"targets.*.attention.p_block", 4},
        {"targets.*.attention.p_sum", 5},
        {"targets.*.attention.smooth_k", 6},
        {"targets.*.attention.scores_storage", 7}});
  body("targets.*.overrides.*.precision", "targets.*.overrides.*.linear", "targets.*.overrides.*.linear.weights",
       "targets.*.overrides.*.linear.activations", "targets.*.overrides.*.attention",
       {{"targets.*.overrides.*.attention.q", 0},
        {"targets.*.overrides.*.attention.k", 0},
        {"targets.*.overrides.*.attention.v", 0},
        {"targets.*.overrides.*.attention.p", 1},
        {"targets.*.overrides.*.attention.output", 0},
        {"targets.*.overrides.*.attention.p_scale", 2},
        {"targets.*.overrides.*.attention.p_reference", 3},
        {"targets.*.overrides.*.attention.p_block", 4},
        {"targets.*.overrides.*.attention.p_sum", 5},
        {"targets.*.overrides.*.attention.smooth_k", 6},
        {"targets.*.overrides.*.attention.scores_storage", 7}});
  body("presets.*.precision", "presets.*.linear", "presets.*.linear.weights", "presets.*.linear.activations",
       "presets.*.attention",
       {{"presets.*.attention.q", 0},
        {"presets.*.attention.k", 0},
        {"presets.*.attention.v", 0},
        {"presets.*.attention.p", 1},
        {"presets.*.attention.output", 0},
        {"presets.*.attention.p_scale", 2},
        {"presets.*.attention.p_reference", 3},
        {"presets.*.attention.p_block", 4},
        {"presets.*.attention.p_sum", 5},
        {"presets.*.attention.smooth_k", 6},
        {"presets.*.attention.scores_storage", 7}});
  return rows;
}

}  // namespace

const std::vector<KeyRow>& key_table() {
  static const std::vector<KeyRow> rows = build();
  return rows;
}

const KeyRow* find_key(const std::string& pattern) {
  for (const KeyRow& row : key_table())
    if (row.path == pattern) return &row;
  return nullptr;
}

std::vector<std::string> children_of(const std::string& pattern) {
  std::vector<std::string> names;
  const std::string prefix = pattern.empty() ? "" : pattern + ".";
  for (const KeyRow& row : key_table()) {
    if (!row.path.starts_with(prefix) || row.path.size() == prefix.size()) continue;
    const std::string_view rest = row.path.substr(prefix.size());
    if (rest.find('.') == std::string_view::npos && rest != "*") names.emplace_back(rest);
  }
  return names;
}

std::vector<std::string> choices(std::string_view allowed) {
  std::vector<std::string> all;
  while (!allowed.empty()) {
    const std::size_t bar = allowed.find('|');
    all.emplace_back(allowed.substr(0, bar));
    allowed.remove_prefix(bar == std::string_view::npos ? allowed.size() : bar + 1);
  }
  return all;
}

std::string type_in_words(const KeyRow& row) {
  switch (row.type) {
    case KeyType::map:
      return "a map";
    case KeyType::names:
      return "a map of names";
    case KeyType::list:
      return "a list";
    case KeyType::string:
      return "a string";
    case KeyType::integer:
      return "a whole number, " + std::string(row.allowed);
    case KeyType::number:
      return "a number, " + std::string(row.allowed);
    case KeyType::boolean:
      return "true or false";
    case KeyType::choice: {
      std::string text;
      for (const std::string& word : choices(row.allowed)) text += (text.empty() ? "" : ", ") + word;
      return text.find(',') == std::string::npos ? text : "one of " + text;
    }
    case KeyType::scheme:
      return "a scheme such as int8/token";
    case KeyType::prob_scheme:
      return "a format of P such as uint8 or e4m3/scale=256";
  }
  return "";
}

std::string key_reference() {
  std::string text = "| key | value | default | meaning |\n|---|---|---|---|\n";
  for (const KeyRow& row : key_table()) {
    std::string doc(row.doc);
    for (std::size_t at = 0; (at = doc.find('|', at)) != std::string::npos; at += 2) doc.insert(at, "\\");
    text += "| `" + std::string(row.path) + "` | " + type_in_words(row) + " | " +
            (row.required ? "required" : std::string(row.fallback)) + " | " + doc + " |\n";
  }
  return text;
}

}  // namespace qfid::eval

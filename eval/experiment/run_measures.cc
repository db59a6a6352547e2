#include "eval/experiment/run_measures.h"

#include "eval/metrics/outlier_error.h"

namespace qfid::eval {

void add_measures(RunRecord& run, Arm& arm, const std::vector<bool>& sinks, const MeasuredData& data) {
  const bool hidden = data.protocol == Protocol::hidden;
  if (!arm.alive() || (hidden ? arm.hidden_states.windows.empty() : arm.tokens.windows.empty())) return;
  if (!hidden) run.metrics = compute_token_metrics(arm.tokens);
  if (hidden && data.baseline != nullptr) run.metrics = hidden_metrics(arm.hidden_states);
  for (std::vector<Metric> more : {arm.tables.summary(), arm.sinks.metrics(sinks), arm.footprint})
    run.metrics.insert(run.metrics.end(), more.begin(), more.end());
  if (data.corpus.backcopy) {
    const BackcopyRisk risk = data.corpus.backcopy->oracle_risk(data.corpus.sequence);
    for (Metric& metric : arm.backcopy.metrics(arm.tokens, data.task, risk.bigram, risk.copy))
      run.metrics.push_back(std::move(metric));
  }
  run.layers = arm.tables.rows();
  run.p_codes = arm.tables.samples().histograms();
  for (LayerRow& row : arm.sinks.rows()) run.layers.push_back(std::move(row));
  if (data.baseline != nullptr)
    for (Metric& metric : outlier_error(data.baseline->layers, run.layers)) run.metrics.push_back(std::move(metric));
  run.windows = hidden ? hidden_window_sums(arm.hidden_states) : window_sums(arm.tokens);
  run.documents = arm.tokens.documents;
  run.tokens = hidden ? hidden_series(arm.hidden_states) : token_series(arm.tokens);
  if (arm.hasher) {
    run.hashes = arm.hasher->hashes();
    run.hashes->key = hash_key(arm.backend->info(), run.description, run.implementations);
  }
}

std::vector<PairRecord> target_pairs(const std::vector<RunRecord>& runs, double confidence) {
  std::vector<PairRecord> pairs;
  for (std::size_t a = 0; a < runs.size(); ++a)
    for (std::size_t b = a + 1; b < runs.size(); ++b) {
      const RunRecord &x = runs[a], &y = runs[b];
      const bool comparable =
          x.model == y.model && x.target != "baseline" && x.windows.tokens == y.windows.tokens && !x.windows.tokens.empty();
      if (comparable) pairs.push_back({x.model, x.target, y.target, paired_difference(x.windows, y.windows, confidence)});
    }
  return pairs;
}

}  // namespace qfid::eval

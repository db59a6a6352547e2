// The built-in models, and where they are at hand the larger ones, against values computed in double precision elsewhere
// (docs/results/known-values.md): perplexity to 1e-5 relative, first token NLLs to 2e-5 absolute.
#include <atomic>
#include <catch2/catch_test_macros.hpp>
#include <cmath>

#include "kernels/registry/registry.h"
#include "tests/eval/experiment/checkpoints.h"
#include "tests/support/tolerance.h"

using namespace qfid;
using namespace qfid::eval;

namespace {

struct Known {
  const char* model;
  double windows32, windows2;
  double nll[3];
  double windows512;
};
constexpr Known known[] = {
    {"tiny-softmax", 37.542377, 16.458005, {7.4271078, 3.3432225, 0.7729878}, 35.552249},
    {"tiny-vga-output", 35.920162, 14.547357, {7.7116559, 2.8147210, 1.4421523}, 34.719273},
    {"tiny-vga-value", 36.286032, 14.439830, {7.7847005, 2.1239129, 1.2045385}, 35.379039},
    {"tiny-iga-output", 36.080262, 14.429590, {7.8503537, 2.2358772, 1.0483071}, 34.970306},
    {"tiny-iga-value", 36.412628, 13.635041, {7.6017286, 2.3738194, 2.4072822}, 35.259980},
    // An independent NumPy computation in double gives 37.0651694 over the 32 windows.
    {"tiny-sink", 37.065169, 15.345624, {7.3617832, 2.4329839, 0.8155872}, 35.217822},
    {"lm-softmax", 45.233291, 16.430813, {7.7926909, 3.1348061, 0.0132041}, 0},
    {"lm-vga-output", 43.604667, 15.163803, {7.8546010, 2.5424607, 0.0735110}, 0},
    {"lm-vga-value", 43.980774, 15.095889, {8.0529542, 2.0211991, 0.0911515}, 0},
    {"lm-iga-output", 43.510360, 14.254726, {8.0183020, 2.9627410, 0.0115239}, 0},
    {"lm-sink", 44.389379, 15.625254, {7.9466869, 3.0733644, 0.0208258}, 0},
};

struct Evaluated {
  double perplexity;
  std::vector<float> nll;
};

Evaluated evaluate(const Known& entry, const std::string& backend, std::int64_t windows) {
  Spec spec = tests::checkpoint_spec(entry.model);
  spec.data.windows = windows;
  spec.baseline.backend = backend;
  spec.metrics.sink_windows = 0;
  spec.metrics.local_windows = 0;
  const ExperimentRecord record = run_experiment(spec, {}, std::atomic<bool>(false));
  return {*find_metric(record.runs.at(0), "perplexity")->value, record.runs[0].tokens.nll};
}

void check(const Known& entry, const std::string& backend, std::int64_t windows, double expected) {
  const Evaluated got = evaluate(entry, backend, windows);
  CAPTURE(entry.model, backend, windows, got.perplexity, expected);
  CHECK(std::fabs(got.perplexity / expected - 1) <= tests::perplexity_relative);
  for (std::size_t i = 0; i < 3; ++i)
    CHECK(std::fabs(static_cast<double>(got.nll[i]) - entry.nll[i]) <= tests::token_nll_absolute);
}

bool has_cpu() { return kernels::make_backend("cpu")->available().ok; }

}  // namespace

TEST_CASE("built-in models on the reference backend, 2 windows") {
  for (const Known& entry : known)
    if (tests::is_tiny(entry.model)) check(entry, "reference", 2, entry.windows2);
}

TEST_CASE("built-in models on the cpu backend, 32 windows, and 512 for all") {
  if (!has_cpu()) SKIP("the cpu backend isn't part of this build");
  for (const Known& entry : known)
    if (tests::is_tiny(entry.model)) {
      check(entry, "cpu", 32, entry.windows32);
      check(entry, "cpu", 512, entry.windows512);
    }
}

TEST_CASE("other protocols on tiny-softmax, 32 windows of 256, against transformers in double") {
  for (const auto& [protocol, expected] :
       {std::pair{Protocol::gptq, 139.39482096}, std::pair{Protocol::llamacpp, 35.59264109},
        std::pair{Protocol::outlier_free, 139.39482096}}) {
    Spec spec = tests::checkpoint_spec("tiny-softmax");
    spec.data.protocol = protocol;
    spec.data.windows = 32;
    spec.data.context = 256;
    spec.baseline.backend = has_cpu() ? "cpu" : "reference";
    spec.metrics.sink_windows = spec.metrics.local_windows = 0;
    const double got = *find_metric(run_experiment(spec, {}, std::atomic<bool>(false)).runs.at(0), "perplexity")->value;
    CAPTURE(to_string(protocol), got);
    CHECK(std::fabs(got / expected - 1) <= tests::perplexity_relative);
  }
}

TEST_CASE("masked-LM encoders, all 192 windows on the cpu backend, the first 32 on both") {
  if (!tests::checkpoint_is_here("mlm-softmax"))
    SKIP("the encoders aren't here (set QFID_SHARED to the folder that holds models/mlm-* and data/mlm)");
  struct Encoder {
    const char* model;
    double windows192;
  };
  for (const auto& [model, expected] : {Encoder{"mlm-softmax", 18.446649}, Encoder{"mlm-vga-output", 19.571461}}) {
    Spec spec = tests::checkpoint_spec(model);
    spec.data.protocol = Protocol::mlm;
    spec.data.tokens = tests::shared_folder() / "data" / "mlm" / "input.npy";
    spec.data.targets = tests::shared_folder() / "data" / "mlm" / "target.npy";
    spec.metrics.sink_windows = spec.metrics.local_windows = 0;
    const auto run = [&](const std::string& backend, std::optional<std::int64_t> windows) {
      spec.baseline.backend = backend;
      spec.data.windows = windows;
      return run_experiment(spec, {}, std::atomic<bool>(false));
    };
    const auto perplexity = [](const ExperimentRecord& record) {
      return *find_metric(record.runs.at(0), "perplexity")->value;
    };
    const double reference = perplexity(run("reference", has_cpu() ? std::optional<std::int64_t>(32) : std::nullopt));
    if (!has_cpu()) {
      CHECK(std::fabs(reference / expected - 1) <= tests::perplexity_relative);
      continue;
    }
    const ExperimentRecord all = run("cpu", std::nullopt);
    CAPTURE(model, perplexity(all));
    CHECK(std::fabs(perplexity(all) / expected - 1) <= tests::perplexity_relative);
    CHECK(all.runs[0].tokens.nll.size() == 3699);
    CHECK(std::fabs(perplexity(run("cpu", 32)) / reference - 1) <= tests::perplexity_relative);
  }
}

TEST_CASE("larger models, 2 windows on the reference backend and 32 on the cpu backend") {
  if (!tests::checkpoint_is_here("lm-softmax"))
    SKIP("the larger models aren't here (set QFID_SHARED to the folder that holds models/lm-* and data/gutenberg)");
  for (const Known& entry : known)
    if (!tests::is_tiny(entry.model)) {
      check(entry, "reference", 2, entry.windows2);
      if (has_cpu()) check(entry, "cpu", 32, entry.windows32);
    }
}

// A run that can't fit into a device's memory is refused before it runs, with both numbers.
#include "eval/experiment/device_memory.h"

#include <catch2/catch_test_macros.hpp>

#include "eval/experiment/target_precision.h"
#include "kernels/registry/registry.h"
#include "quant/core/error.h"
#include "tests/eval/experiment/checkpoints.h"
#include "tests/support/faulty_backend.h"

using namespace qfid;
using namespace qfid::eval;
using namespace qfid::tests;

namespace {

ModelConfig small() {
  ModelConfig c;
  c.hidden_size = 8;
  c.num_hidden_layers = 1;
  c.ffn_dim = 16;
  c.num_attention_heads = 2;
  c.vocab_size = 10;
  c.max_position_embeddings = 6;
  c.position_offset = 2;
  return c;
}

DecoderPrecision of(const std::string& format) {
  TargetSpec target;
  if (!format.empty()) target.linear = {quant::parse_scheme(format + "/channel"), quant::parse_scheme(format + "/token")};
  return precision_of(target, small());
}

/// A run of one window.
Spec one_window() {
  Spec spec = checkpoint_spec("tiny-softmax");
  spec.data.windows = 1;
  spec.data.context = 16;
  spec.metrics.local_windows = spec.metrics.sink_windows = spec.metrics.kernel_windows = 0;
  spec.baseline.backend = "reference";
  return spec;
}

/// Backends that say that so many bytes are free.
BackendMaker with_free(std::int64_t free) {
  return [free](const std::string& name, int device) {
    auto backend = std::make_unique<FaultyBackend>(kernels::make_backend(name, device), Fault::none, FaultPlace{});
    backend->set_free_memory(free);
    return std::unique_ptr<kernels::Backend>(std::move(backend));
  };
}

ExperimentRecord run_with(std::int64_t free) {
  return run_experiment(one_window(), {}, std::atomic<bool>(false), with_free(free));
}

}  // namespace

TEST_CASE("the least that a run holds, counted by hand") {
  const ModelConfig c = small();
  // Embeddings 8 * (10 + 6 + 2), four 8 x 8 and two 8 x 16 linears, the head 8 * 10; a layer of 3 windows of 5 tokens:
  // 10 * 8 + 16 and a state of 8, f32.
  const std::int64_t embeddings = 144, linears = 512, head = 80, layer = 15 * (96 + 8);
  CHECK(least_device_bytes(c, {of("")}, {3, 5}) == 4 * (embeddings + linears + head + layer));
  // The same arm twice packs once and has a second state; INT8's linears are another packing, a byte a weight.
  CHECK(least_device_bytes(c, {of(""), of("")}, {3, 5}) == 4 * (embeddings + linears + head + layer + 15 * 8));
  CHECK(least_device_bytes(c, {of(""), of("int8")}, {3, 5}) == 4 * (embeddings + linears + head + layer + 15 * 8) + linears);
}

TEST_CASE("what is needed and what is free: the rule and its words") {
  CHECK(memory_reason("X", 1000, std::nullopt).empty());
  CHECK(memory_reason("X", 1000, 1000).empty());
  const std::string why = memory_reason("backend gpu (Test GPU)", 3 << 20, (3 << 20) - 1);
  CHECK(why.find("at least 3.0 MiB of backend gpu (Test GPU)") != std::string::npos);
  CHECK(memory_reason("X", 64LL << 30, 8LL << 30).find("65536.0 MiB of X are needed, 8192.0 MiB are free") !=
        std::string::npos);
}

TEST_CASE("a run that a device can't hold is refused before it runs, as unavailable") {
  CHECK(run_with(std::int64_t{1} << 40).runs.size() == 1);
  try {
    run_with(1 << 20);
    FAIL("a run in 1 MiB was begun");
  } catch (const quant::Error& error) {
    CHECK(error.kind() == quant::ErrorKind::unavailable);  // exit code 4
    const std::string what = error.what();
    CHECK(what.starts_with("model tiny-softmax: at least "));
    CHECK(what.find("1.0 MiB are free") != std::string::npos);
  }
}

TEST_CASE("a plan says that a device can't hold the run") {
  CHECK(make_plan(one_window(), Backends(with_free(std::int64_t{1} << 40))).device_shortage.empty());
  const Plan plan = make_plan(one_window(), Backends(with_free(1 << 20)));
  CHECK(plan.device_shortage.starts_with("model tiny-softmax: at least "));
}

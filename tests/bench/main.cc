// qfid_bench: Google Benchmark's options, and --smoke (every benchmark once, at its smallest size). Threads:
// OMP_NUM_THREADS. Exit code 1 when a check failed, 2 when the options are wrong or match nothing.
#include <algorithm>
#include <cstdio>
#include <string_view>

#include "kernels/registry/registry.h"
#include "tests/bench/bench.h"

namespace {

void describe_machine() {
  for (const std::string& name : qfid::bench::backends()) {
    const qfid::kernels::BackendInfo info = qfid::kernels::make_backend(name)->info();
    benchmark::AddCustomContext(name + "_isa", info.isa);
    benchmark::AddCustomContext(name + "_threads", std::to_string(info.threads));
    for (const auto& [library, version] : info.libraries) benchmark::AddCustomContext(library, version);
  }
  const auto cpu = qfid::kernels::make_backend("cpu");
  if (const auto here = cpu->available(); !here) benchmark::AddCustomContext("cpu_backend", "absent: " + here.reason);
}

}  // namespace

int main(int argc, char** argv) {
  char** const end = std::remove_if(argv + 1, argv + argc, [](const char* a) { return std::string_view(a) == "--smoke"; });
  const qfid::bench::Registry registry(end != argv + argc);
  argc = static_cast<int>(end - argv);
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  describe_machine();
  qfid::bench::register_codecs(registry);
  qfid::bench::register_quantizers(registry);
  qfid::bench::register_distortion(registry);
  qfid::bench::register_linears(registry);
  qfid::bench::register_attention(registry);
  const std::size_t ran = benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  if (ran == 0) std::fputs("qfid_bench: no benchmark matches the filter\n", stderr);
  return qfid::bench::any_failed() ? 1 : ran == 0 ? 2 : 0;
}

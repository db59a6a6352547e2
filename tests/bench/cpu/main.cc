// Google Benchmark's options. Threads: OMP_NUM_THREADS. Exit code 2 when the options are wrong or match nothing.
#include "kernels/cpu/cpu_backend.h"
#include "tests/bench/cpu/cpu_bench.h"

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::AddCustomContext("cpu_isa", qfid::kernels::cpu::effective_isa().name);
  qfid::bench::register_blocks();
  qfid::bench::register_graphs();
  const std::size_t ran = benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return qfid::bench::any_failed() ? 1 : ran == 0 ? 2 : 0;
}

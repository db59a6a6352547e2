// results.json, and what reports make of it; or a saved baseline.
#include "eval/experiment/record_reader.h"
#include "eval/experiment/saved_baseline.h"
#include "eval/report/report.h"
#include "tests/fuzz/fuzz.h"

using namespace qfid;

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto [reader, content] = tests::choice_of(tests::text_of(data, size), 6);
  const quant::FileContent file("f", content);
  tests::refuses_with(quant::ErrorKind::input, [&] {
    if (reader == 5) {
      eval::read_baseline(file);
      return;
    }
    const eval::ExperimentRecord record = eval::read_whole_record(file);
    if (reader == 0) eval::console_report(record, 80);
    if (reader == 1) eval::markdown_report(record);
    if (reader == 2) eval::html_report(record);
    if (reader == 3) eval::results_json(record);
    if (reader == 4) {
      eval::pull_request_markdown(record);
      eval::openmetrics_text(record);
      eval::lm_eval_files(record);
      eval::metrics_csv(record);
      eval::layers_csv(record);
    }
  });
  return 0;
}

// Several models side by side: who is in the table, and that one model alone has none.
#include <catch2/catch_test_macros.hpp>

#include "eval/report/report.h"
#include "tests/eval/report/records.h"

using namespace qfid::eval;
using namespace qfid::tests;

TEST_CASE("models side by side under each target they share") {
  ExperimentRecord record = record_with({"int8", "fp8"});
  CHECK(markdown_variants(record).empty());
  CHECK(html_report(record).find("Models side by side") == std::string::npos);
  ModelRecord other = record.models[0];
  other.name = "gated|one";
  other.variant = "gate value->output";
  const std::vector<RunRecord> first = record.runs;
  record.models.push_back(other);
  for (RunRecord run : first) {
    if (run.target == "fp8") continue;  // runs under the first model alone
    run.model = other.name;
    record.runs.push_back(std::move(run));
  }
  const std::string text = markdown_variants(record);
  CHECK(text.find("### int8\n") != std::string::npos);
  CHECK(text.find("### fp8\n") == std::string::npos);
  CHECK(text.find("### baseline\n") == std::string::npos);
  CHECK(text.find("| gated\\|one | gate value->output |") != std::string::npos);
  CHECK(text.find("says nothing about the variants of attention themselves") != std::string::npos);
  CHECK(markdown_report(record).find(text) != std::string::npos);
  const std::string page = html_report(record);
  CHECK(page.find("id=\"variants\"") != std::string::npos);
  CHECK(page.find("Under int8") != std::string::npos);
}

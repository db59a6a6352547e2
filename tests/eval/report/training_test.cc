// Measures over training steps in every report, and the rule that says what was reproduced; other sections show the last
// checkpoint.
#include <catch2/catch_test_macros.hpp>
#include <format>
#include <pugixml.hpp>

#include "eval/experiment/record_reader.h"
#include "eval/experiment/seed_claims.h"
#include "eval/experiment/training_claims.h"
#include "eval/report/report.h"
#include "tests/eval/report/records.h"
#include "tests/support/temporary_directory.h"

using namespace qfid::eval;
using namespace qfid::tests;

namespace {

struct Point {
  double excess, attention, drain;
  std::optional<Interval> around{};  ///< of the attention
};

/// A training whose checkpoints show these points, at steps 0, 10, 100, ...; int8 attends a quarter less.
void add_training(ExperimentRecord& all, const std::string& group, const std::vector<Point>& points) {
  int step = 0;
  for (const Point& point : points) {
    ExperimentRecord one = record_with({"int8"}, 1, 1, std::format("{}-{}", group, step));
    one.models[0].group = group;
    one.models[0].seed = 0;
    one.models[0].step = step;
    for (RunRecord& run : one.runs) {
      const double share = run.target == "int8" ? 0.75 : 1;
      run.metrics.push_back({"backcopy.excess_risk.bigram", point.excess, {}, "nats", ""});
      run.metrics.push_back({"backcopy.attention_to_first.bigram", share * point.attention, point.around, "share", ""});
      run.metrics.push_back({"backcopy.value_norm.ratio", point.drain, {}, "ratio", ""});
      all.runs.push_back(run);
    }
    one.interventions.push_back({one.models[0].name, "baseline", "zero_v_0"});
    one.interventions[0].metrics.push_back({"nll.difference", 0.25, {}, "nats", ""});
    all.interventions.push_back(one.interventions[0]);
    all.models.push_back(one.models[0]);
    step = step == 0 ? 10 : 10 * step;
  }
}

ExperimentRecord two_trainings() {
  ExperimentRecord all = record_with({"int8"});
  all.models.clear();
  all.runs.clear();
  add_training(all, "plain", {{2, .1, 1}, {.009, .9, .5}, {.5, .85, .05}, {.005, .95, .02}});
  add_training(all, "gated", {{2, .1, 1}, {.5, .1, 1}, {.2, .1, 1}, {.009, .81, 1.1, Interval{.79, .83}}});
  return all;
}

bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

std::size_t times(const std::string& text, const std::string& part) {
  std::size_t n = 0;
  for (std::size_t at = 0; (at = text.find(part, at)) != std::string::npos; at += part.size()) ++n;
  return n;
}

}  // namespace

TEST_CASE("a bound is kept from the step after which no checkpoint leaves it", "[training]") {
  const ExperimentRecord record = two_trainings();
  const std::vector<Training> all = trainings(record);
  REQUIRE(all.size() == 2);
  const auto plain = training_claims(record, all[0], "baseline"), gated = training_claims(record, all[1], "baseline");
  CHECK(plain[0].verdict == TrainingVerdict::reproduced);
  CHECK(plain[0].since == 1000);  // below the bound at 10 already, but not at 100
  CHECK(plain[1].verdict == TrainingVerdict::unknown);
  CHECK(plain[2].since == 10);
  CHECK(plain[3].since == 100);
  CHECK(gated[2].verdict == TrainingVerdict::undecided);  // .79 .. .83 holds .8
  CHECK(gated[3].verdict == TrainingVerdict::not_reproduced);
  CHECK(!gated[3].since);
  CHECK(training_claims(record, all[0], "int8")[2].verdict == TrainingVerdict::not_reproduced);  // .7125
}

TEST_CASE("what was reproduced is said in words in every report", "[training]") {
  const ExperimentRecord record = two_trainings();
  const std::string html = html_report(record), markdown = markdown_report(record), console = console_report(record, 400);
  for (const std::string& text : {html, markdown, console}) {
    CAPTURE(text);
    CHECK(has(text, "The value is drained from step 100 on, the attention there from step 10 on."));
    CHECK(has(text, "Under int8 otherwise: attention to "));
    CHECK(has(text, "0.7125: no."));
    CHECK(has(text, "Undecided: attention to "));
  }
  CHECK(has(html, "<td>0.0050: yes, from step 1000</td>"));
  CHECK(has(html, "<td>1.1000: no</td>"));
  CHECK(has(markdown, "| gated | full precision | 0.0090: yes, from step 1000 | - | 0.8100: undecided |"));
}

TEST_CASE("curves over steps: a line a training, a chart a precision, interventions too", "[training]") {
  const std::string html = html_report(two_trainings());
  pugi::xml_document page;
  REQUIRE(page.load_string(html.c_str(), pugi::parse_default | pugi::parse_doctype));
  const pugi::xml_node section = page.select_node("//section[@id='training']").node();
  REQUIRE(section);
  const auto titled = [&](const std::string& title) {
    return section.select_node(("descendant::svg[title='" + title + "']").c_str()).node();
  };
  const pugi::xml_node chart = titled("Excess risk, bigram part, full precision");
  REQUIRE(chart);
  CHECK(chart.select_nodes("path[starts-with(@class,'line')]").size() == 2);
  CHECK(std::string(chart.child_value("desc")) ==
        "plain: 2 at step 0, 0.005 at step 1000; gated: 2 at step 0, 0.009 at step 1000");
  CHECK(titled("Excess risk, bigram part, int8"));
  CHECK(titled("NLL once the value of position 0 is 0, less the NLL without, full precision"));
  CHECK(!titled("Excess risk, copy part, full precision"));  // nobody measured it
  // 0, 10, 100, 1000 are three equal steps: what is less than 10 lies at its third.
  std::vector<std::pair<std::string, double>> ticks;
  for (const pugi::xpath_node tick : chart.select_nodes("text[@class='tick center' or @class='tick end']"))
    ticks.emplace_back(tick.node().child_value(), tick.node().attribute("x").as_double());
  REQUIRE(ticks.size() == 4);
  CHECK(ticks[0].first == "0");
  CHECK(ticks[3].first == "1000");
  CHECK(std::abs((ticks[3].second - ticks[2].second) - (ticks[2].second - ticks[1].second)) < 0.1);
  CHECK(ticks[1].second > ticks[0].second);
}

TEST_CASE("other sections show the last checkpoint alone; records keep all", "[training]") {
  const ExperimentRecord record = two_trainings();
  const std::string html = html_report(record);
  CHECK(!has(html, "plain-10,"));
  CHECK(has(html, "plain-1000"));
  CHECK(!has(markdown_report(record), "## plain-10 "));
  CHECK(has(markdown_report(record), "## plain-1000 "));
  CHECK(times(results_json(record), "\"step\": ") == 8);
  CHECK(!seed_claims(record));  // checkpoints of one training are no seeds
  const TemporaryDirectory directory;
  const ExperimentRecord read = read_whole_record(directory.write("results.json", results_json(record)));
  CHECK(read.models[1].step == 10);
  CHECK(markdown_training(read) == markdown_training(record));
  ExperimentRecord plain = record_with({"int8"});
  CHECK(!has(html_report(plain), "id=\"training\""));
  CHECK(console_training(plain).empty());
  CHECK(markdown_training(plain).empty());
}

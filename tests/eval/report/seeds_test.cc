// The table over training seeds in every report: numbers by hand, both kinds of answers in words, nothing without seeds.
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <format>
#include <pugixml.hpp>

#include "eval/report/report.h"
#include "tests/eval/report/records.h"

using namespace qfid::eval;
using namespace qfid::tests;

namespace {

/// Five seeds of two groups: under int8 the second group's ratio is e^.1 below the first's, its perplexity the same on
/// average.
ExperimentRecord seeded(int seeds, const std::string& second = "gated") {
  ExperimentRecord all = record_with({"int8"});
  all.models.clear();
  all.runs.clear();
  for (const std::string& group : {std::string("plain"), second})
    for (int seed = 0; seed < seeds; ++seed) {
      ExperimentRecord one = record_with({"int8"}, 1, 1, std::format("m{}{}", all.models.size(), seed));
      one.models[0].group = group;
      one.models[0].seed = seed;
      const bool first = group == "plain";
      const double wobble = 0.01 * (seed - 2) * (first ? 0 : 1);
      one.runs[0].metrics = {{"perplexity", 20 * std::exp(wobble), {}, "", ""}};
      one.runs[1].metrics = {{"perplexity.ratio", std::exp((first ? 0.2 : 0.1) + wobble), {}, "ratio", ""}};
      all.models.push_back(one.models[0]);
      all.runs.insert(all.runs.end(), one.runs.begin(), one.runs.end());
    }
  return all;
}

}  // namespace

TEST_CASE("claims over seeds are in the console, Markdown and HTML", "[seeds]") {
  const ExperimentRecord record = seeded(5);
  // differences -.1 + .01 (-2 .. 2): SD .0158, t(.975, 4) = 2.7764: -.1 +- .01963
  const std::string lower = "lower than plain: \xC3\x97 0.9048 (0.8872 .. 0.9228)",
                    same = "not told apart from plain: \xC3\x97 1 (0.9806 .. 1.02)";
  const std::string markdown = markdown_seeds(record), html = html_report(record);
  for (const std::string& text : {console_seeds(record, 200), markdown, html}) {
    CAPTURE(text);
    CHECK(text.find(lower) != std::string::npos);
    CHECK(text.find(same) != std::string::npos);
  }
  CHECK(markdown.find("| int8 | perplexity.ratio | plain | 5 | 1.2214 | 0 |") != std::string::npos);
  CHECK(html.find("<section id=\"seeds\"") != std::string::npos);
  CHECK(html.find("<h3>int8, perplexity.ratio</h3>") != std::string::npos);
  CHECK(console_report(record, 200).find(lower) != std::string::npos);
  CHECK(markdown_report(record).find(lower) != std::string::npos);
}

TEST_CASE("too few seeds say so, and nothing is said without any", "[seeds]") {
  CHECK(markdown_seeds(seeded(4)).find("inconclusive: needs 5 seeds or more in common with plain, has 4") !=
        std::string::npos);
  const ExperimentRecord none = record_with({"int8"});
  CHECK(console_seeds(none).empty());
  CHECK(markdown_seeds(none).empty());
  CHECK(html_report(none).find("id=\"seeds\"") == std::string::npos);
}

TEST_CASE("a group's name stays text", "[seeds]") {
  const ExperimentRecord record = seeded(5, "<b>|x");
  CHECK(html_report(record).find("<b>|x") == std::string::npos);
  CHECK(markdown_seeds(record).find("| <b>|x |") == std::string::npos);
  pugi::xml_document page;
  CHECK(page.load_string(html_report(record).c_str(), pugi::parse_default | pugi::parse_doctype));
}

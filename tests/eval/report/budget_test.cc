// Error budgets in every form: the same shares everywhere, bars where numbers say.
#include <catch2/catch_test_macros.hpp>
#include <pugixml.hpp>
#include <sstream>

#include "eval/report/chart.h"
#include "tests/eval/report/records.h"

using namespace qfid::eval;
using namespace qfid::tests;

namespace {

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST_CASE("a budget on the console: the largest part first, sums and what they say, at most 80 columns", "[budget]") {
  ExperimentRecord r = record_with({"int8"});
  const std::string text = console_report(r);
  const std::size_t k = text.find("    k  "), v = text.find("    v  ");
  REQUIRE(k != std::string::npos);
  CHECK(k < v);
  CHECK(contains(text, "50.0 % (50.0 .. 50.0) |      75.0 % (75.0 .. 75.0)"));
  CHECK(contains(text, "  int8: KL 0.0100 nats on 16 windows\n"));
  CHECK(contains(text, "together they do more than one by one"));
  CHECK(contains(text, "largest layer: layers.0, 50.0 %"));
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) CHECK(line.size() <= 80);
  r.budgets.clear();
  CHECK_FALSE(contains(console_report(r), "Where the KL comes from"));
}

TEST_CASE("a budget in Markdown, CSV and OpenMetrics", "[budget]") {
  const ExperimentRecord r = record_with({"int8"});
  CHECK(contains(markdown_report(r), "| v | 33.3 % (33.3 .. 33.3) | 25.0 % (25.0 .. 25.0) |\n"));
  CHECK(contains(markdown_report(r), "| *sum of the layers* | 100.0 % (100.0 .. 100.0) |"));
  CHECK(contains(metrics_csv(r), "m,int8,budget.alone.k,0.5,"));
  CHECK(contains(metrics_csv(r), "m,int8,budget.layers.without,1,"));
  CHECK(contains(openmetrics_text(r), "qfid_budget_alone_share{model=\"m\",target=\"int8\",part=\"k\"} 0.5\n"));
  CHECK(contains(html_report(r), "<section id=\"budget\""));
}

TEST_CASE("names of parts stay text in Markdown", "[budget]") {
  ExperimentRecord r = record_with({"int8"});
  r.budgets[0].parts.entries[0].name = "v | <b>x\n";
  r.budgets[0].layers.entries[0].name = "[layers](http://x)";
  const std::string text = markdown_report(r);
  CHECK(contains(text, "| v \\| \\<b>x  | 33.3 % (33.3 .. 33.3) |"));
  CHECK(contains(text, "| \\[layers](http://x) | 50.0 % (50.0 .. 50.0) |"));
}

TEST_CASE("a share's bar starts at 0 and ends at its value; an empty chart isn't drawn", "[chart]") {
  Html page;
  add_share_chart(page, {"t", "d", "x", {}});
  CHECK(page.str().empty());
  add_share_chart(page, {"t", "d", "x", {{"q", {1.0, std::pair{0.5, 1.0}}, {-1.0, std::nullopt}}}});
  pugi::xml_document xml;
  REQUIRE(xml.load_string(page.str().c_str()));
  const auto path = [&](const std::string& name) {
    return std::string(xml.select_node(("//path[@class='" + name + "']").c_str()).node().attribute("d").value());
  };
  // -1 is drawn at 92, 1 at 560; the row's middle is 13.
  CHECK(path("area") == "M326 7H560v12H326z");
  CHECK(path("range") == "M443 13H560");
  CHECK(path("mark c1").starts_with("M92 15"));
  CHECK(contains(page.str(), "100.0 %, -100.0 %"));
}

// Charts: where points, cells and labels are, from numbers worked out by hand.
#include "eval/report/chart.h"

#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <pugixml.hpp>

using namespace qfid::eval;

namespace {

std::size_t count(const std::string& text, const std::string& part) {
  std::size_t n = 0;
  for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++n;
  return n;
}

}  // namespace

TEST_CASE("ticks are round numbers within the range", "[chart]") {
  CHECK(linear_ticks(0, 1, 5) == std::vector<double>{0, 0.2, 0.4, 0.6000000000000001, 0.8, 1});
  CHECK(linear_ticks(3, 3, 5).empty());
  CHECK(linear_ticks(0, INFINITY, 5).empty());
  for (const double tick : linear_ticks(-7, 93, 4)) CHECK((tick >= -7 && tick <= 93 && std::fmod(tick, 10) == 0));
  CHECK(tick_text(0) == "0");
  CHECK(tick_text(0.01) == "0.01");
  CHECK(tick_text(1e-7) == "1e-7");
  CHECK(tick_text(2e6) == "2e6");
  CHECK(tick_text(1e-12) == "1e-12");
}

TEST_CASE("a picture is pale where there is next to nothing and blank where there can't be anything", "[chart]") {
  Html page;
  add_heat_map(page, {"m", "d", 2, 3, {0.0, {}, {}, -INFINITY, 0.0, {}}}, {-3, 0, true, true, "", true});
  CHECK(count(page.str(), "class=\"back\" d=\"M0 0H5v5H0zM0 5H10v5H0z\"") == 1);  // cells of 5: one, then two
  CHECK(count(page.str(), "class=\"h8\" d=\"M0 0h5v5h-5zM5 5h5v5h-5z\"") == 1);   // the empty one isn't drawn
}

TEST_CASE("a chart under a heading of its own has no second title, but keeps it for those who don't see it", "[chart]") {
  LineChart chart{"t", "d", "y", false, {{"s", {0}, {{0, 1.0}, {1, 2.0}}}}, {}};
  for (const std::string caption : {"", "model"}) {
    chart.caption = caption;
    Html page;
    add_line_chart(page, chart);
    CHECK(count(page.str(), "<figcaption>") == (caption.empty() ? 0 : 1));
    CHECK(count(page.str(), "<title>t</title>") == 1);
  }
}

TEST_CASE("a line goes through its points, on a logarithmic axis by decades", "[chart]") {
  Html page;
  add_line_chart(page, {"t", "d", "y", true, {{"s", {0}, {{0, 1.0}, {1, 10.0}, {2, 100.0}}}}, {}});
  pugi::xml_document document;
  REQUIRE(document.load_string(page.str().c_str()));
  const pugi::xml_node line = document.select_node("//path[@class='line c0']").node();
  double x[3], y[3];
  REQUIRE(std::sscanf(line.attribute("d").value(), "M%lf %lfL%lf %lfL%lf %lf", x, y, x + 1, y + 1, x + 2, y + 2) == 6);
  CHECK(std::fabs((x[1] - x[0]) - (x[2] - x[1])) < 0.03);  // coordinates have two digits
  CHECK(std::fabs((y[1] - y[0]) - (y[2] - y[1])) < 0.03);
  CHECK(y[2] < y[0]);
  CHECK(std::string(document.select_node("//text[@class='label mid']").node().text().get()) == "s");
}

TEST_CASE("labels at lines' ends don't overlap; a chart without a point isn't drawn", "[chart]") {
  LineChart chart{"t", "d", "y", false, {}, {}};
  for (int i = 0; i < 30; ++i) chart.series.push_back({"s", {i}, {{0, 1.0}, {1, 1.0}}});
  Html page;
  add_line_chart(page, chart);
  pugi::xml_document document;
  REQUIRE(document.load_string(page.str().c_str()));
  std::vector<double> heights;
  for (const auto& label : document.select_nodes("//text[@class='label mid']"))
    heights.push_back(label.node().attribute("y").as_double());
  REQUIRE(heights.size() == 30);
  std::sort(heights.begin(), heights.end());
  for (std::size_t i = 1; i < heights.size(); ++i) CHECK(heights[i] - heights[i - 1] >= 12.9);
  double box[4];
  REQUIRE(std::sscanf(document.select_node("//svg").node().attribute("viewBox").value(), "%lf %lf %lf %lf", box, box + 1,
                      box + 2, box + 3) == 4);
  CHECK(heights.front() > 0);
  CHECK(heights.back() < box[3]);
  Html none;
  add_line_chart(none, {"t", "d", "y", true, {{"s", {0}, {{0, 0.0}}}}, {}});
  add_line_chart(none, {"t", "d", "y", true, {}, {}});
  CHECK(none.str().empty());
}

TEST_CASE("cells have the class of their damage and say their number; the worst is framed", "[chart]") {
  HeatMap map{"t", "d", 2, 2, {10.0, 40.0, std::nullopt, INFINITY}};
  Html page;
  add_heat_maps(page, {map}, {10, 46, false, false, "dB"});
  const std::string& text = page.str();
  CHECK(count(text, "<path class=\"h8\" d=\"M30 18h") == 1);  // 10 dB, layer 0, head 0: worst
  CHECK(count(text, "<path class=\"h1\" d=\"M76 18h") == 1);  // 40 dB: class 1 of 9, four dB each
  CHECK(count(text, "<path class=\"h0\" d=\"M76 37h") == 1);  // exact
  CHECK(count(text, "<path class=\"worst\" d=\"M30 18h") == 1);
  CHECK(count(text, ">10.0</text>") == 1);
  CHECK(count(text, ">exact</text>") == 1);
  CHECK(count(text, "class=\"cell ") == 3);
  Html large;
  HeatMap wide{"t", "d", 1, 100, std::vector<std::optional<double>>(100, 1.0)};
  add_heat_maps(large, {wide}, {0, 2, true, false, ""});
  CHECK(count(large.str(), "class=\"cell ") == 0);
  CHECK(count(large.str(), "<path class=\"h4\"") == 2);  // all cells in one path, and the legend's
}

TEST_CASE("a forest row: interval, point, bounds; what is beyond the axis is an arrow with its number", "[chart]") {
  const ForestAxis axis{std::exp(-1), std::exp(1), 1};
  Html page;
  add_forest_row(page, axis, {"d", 1, std::pair{std::exp(-0.5), std::exp(0.5)}, {std::exp(0.5)}, {}});
  CHECK(count(page.str(), "class=\"point\" cx=\"140\"") == 1);
  CHECK(count(page.str(), "d=\"M75 17H205") == 1);
  CHECK(count(page.str(), "class=\"bound\" d=\"M205 0V34\"") == 1);
  Html beyond;
  add_forest_row(beyond, axis, {"d", 50, std::pair{40.0, 60.0}, {}, {}});
  CHECK(count(beyond.str(), "<circle") == 0);
  CHECK(count(beyond.str(), "\xC3\x97 50</text>") == 1);
}
